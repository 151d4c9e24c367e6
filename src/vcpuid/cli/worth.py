"""vcpuid worth: what flags are worth to software."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.output import Sheet, emit, format_option
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
)
from vcpuid.cpuid.parts import for_guest
from vcpuid.releases import KERNELS

if TYPE_CHECKING:
    from vcpuid.software import SoftwareCpu
    from vcpuid.software.glibc import Glibc, Pick

COLUMNS = ["topic", "item", "value", "why"]


@click.command(name="worth")
@click.argument("table", metavar="[TABLE]", required=False, shell_complete=choices.hosts)
@cpu_option
@host_option
@click.option("--glibc", "release", metavar="RELEASE", shell_complete=choices.glibcs, help="The guest's glibc.  [default: all with tables]")
@click.option("--hwcaps", default="", metavar="LIST", help="What GLIBC_TUNABLES=glibc.cpu.hwcaps holds in the guest, as -AVX2,-ERMS.")
@click.option("--xcr0", type=number, metavar="VALUE", help="XCR0 as the guest's system sets it, 0 without XSAVE.  [default: as Linux does]")
@click.option(
    "--guest-kernel", default=KERNELS[-1], show_default=True, metavar="RELEASE", shell_complete=choices.kernels, help="The guest's kernel."
)
@click.option("--no-probe", is_flag=True, help="Do not ask this machine's KVM what a vCPU keeps of the table: model it.")
@stack_options()
@format_option
def command(
    table: str | None, cpu: str, source: str | None, release: str | None, hwcaps: str, xcr0: int | None, guest_kernel: str,
    no_probe: bool, asked: Asked, form: str,
) -> None:  # fmt: skip
    """Tell what a guest's flags are worth to its software: levels, string functions, crypto, clocks.

    The x86-64 psABI level and what keeps the CPU from the next; the variants that glibc picks; the drivers of the kernel's crypto API; the
    clock that Linux keeps time by. With TABLE, that table's; else those of the guest that QEMU makes of --cpu on --host. Variants that
    execute what the host's processor lacks are marked FAULTS.
    """
    from vcpuid.software import software_cpu
    from vcpuid.software.glibc import RELEASES, glibc

    guest: SoftwareCpu
    host: SoftwareCpu | None = None
    if table is not None:
        has_no_effect("TABLE is given, and no QEMU makes it", *STACK, "--cpu", "--no-probe")
        guest, head = software_cpu(for_guest(read_host(table).snapshot, table), guest_kernel, xcr0), table
        host = software_cpu(read_host(source).snapshot.raw, guest_kernel) if source is not None else None
    else:
        guest, host, head = _of_path(cpu, read_host(source), asked, no_probe, guest_kernel, xcr0)
    found = [glibc(guest, one, hwcaps) for one in ([release] if release else RELEASES)]
    functions = (row for one in found for row in _glibc(one, _silicon(host, one.release)))
    rows: list[Mapping[str, str]] = [*_levels(guest), *functions, *_kernel(guest)]
    faults = any(row["why"].startswith("FAULTS") for row in rows)
    foot = ["", "FAULTS: the variant executes what the host's processor lacks; programs die of SIGILL, init first."] if faults else []
    styles = {"topic": "bold"}
    emit(Sheet(COLUMNS, [dict(row) for row in rows], head=[head, ""], foot=foot, styles=styles), form)


def _of_path(
    cpu: str, host: Host, asked: Asked, no_probe: bool, kernel: str, xcr0: int | None
) -> tuple[SoftwareCpu, SoftwareCpu | None, str]:
    from vcpuid.path.pipeline import guest_view, resolve
    from vcpuid.software import software_cpu

    path = resolve(cpu, host=asked.setup(host), probe=None if no_probe else probe_for(host))
    print_warnings((*path.remarks, *path.warnings))
    silicon = software_cpu(host.snapshot.raw, kernel) if host.snapshot.raw else None
    return software_cpu(guest_view(path), kernel, xcr0), silicon, path.headline()


def _silicon(host: SoftwareCpu | None, release: str) -> frozenset[str] | None:
    from vcpuid.software.glibc import glibc

    return None if host is None else glibc(host, release).usable


def _row(topic: str, item: str, value: str, why: str) -> dict[str, str]:
    return dict(zip(COLUMNS, (topic, item, value, why), strict=True))


def _levels(guest: SoftwareCpu) -> Iterator[Mapping[str, str]]:
    from vcpuid.software.psabi import levels

    for level in levels(guest):
        lacking = [f"lacks {' '.join(level.missing)}"] if level.missing else []
        lacking += [f"XCR0 lacks the states of {' '.join(level.disabled)}"] if level.disabled else []
        why = "" if level.reached else "; ".join(lacking) or "a level below is not reached"
        yield _row("level", level.name, "yes" if level.reached else "no", why)


def _glibc(found: Glibc, silicon: frozenset[str] | None) -> Iterator[Mapping[str, str]]:
    topic = f"glibc {found.release}"
    if not found.starts:
        why = "CPU ISA level is lower than required: the CPU lacks the baseline, or glibc does not know its vendor"
        yield _row(topic, "libc.so.6", "does not start", why)
        return
    for pick in found.picks:
        yield _row(topic, pick.function, pick.variant, _why(pick, silicon))


def _why(pick: Pick, silicon: frozenset[str] | None) -> str:
    from vcpuid.software.glibc import is_preference

    absent = [] if silicon is None else [name for name in _executed(pick) if name not in silicon]
    if absent == ["LZCNT"]:
        return "WRONG RESULTS: the host lacks LZCNT and executes it as BSR"
    if absent:
        return f"FAULTS: the host lacks {' '.join(absent)}"
    if pick.better is None:
        return ""
    variant, lacking = pick.better
    missing = [name for name in lacking if not is_preference(name)]
    against = [name for name in lacking if is_preference(name)]
    parts = [f"lacking {' '.join(missing)}"] if missing else []
    parts += [f"by glibc's tuning for this model ({' '.join(against)})"] if against else []
    return f"not {variant}: {', '.join(parts)}"


def _executed(pick: Pick) -> list[str]:
    """The features whose instructions a variant executes: REP MOVSB needs none, whatever ERMS says, and memcpy's AVX variants need AVX."""
    from vcpuid.software.glibc import is_preference

    executed = {"AVX" if name == "AVX_Fast_Unaligned_Load" else name: None for name in pick.needs if name != "ERMS"}
    return [name for name in executed if not is_preference(name)]


def _kernel(guest: SoftwareCpu) -> Iterator[Mapping[str, str]]:
    from vcpuid.software.clock import clocks
    from vcpuid.software.crypto import drivers

    for one in drivers(guest):
        why = f"not {one.better[-1][0]}: lacking {' '.join(one.better[-1][1])}" if one.better else ""
        yield _row("crypto", one.algorithm, one.driver, why)
    time = clocks(guest)
    for clock in time.sources:
        value = "unused" if clock.rating is None else "chosen" if clock == time.chosen else f"rated {clock.rating}"
        yield _row("clock", clock.name, value, clock.why)
    yield _row("clock", "tick", time.timer.name, time.timer.why)
