"""vcpuid diff: a guest's CPU beside its host's."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from vcpuid.cli import choices
from vcpuid.cli.common import Host, print_warnings, read_host, stack_options
from vcpuid.cli.kvm import table_of
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cpuid import CpuidTable
from vcpuid.path.compare import Difference, Sides
from vcpuid.path.stack import Stack

COLUMNS = ["what", "host", "guest", "party", "why"]


@click.command(name="diff")
@click.argument("host_source", metavar="HOST", shell_complete=choices.hosts)
@click.argument("guest_source", metavar="[GUEST]", required=False, shell_complete=choices.hosts)
@click.option(
    "--cpu", metavar="CPU", shell_complete=choices.cpus, help="The guest's CPU, as QEMU's -cpu takes it.  [default: guessed from GUEST]"
)
@click.option(
    "--by", type=click.Choice(["feature", "field", "register"]), default="feature", show_default=True, help="What a line is about."
)
@click.option("--all", "everything", is_flag=True, help="With --by field, count fields too in which CPUs of one machine differ.")
@click.option("--flags", is_flag=True, help="Compare what /proc/cpuinfo shows on both sides: flags, bugs and VMX flags.")
@click.option(
    "--guest-kernel", metavar="RELEASE", shell_complete=choices.kernels,
    help="The guest's kernel, for --flags.  [default: the guest's, else the host's]",
)  # fmt: skip
@stack_options
@format_option
def command(
    host_source: str,
    guest_source: str | None,
    cpu: str | None,
    by: str,
    everything: bool,
    flags: bool,
    guest_kernel: str | None,
    stack: Callable[[Host], Stack],
    form: str,
) -> None:
    """Show what a guest's CPU has that its host's has not, and the reverse, each with the party that caused it.

    GUEST is a snapshot taken in the guest; without one, it is what the path makes of --cpu. A difference that the path does not lead to
    is of party "unknown". With --by field, HOST and GUEST may be any two dumps: what differs is told with its meaning, and no party is
    asked for; fields in which CPUs of one machine differ (APIC ids and the like) are left out unless --all is given. Exit status 0 where
    nothing differs, 1 where something does.
    """
    from vcpuid.path import compare
    from vcpuid.path.compare_flags import by_flag
    from vcpuid.path.pipeline import guest_snapshot, resolve

    if guest_source is None and cpu is None:
        raise click.UsageError("give GUEST or --cpu")
    host = read_host(host_source)
    guest = None if guest_source is None else read_host(guest_source).snapshot
    chosen = stack(host)
    if by == "field" and not flags:
        other = guest or guest_snapshot(resolve(cpu or "host", host=host.snapshot, stack=chosen))
        sheet, differ = _fields(host.snapshot.raw or table_of(host.snapshot), other.raw or table_of(other), everything)
        emit(sheet, form)
        sys.exit(1 if differ else 0)
    both = compare.sides(host.snapshot, guest, cpu, chosen)
    print_warnings(both.path.remarks)
    found = by_flag(both, guest_kernel) if flags else compare.by_register(both) if by == "register" else compare.by_feature(both)
    emit(_sheet(both, found, "flags" if flags else f"{by}s"), form)
    sys.exit(1 if found else 0)


def _fields(one: CpuidTable, other: CpuidTable, everything: bool) -> tuple[Sheet, bool]:
    """Lay out the fields in which two dumps differ."""
    from vcpuid import decode

    changes = decode.diff(one, other, () if everything else decode.PER_CPU)
    rows: list[dict[str, object]] = [
        {
            "place": change.place,
            "field": change.field.name,
            "host": change.spell(change.before),
            "guest": change.spell(change.after),
            "meaning": change.field.description,
        }
        for change in changes
    ]
    left_out = "" if everything else "; what varies from CPU to CPU of one machine is left out (--all counts it)"
    foot = ["", (f"{len(rows)} fields differ" if rows else "The fields are the same") + left_out + "."]
    return Sheet(["place", "field", "host", "guest", "meaning"], rows, foot=foot, styles={"field": "bold"}), bool(rows)


def _sheet(both: Sides, found: list[Difference], what: str) -> Sheet:
    chosen = both.path.stack
    cpu = f"{both.path.cpu}{' (guessed)' if both.guessed else ''}"
    rows = [_row(difference) for difference in found]
    return Sheet(
        COLUMNS,
        rows,
        data={
            "cpu": both.path.cpu,
            "guessed": both.guessed,
            "observed": both.observed,
            "kernel": chosen.kernel,
            "qemu": chosen.qemu,
            "machine": chosen.machine,
            "differences": rows,
        },
        lines=[" ".join(str(row[column]) for column in COLUMNS[:4]) for row in rows],
        head=[f"-cpu {cpu}, QEMU {chosen.qemu}, {chosen.machine}, Linux {chosen.kernel}", ""],
        foot=["", f"{len(found)} {what} differ" if found else f"The {what} are the same."],
        styles={"what": "bold"},
    )


def _row(found: Difference) -> dict[str, object]:
    values = (found.what, _value(found.host), _value(found.guest), found.party, found.why)
    return {**dict(zip(COLUMNS, values, strict=True)), "place": found.place, "rules": list(found.rules)}


def _value(value: bool | int) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:08x}"
