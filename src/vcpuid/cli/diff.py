"""vcpuid diff: a guest's CPU beside its host's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vcpuid.cli import choices
from vcpuid.cli.demands import demand
from vcpuid.cli.domain import AskedCpu, domain_options, unrefused
from vcpuid.cli.examples import lacking
from vcpuid.cli.output import Sheet, all_option, cell, emit, format_option
from vcpuid.cli.recording import recording_option
from vcpuid.cli.setup import STACK, Asked, has_no_effect, print_warnings, read_host, stack_options, typed
from vcpuid.cli.short import Cut, answered, so_many, some
from vcpuid.cli.tables import kind
from vcpuid.cli.vmm import AskedGuest, observed_guest
from vcpuid.cpuid.parts import pick

if TYPE_CHECKING:
    from vcpuid.answers.compare import Difference, Sides
    from vcpuid.answers.compare_hosts import Hosts
    from vcpuid.answers.compare_report import Counts
    from vcpuid.cpuid import CpuidTable, Snapshot
    from vcpuid.decode import FieldChange

D = TypeVar("D", "Difference", "FieldChange")
HOSTS_SAID = "as --hosts says"
_TWO = {"host": "A", "guest": "B"}
"""What people read above the columns where two hosts are compared."""
COLUMNS = ["what", "host", "guest", "party", "why"]
_COUNTED = {
    "feature": "the features of CPUID that Linux or QEMU names, on or off; --flags counts what /proc/cpuinfo shows",
    "flag": "the flags, bugs and VMX flags that either side's /proc/cpuinfo shows; without --flags, the features of CPUID",
    "register": "the registers of CPUID that either side has",
    "field": "the fields of CPUID that either side has",
}
"""What the first line has the numbers of, by what is compared."""


def _two_cpus(params: Mapping[str, Any]) -> None:
    named, recording, guest = typed("--cpu", "--domain"), params["recording"], params["guest_source"]
    if recording is not None and (in_vain := typed("--cpu", "--domain", "--libvirt")):
        raise click.UsageError(f"--recording shows a guest as it ran; leave {in_vain[0]} out")
    if params["host_source"] is None and recording is None:
        raise lacking("give HOST, or a --recording with the host's snapshot")
    if guest is None and not named and recording is None:
        raise lacking("give GUEST (a second snapshot), --cpu, --domain or --recording")
    if params["two_hosts"] and (guest is None or named or recording is not None):
        raise click.UsageError("--hosts compares HOST and GUEST: leave --cpu, --domain and --recording out, and give both")
    if params["flags"] and params["ignore"]:
        raise click.UsageError("--ignore is not for --flags")


@click.command(name="diff")
@click.argument("host_source", metavar="[HOST]", required=False, shell_complete=choices.hosts)
@click.argument("guest_source", metavar="[GUEST]", required=False, shell_complete=choices.hosts)
@click.option(
    "--cpu", default="host", metavar="CPU", shell_complete=choices.cpus,
    help="The guest's CPU, as QEMU's -cpu takes it.  [default: guessed from GUEST]",
)  # fmt: skip
@domain_options
@recording_option
@click.option("--by", type=click.Choice(["feature", "field", "register"]), default="feature", show_default=True, help="What to compare.")
@click.option(
    "--ignore", multiple=True, metavar="WHAT", shell_complete=choices.ignored,
    help="Leave out a leaf (b), sub-leaf (1.0), register (1.0.ebx), its bits (1.0.ebx.31:24), a field or a feature; may be repeated. "
    "`cpu` is what differs among CPUs of one machine (APIC ids and the like), `none` nothing.  [default: cpu]",
)  # fmt: skip
@click.option("--hosts", "two_hosts", is_flag=True, help="Compare HOST and GUEST as two hosts, even where GUEST may be a guest.")
@click.option("--flags", is_flag=True, help="Compare what /proc/cpuinfo shows on both sides: flags, bugs and VMX flags.")
@click.option(
    "--guest-kernel", metavar="RELEASE", shell_complete=choices.kernels,
    help="The guest's kernel, for --flags.  [default: the guest's, else the host's]",
)  # fmt: skip
@all_option
@stack_options()
@format_option
@demand(_two_cpus)
def command(
    host_source: str | None,
    guest_source: str | None,
    cpu: AskedCpu,
    recording: str | None,
    by: str,
    ignore: tuple[str, ...],
    two_hosts: bool,
    flags: bool,
    guest_kernel: str | None,
    everything: bool,
    asked: Asked,
    form: str,
) -> None:
    """Compare a guest's CPU with its host's, or two hosts.

    Each difference is shown with the layer that causes it: KVM, QEMU, the vCPU. GUEST is a snapshot taken in the guest; without one, the
    guest is what comes of --cpu, of a --domain, or of the table that a --recording shows, which has the host's snapshot as well where HOST
    is left out. A GUEST that cannot be one of HOST's, since its CPUID has no hypervisor bit, is compared as a second host; so is any with
    --hosts. A difference that HOST does not explain has the layer "unknown", and what one side does not tell is "not told". With --by
    field, HOST and GUEST may be any two dumps: each difference is shown with its meaning, without a layer.

    The table is cut to a screen; --all prints all of it.

    Exit status 0 where all else is told and the same, 1 where something is not, or libvirt refuses a domain.
    """
    from vcpuid import decode
    from vcpuid.answers import compare
    from vcpuid.answers.certainty import followed
    from vcpuid.answers.compare_flags import by_flag, guest_setup, shown_flags
    from vcpuid.answers.compare_hosts import Hosts, no_guest
    from vcpuid.answers.ordered import judged
    from vcpuid.answers.survey import cpuid_features, number
    from vcpuid.path.pipeline import guest_snapshot
    from vcpuid.vmm.known import named as named_vmm

    named = bool(typed("--cpu", "--domain"))
    if not flags:
        has_no_effect("it is for --flags", "--guest-kernel")
    made = AskedGuest(named_vmm(), cpu) if recording is None else observed_guest(recording)
    host = made.host(host_source)
    where = host_source or recording or ""
    guest = None if guest_source is None else read_host(guest_source).snapshot
    why = None if guest is None or named or recording is not None else HOSTS_SAID if two_hosts else no_guest(guest)
    ignore, refused = () if flags else ignore or (decode.CPU,), False
    if by == "field" and not flags:
        if guest is not None:
            has_no_effect("with --by field two dumps are compared, and no layer is asked for", *STACK, "--cpu", "--domain", "--libvirt")
            other = guest
        else:
            argument, setup = made.on(host, asked)
            path = followed(argument, host=setup, vmm=made.vmm)
            print_warnings(path.remarks)
            other = guest_snapshot(path)
        sheet = _fields((host.snapshot, pick(host.snapshot, None, where)), (other, pick(other, None, guest_source)), ignore, why)
    elif guest is not None and why is not None:
        given = ("--qemu", "--machine", "--smp", "--global") if flags else STACK
        has_no_effect("two hosts are compared, and no guest is made", *given, "--libvirt")
        hosts = Hosts.of(asked.setup(host), guest, guest_kernel)
        print_warnings(dict.fromkeys((*hosts.one.remarks, *hosts.other.remarks)))
        sheet = _hosts(hosts, (where, guest_source or ""), "flag" if flags else by, why, ignore)
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
            found, compared = compare.by_feature(both), number(cpuid_features())
        sheet = _differences(both, by, found, compared, ignore)
        refused = order is not None and order.refusal is not None
    if sheet.rows:
        sheet = replace(sheet, foot=[*sheet.foot, "", f"Counted: {_COUNTED['flag' if flags else by]}."])
    emit(sheet if form != "table" else _brief(sheet, everything), form)
    sys.exit(1 if sheet.rows or refused else 0)


_CELLS = 6
"""Rows of registers or fields that are shown: each has a value of its own, so that they are not joined."""


def _brief(sheet: Sheet, everything: bool) -> Sheet:
    """Join the features that have all but the name in common, and cut what is more than a screen."""
    if sheet.columns[0] == "place" or any(isinstance(row["host"] or row["guest"], str) for row in sheet.rows):
        return sheet if everything else replace(sheet, cut=Cut(_CELLS))
    groups: dict[tuple[object, ...], list[str]] = {}
    for row in sheet.rows:
        groups.setdefault(tuple(row[column] for column in sheet.columns[1:]), []).append(str(row["what"]))
    rows: list[dict[str, Any]] = [
        {"what": " ".join(dict.fromkeys(names)) if everything else some(names), **dict(zip(sheet.columns[1:], key, strict=True))}
        for key, names in groups.items()
    ]
    if everything:
        return replace(sheet, rows=rows)
    short = any(row["what"].split()[-1:] == ["more"] for row in rows)
    return replace(sheet, rows=rows, cut=Cut(more="every name" if short else "", weights=[len(set(names)) for names in groups.values()]))


def _counted(found: list[D], ignore: tuple[str, ...], tables: list[CpuidTable]) -> list[D]:
    """Give the differences that --ignore does not leave out."""
    from vcpuid.decode import Ignored

    ignored = Ignored(ignore, tables)
    return [difference for difference in found if difference.word is None or ignored.counts(difference.word, difference.mask)]


def _verdict(
    what: str, counts: Counts, ignore: tuple[str, ...], kept: Sequence[Difference] = (), sides: tuple[str, str] = ("the host", "the guest")
) -> str:  # fmt: skip
    """Say how many differ, are the same and are not told, and how many more are left out."""
    told = [f"The {what}s are the same"]
    if counts.differ or counts.not_told:
        differ = f"{so_many(counts.differ, what)} differ{'s' if counts.differ == 1 else ''}"
        told = [
            differ if counts.differ else f"No {what} is known to differ",
            f"{counts.same} {'is' if counts.same == 1 else 'are'} the same",
        ]
    told += [f"{counts.not_told} {'is' if counts.not_told == 1 else 'are'} not told"] if counts.not_told else []
    told += [f"{counts.left_out} left out ({' '.join(f'--ignore {text}' for text in ignore)})"] if counts.left_out else []
    alone = [len({one.what for one in kept if one.host is has and one.guest is not None}) for has in (True, False)]
    which = f": {alone[0]} only in {sides[0]}, {alone[1]} only in {sides[1]}" if any(alone) else ""
    return f"{', '.join(told)}{which}."


def _fields(
    host: tuple[Snapshot, tuple[str, CpuidTable]], guest: tuple[Snapshot, tuple[str, CpuidTable]], ignore: tuple[str, ...], why: str | None
) -> Sheet:
    """Lay out the fields in which two tables differ, each given with its snapshot and the name of its kind; `why` they are of two hosts."""
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
    open_ = sum("not told" in (row["host"], row["guest"]) for row in rows)
    counts = Counts(len(rows) - open_, same(one, other), open_, len(found) - len(kept))
    return Sheet(
        ["place", "field", "host", "guest", "meaning"],
        rows,
        data=fields_report((mine, theirs), kept, ignore, counts),
        records=[change.as_dict() for change in kept],
        fields=["function", "index", "register", "bits", "name", "host", "guest", "description"],
        head=[_verdict("field", counts, ignore), "", *kind(mine, "host"), *kind(theirs, "guest")],
        titles={} if why is None else _TWO,
        styles={"field": "bold"},
    )


def _differences(both: Sides, by: str, found: list[Difference], compared: int, ignore: tuple[str, ...]) -> Sheet:
    """Lay out in what guest and host differ, of as many things as were compared, and who caused it."""
    from vcpuid.answers.compare_report import Counts, report

    kept = _counted(found, ignore, [both.path.host.raw, both.guest.raw])
    counts = Counts.of(by, found, kept, compared)
    rows = [difference.as_dict() for difference in kept]
    return Sheet(
        COLUMNS,
        rows,
        data=report(both, by, kept, ignore, counts),
        fields=[*COLUMNS, "place", "rules"],
        lines=[" ".join(map(cell, (row[column] for column in COLUMNS[:4]))) for row in rows],
        head=[
            *answered(_verdict(by, counts, ignore, kept), both.order),
            both.path.headline("guessed: " if both.guessed else ""),
            *_doubt(both, kept),
            "",
        ],
        titles={"party": "layer"},
        styles={"what": "bold"},
    )


def _doubt(both: Sides, kept: list[Difference]) -> Iterator[str]:
    """Ask whether the guest is one of this host, where its -cpu is a guess that explains little."""
    from vcpuid.answers.compare import UNKNOWN

    unknown = sum(difference.party == UNKNOWN for difference in kept)
    makers = [machine.vendor for machine in (both.path.host, both.guest)]
    if not both.guessed or not (2 * unknown > len(kept) or makers[0] != makers[1]):
        return
    other = "" if makers[0] == makers[1] else f", and is of another maker ({makers[1]}, not {makers[0]})"
    yield (
        f"HOST would not give GUEST {unknown} of {len(kept)} differences{other}: is GUEST really a guest of HOST? "
        "Give --cpu or --domain, as it was started; or --hosts, to compare two hosts."
    )


def _turned(hosts: Hosts, why: str) -> Iterator[str]:
    """Say how a guest is held against its host where it was given in the host's place."""
    from vcpuid.cpuid import bits

    guest, other = (table.has(bits.HYPERVISOR) for table in hosts.tables)
    if guest and not other and why != HOSTS_SAID:
        yield "A's CPUID has that bit, so A is a guest itself: give B first if it is the host of A."


