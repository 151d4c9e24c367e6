"""vcpuid worth: what flags are worth to software."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, domain_for_table, domain_options
from vcpuid.cli.output import Sheet, all_option, emit, format_option
from vcpuid.cli.setup import (
    STACK,
    Asked,
    Host,
    cpu_option,
    has_no_effect,
    host_option,
    number,
    print_warnings,
    probe_for,
    read_host,
    stack_options,
    table_for_guest,
    take_for_host,
)
from vcpuid.cli.short import Cut, folded, some
from vcpuid.cpuid.by_name import with_named_bits
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.cpuid.parts import by_kvm
from vcpuid.releases import KERNELS

if TYPE_CHECKING:
    from vcpuid.cpuid import CpuidTable
    from vcpuid.path.pipeline import Path
    from vcpuid.software import SoftwareCpu
    from vcpuid.software.report import Worth

COLUMNS = ["topic", "item", "value", "why"]


@click.command(name="worth")
@click.argument("table", metavar="[TABLE]", required=False, shell_complete=choices.hosts)
@cpu_option
@domain_options
@host_option
@click.option("--glibc", "release", metavar="RELEASE", shell_complete=choices.glibcs, help="The guest's glibc.  [default: all with tables]")
@click.option("--hwcaps", default="", metavar="LIST", help="The guest's GLIBC_TUNABLES=glibc.cpu.hwcaps, such as -AVX2,-ERMS.")
@click.option("--xcr0", type=number, metavar="VALUE", help="XCR0 as the guest's system sets it, 0 without XSAVE.  [default: as Linux does]")
@click.option(
    "--guest-kernel", default=KERNELS[-1], show_default=True, metavar="RELEASE", shell_complete=choices.kernels, help="The guest's kernel."
)
@click.option("--no-probe", is_flag=True, help="Model what a vCPU keeps and what an exit costs; do not ask this machine's KVM.")
@all_option
@stack_options()
@format_option
def command(
    table: str | None, cpu: AskedCpu, source: str | None, release: str | None, hwcaps: str, xcr0: int | None, guest_kernel: str,
    no_probe: bool, everything: bool, asked: Asked, form: str,
) -> None:  # fmt: skip
    """Show what a guest's CPU is worth to its software.

    The first lines say which x86-64 psABI level the guest reaches and what it needs for the next; the table, what its software does not
    do as well as on the host: glibc's string functions, the kernel's crypto drivers, a program's start, the clock. --all prints every
    single choice. Variants that execute what the host's processor lacks are marked FAULTS.

    With TABLE, the CPU is that of the table; else of the guest that QEMU makes of --cpu on --host. TABLE may be a domain's file as well,
    as for --domain, or a host's snapshot, as for --host, where its KVM answers.
    """
    from vcpuid.answers.inside import of_guest, of_table, resting
    from vcpuid.software import brief, software_cpu
    from vcpuid.software.glibc import RELEASES
    from vcpuid.software.report import worth
    from vcpuid.software.start import ASSUMED
    from vcpuid.told.assumptions import granted
    from vcpuid.told.facts import sentences
    from vcpuid.trace.cost import here

    guest: SoftwareCpu
    host: SoftwareCpu | None = None
    path: Path | None = None
    table, cpu = domain_for_table(table, cpu)
    named = None if table is None else read_host(table)
    if table is not None and named is not None and by_kvm(named.snapshot):
        take_for_host(named.snapshot, table, source)
        table, source = None, table
    if table is not None and named is not None:
        has_no_effect("TABLE is given, and no QEMU makes it", *STACK, "--cpu", "--domain", "--libvirt", "--no-probe")
        snapshot = named.snapshot
        guest, head = software_cpu(table_for_guest(snapshot, table), guest_kernel, xcr0), table
        host = software_cpu(in_64_bit_mode(with_named_bits(read_host(source).snapshot)).raw, guest_kernel) if source is not None else None
    else:
        of = named or read_host(source)
        snapshot = of.snapshot
        guest, host, path = _of_path(cpu, of, asked, no_probe, guest_kernel, xcr0, brief=form == "table" and not everything)
        head = path.headline()
    releases = [release] if release else RELEASES

    def answers(table: CpuidTable) -> dict[tuple[str, str], str]:
        return {
            (topic, item): value
            for topic, item, value, _ in worth(software_cpu(table, guest_kernel, xcr0), None, releases, hwcaps).answers()
        }

    open_ = of_table(snapshot, answers) if path is None else of_guest(path, answers)
    taken = {} if path is None else resting(path, answers, open_)
    cost = here() if table is None and of.here and not no_probe else ASSUMED
    found = replace(worth(guest, host, releases, hwcaps, cost), hanging=FrozenMap(open_), resting=FrozenMap(taken))
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found.rows()]
    short = list(brief.rows(found))
    foot = ["", "FAULTS: the variant executes what the host's processor lacks; programs die of SIGILL, init first."] if found.faults else []
    data = found.as_dict(None if path is None else path.as_dict())
    said = [*sentences(found.not_told), *granted(found.assumes)] if everything else [*brief.costs(found), *_open(found)]
    foot += ["", *said] if said else []
    rest = f"all {len(rows)} answers, each string function's among them"
    cut = None
    if form == "table" and not everything:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in short]
        cut = Cut(len(rows), rest=rest, more=rest, weights=[brief.weight(row) for row in short])
    sheet = Sheet(COLUMNS, rows, data, head=[brief.verdict(found), head, ""], foot=foot, styles={"topic": "bold"}, cut=cut)
    emit(sheet, form)


def _open(found: Worth) -> Iterator[str]:
    """Say in a few lines what is not told and what is taken for granted."""
    from vcpuid.told.facts import sentences

    yield from sentences(found.not_told)[-1:]  # how all of it can be told
    for taken, items in found.assumes.items():
        yield f"Taken for granted: {taken}: {some(items, 3)}"


def _of_path(
    asked_cpu: AskedCpu, host: Host, asked: Asked, no_probe: bool, kernel: str, xcr0: int | None, *, brief: bool
) -> tuple[SoftwareCpu, SoftwareCpu | None, Path]:
    from vcpuid.answers.certainty import followed
    from vcpuid.path.pipeline import guest_view
    from vcpuid.software import software_cpu

    cpu, setup = asked_cpu.on(host, asked)
    path = followed(cpu, host=setup, probe=None if no_probe else probe_for(host))
    print_warnings(folded(path) if brief else path.said)
    silicon = software_cpu(path.host.raw, kernel) if path.host.raw else None
    return software_cpu(guest_view(path), kernel, xcr0), silicon, path
