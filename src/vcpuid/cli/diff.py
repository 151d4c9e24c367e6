"""vcpuid diff: a guest's CPU beside its host's."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, domain_options, unrefused
from vcpuid.cli.output import Sheet, cell, emit, format_option
from vcpuid.cli.recording import recording_option
from vcpuid.cli.setup import STACK, Asked, has_no_effect, print_warnings, read_host, stack_options, typed
from vcpuid.cli.tables import kind
from vcpuid.cli.vmm import AskedGuest, observed_guest
from vcpuid.cpuid.parts import pick

if TYPE_CHECKING:
    from vcpuid.answers.compare import Difference, Sides
    from vcpuid.answers.compare_report import Counts
    from vcpuid.cpuid import CpuidTable, Snapshot
    from vcpuid.decode import FieldChange

D = TypeVar("D", "Difference", "FieldChange")
COLUMNS = ["what", "host", "guest", "party", "why"]


@click.command(name="diff")
@click.argument("host_source", metavar="[HOST]", required=False, shell_complete=choices.hosts)
@click.argument("guest_source", metavar="[GUEST]", required=False, shell_complete=choices.hosts)
@click.option(
    "--cpu", default="host", metavar="CPU", shell_complete=choices.cpus,
    help="The guest's CPU, as QEMU's -cpu takes it.  [default: guessed from GUEST]",
)  # fmt: skip
@domain_options
@recording_option
@click.option(
    "--by", type=click.Choice(["feature", "field", "register"]), default="feature", show_default=True, help="What a line is about."
)
@click.option(
    "--ignore", multiple=True, metavar="WHAT", shell_complete=choices.ignored,
    help="Leave out a leaf (b), sub-leaf (1.0), register (1.0.ebx), its bits (1.0.ebx.31:24), a field or a feature; may be repeated. "
    "`cpu` is what differs among CPUs of one machine (APIC ids and the like), `none` nothing.  [default: cpu]",
)  # fmt: skip
@click.option("--flags", is_flag=True, help="Compare what /proc/cpuinfo shows on both sides: flags, bugs and VMX flags.")
@click.option(
    "--guest-kernel", metavar="RELEASE", shell_complete=choices.kernels,
    help="The guest's kernel, for --flags.  [default: the guest's, else the host's]",
)  # fmt: skip
@stack_options()
@format_option
def command(
    host_source: str | None,
    guest_source: str | None,
    cpu: AskedCpu,
    recording: str | None,
    by: str,
    ignore: tuple[str, ...],
    flags: bool,
    guest_kernel: str | None,
    asked: Asked,
    form: str,
) -> None:
    """Show what a guest's CPU has that its host's has not, and the reverse, each with the party that caused it.

    GUEST is a snapshot taken in the guest; without one, it is what the path makes of --cpu, or of the table that a --recording shows, which
    tells of the host as well where HOST is not given. A difference that the path does not lead to
    is of party "unknown", and what one side does not tell "not told". With --by field, HOST and GUEST may be any two dumps: what differs
    is told with its meaning, and no party is asked for. The last line counts what differs, what is the same, what is not told, and what
    --ignore leaves out.

    Exit status 0 where all else is told and the same, 1 where something is not, or libvirt refuses a domain.
    """
    from vcpuid import decode
    from vcpuid.answers import compare
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.compare_flags import by_flag, guest_setup, shown_flags
    from vcpuid.answers.ordered import judged
    from vcpuid.answers.survey import cpuid_features
    from vcpuid.path.pipeline import guest_snapshot
    from vcpuid.vmm.known import named as named_vmm

    named = bool(typed("--cpu", "--domain"))
    if recording is not None and named:
        raise click.UsageError(f"--recording is of a guest as it was; {typed('--cpu', '--domain')[0]} asks for another")
    if host_source is None and recording is None:
        raise click.UsageError("give HOST, or a --recording that tells of it")
    if guest_source is None and not named and recording is None:
        raise click.UsageError("give GUEST, --cpu, --domain or --recording")
    if flags and ignore:
        raise click.UsageError("--ignore is not for --flags")
    if not flags:
        has_no_effect("it is for --flags", "--guest-kernel")
    made = AskedGuest(named_vmm(), cpu) if recording is None else observed_guest(recording)
    host = made.host(host_source)
    where = host_source or recording or ""
    guest = None if guest_source is None else read_host(guest_source).snapshot
    ignore, refused = () if flags else ignore or (decode.CPU,), False
    if by == "field" and not flags:
        if guest is not None:
            has_no_effect(
                "with --by field two dumps are held against each other, and no party is asked for", *STACK, "--cpu", "--domain", "--libvirt"
            )
            other = guest
        else:
            argument, setup = made.on(host, asked)
            path = followed(argument, host=setup, vmm=made.vmm)
            print_warnings(path.remarks)
            other = guest_snapshot(path)
        sheet = _fields((host.snapshot, pick(host.snapshot, None, where)), (other, pick(other, None, guest_source)), ignore)
    else:
        argument, setup, order = made.ordered(host, asked)
        both = compare.sides(setup, guest, argument if named or recording is not None else None, vmm=made.vmm, order=order)
        both = both if order is None else replace(both, order=judged(order, both.path))
        print_warnings(unrefused(both.path.remarks, order, form))
        if flags:
            print_warnings(remark for remark in guest_setup(both, guest_kernel).remarks if remark not in both.path.remarks)
            found, by = by_flag(both, guest_kernel), "flag"
            compared = len(shown_flags(both, guest_kernel) | {(difference.place, difference.what) for difference in found})
        elif by == "register":
            found, compared = compare.by_register(both), len(compare.registers(both))
        else:
            found, compared = compare.by_feature(both), len(cpuid_features())
        sheet = _differences(both, by, found, compared, ignore)
        refused = order is not None and order.refusal is not None
    emit(sheet, form)
    sys.exit(1 if sheet.rows or refused else 0)


def _counted(found: list[D], ignore: tuple[str, ...], tables: list[CpuidTable]) -> list[D]:
    """Give the differences that --ignore does not leave out."""
    from vcpuid.decode import Ignored

    ignored = Ignored(ignore, tables)
    return [difference for difference in found if difference.word is None or ignored.counts(difference.word, difference.mask)]


def _foot(what: str, counts: Counts, ignore: tuple[str, ...]) -> list[str]:
    """Say how many differ, are the same and are not told, and how many more are left out."""
    told = [f"The {what} are the same"]
    if counts.differ or counts.not_told:
        differ = f"{counts.differ} {what} differ" if counts.differ else f"No {what} are known to differ"
        told = [differ, f"{counts.same} are the same"]
    told += [f"{counts.not_told} {'is' if counts.not_told == 1 else 'are'} not told"] if counts.not_told else []
    told += [f"{counts.left_out} left out ({' '.join(f'--ignore {text}' for text in ignore)})"] if counts.left_out else []
    return ["", f"{', '.join(told)}."]


def _fields(
    host: tuple[Snapshot, tuple[str, CpuidTable]], guest: tuple[Snapshot, tuple[str, CpuidTable]], ignore: tuple[str, ...]
) -> Sheet:
    """Lay out the fields in which two tables differ, each given with its snapshot and the name of its kind."""
    from vcpuid import decode
    from vcpuid.answers.compare_report import Counts, fields_report
    from vcpuid.decode.diff import same
    from vcpuid.told.completions import tells

    (whole, (mine, one)), (part, (theirs, other)) = host, guest

    def spell(change: FieldChange, value: int | None, of: Snapshot, kind: str) -> str:
        return "not told" if value is None and kind == "raw" and not tells(of, change.word) else change.spell(value)

    found = decode.diff(one, other, ignore=())
    kept = _counted(found, ignore, [one, other])
    rows: list[dict[str, object]] = [
        {
            "place": change.place,
            "field": change.field.name,
            "host": spell(change, change.before, whole, mine),
            "guest": spell(change, change.after, part, theirs),
            "meaning": change.field.description,
        }
        for change in kept
    ]
    counts = Counts.of(("not told" in (row["host"], row["guest"]) for row in rows), len(found), same(one, other))
    return Sheet(
        ["place", "field", "host", "guest", "meaning"],
        rows,
        data=fields_report((mine, theirs), kept, ignore, counts),
        records=[change.as_dict() for change in kept],
        fields=["function", "index", "register", "bits", "name", "host", "guest", "description"],
        head=[*kind(mine, "host"), *kind(theirs, "guest")],
        foot=_foot("fields", counts, ignore),
        styles={"field": "bold"},
    )


def _differences(both: Sides, by: str, found: list[Difference], compared: int, ignore: tuple[str, ...]) -> Sheet:
    """Lay out in what guest and host differ, of as many things as were compared, and who caused it."""
    from vcpuid.answers.compare import NOT_TOLD
    from vcpuid.answers.compare_report import Counts, report

    kept = _counted(found, ignore, [both.path.host.raw, both.guest.raw])
    counts = Counts.of((difference.party == NOT_TOLD for difference in kept), len(found), compared - len(found))
    rows = [difference.as_dict() for difference in kept]
    return Sheet(
        COLUMNS,
        rows,
        data=report(both, by, kept, ignore, counts),
        fields=[*COLUMNS, "place", "rules"],
        lines=[" ".join(map(cell, (row[column] for column in COLUMNS[:4]))) for row in rows],
        head=[*([] if both.order is None else both.order.head()), both.path.headline(" (guessed)" if both.guessed else ""), ""],
        foot=_foot(f"{by}s", counts, ignore),
        styles={"what": "bold"},
    )
