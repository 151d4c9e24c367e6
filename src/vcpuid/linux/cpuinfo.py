"""The lines of /proc/cpuinfo that tell of flags (show_cpuinfo in arch/x86/kernel/cpu/proc.c)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vcpuid.cpuid.registers import Snapshot
from vcpuid.linux.boot import boot_cpu, refuse_others
from vcpuid.linux.tables import Place
from vcpuid.params import Given
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled


class CpuInfo(NamedTuple):
    """The names on the lines "flags", "bugs" and "vmx flags", in their order."""

    flags: tuple[str, ...]
    bugs: tuple[str, ...]
    vmx_flags: tuple[str, ...]


def cpuinfo(
    host: Snapshot | Setup, kernel: str | Release | None = None, params: Given | None = None, observed: bool | None = None
) -> CpuInfo:
    """Say what /proc/cpuinfo shows of the boot processor; takes and raises what `boot_cpu` does.

    CPUID does not tell all: the command line counts, and MSRs. Where the host's own lines are at hand, of this kernel, and no `params` say
    otherwise, they stand in for that part alone; the rest is worked out. With `observed` True they hold for all, with False for nothing.
    """
    refuse_others(params)
    setup = settled(host, kernel=kernel, params=params)
    facts = observed is None and not setup.params.linux and setup.host.kernel is not None
    cpu = boot_cpu(setup, observed=bool(observed), facts=facts)
    tables = cpu.tables
    vmx = _shown(tables.shown_vmx, cpu.vmx) if cpu.has("VMX") and cpu.vmx[0] else ()
    return CpuInfo(_shown(tables.shown_features, cpu.caps), _shown(tables.shown_bugs, cpu.caps), vmx)


def _shown(names: Sequence[tuple[str, Place]], words: Sequence[int]) -> tuple[str, ...]:
    return tuple(name for name, (word, mask) in names if words[word] & mask)


def named(info: CpuInfo) -> dict[tuple[str, str], bool]:
    """Give each name of each line as an answer of its own."""
    return {(line, name): True for line, names in info._asdict().items() for name in names}