def _hosts(hosts: Hosts, sources: tuple[str, str], by: str, why: str, ignore: tuple[str, ...]) -> Sheet:
    """Lay out in what two hosts differ."""
    from vcpuid.answers import compare_hosts
    from vcpuid.answers.compare_report import Counts, hosts_report

    if by == "flag":
        found = compare_hosts.by_flag(hosts)
        compared = len(compare_hosts.shown_flags(hosts) | {(difference.place, difference.what) for difference in found})
    elif by == "register":
        found, compared = compare_hosts.by_register(hosts), len(compare_hosts.registers(hosts))
    else:
        found, compared = compare_hosts.by_feature(hosts), compare_hosts.features()
    kept = _counted(found, ignore, list(hosts.tables))
    counts = Counts.of(by, found, kept, compared)
    rows = [difference.as_dict() for difference in kept]
    columns = COLUMNS if by == "flag" or counts.not_told else COLUMNS[:3]
    because = why if why == HOSTS_SAID else f"since {why}; give --cpu or --domain if B is a guest of A"
    return Sheet(
        columns,
        rows,
        data=hosts_report(by, (hosts.one.kernel, hosts.other.kernel), why, kept, ignore, counts),
        records=rows,
        fields=[*COLUMNS, "place", "rules"],
        lines=[" ".join(map(cell, (row[column] for column in COLUMNS[:4]))) for row in rows],
        head=[
            _verdict(by, counts, ignore, kept, ("A", "B")),
            f"Compares two hosts, {because}.",
            *_turned(hosts, why),
            *(f"{name}: {source}" for name, source in zip("AB", sources, strict=True)),
            "",
        ],
        titles={**_TWO, "party": "layer"},
        styles={"what": "bold"},
    )
