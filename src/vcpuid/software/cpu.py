"""The CPU as programs see it: CPUID after the operating system has switched on what it supports, and XCR0."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vcpuid import linux
from vcpuid.cpuid import CpuidTable, Entry, Registers, Snapshot, bits, vendor_name, xfeatures
from vcpuid.linux import BootCpu
from vcpuid.releases import KERNELS

_OSXSAVE, _OSPKE = bits.OSXSAVE.mask, bits.OSPKE.mask

# The states that Linux enables for programs, and the flag that each depends on (xsave_cpuid_features, arch/x86/kernel/fpu/xstate.c).
_STATES = {
    "FPU": xfeatures.X87,
    "XMM": xfeatures.SSE,
    "AVX": xfeatures.AVX,
    "MPX": xfeatures.MPX,
    "AVX512F": xfeatures.AVX512,
    "OSPKE": xfeatures.PKRU,
    "AMX_TILE": xfeatures.AMX,
    "APX": xfeatures.APX,
}
_DYNAMIC = xfeatures.TILE_DATA


@dataclass(frozen=True, slots=True)
class SoftwareCpu:
    """What a program can ask. `table` is what its CPUID returns, `xcr0` what XGETBV does (0 where it would fault)."""

    table: CpuidTable
    xcr0: int
    linux: BootCpu

    def leaf(self, function: int, index: int = 0) -> Registers:
        """Return a leaf, as a program reads it that looks at the highest leaf first: zeros past it."""
        return self.table.registers(function, index) if function <= self.table.registers(function & 0x80000000).eax else Registers()

    @property
    def vendor(self) -> str:
        """The vendor that leaf 0 names."""
        return vendor_name(self.table.registers(0))


def software_cpu(table: CpuidTable, kernel: str = KERNELS[-1], xcr0: int | None = None) -> SoftwareCpu:
    """Run Linux on a CPU and say what it leaves to its programs.

    `table` is what CPUID returns before, or under, a Linux `kernel` (a release, as in `linux.boot_cpu`). `xcr0` stands for another
    operating system's, 0 for one without XSAVE; None is Linux's own. Raises InputError for a wrong release.
    """
    boot = linux.boot_cpu(Snapshot(raw=table, table=table), kernel)
    if xcr0 is None:
        xcr0 = _xcr0(boot, table) if boot.has("OSXSAVE") else 0
    return SoftwareCpu(CpuidTable(_switched_on(table, boot, xcr0)), xcr0, boot)


def _xcr0(boot: BootCpu, table: CpuidTable) -> int:
    states = 0
    for flag, mask in _STATES.items():
        if boot.has(flag):
            states |= mask
    if not boot.has("XFD"):
        states &= ~_DYNAMIC
    return states & table.registers(0xD).eax


def _switched_on(table: CpuidTable, boot: BootCpu, xcr0: int) -> Iterator[Entry]:
    for entry in table:
        if entry.function == 1:
            yield entry._replace(ecx=entry.ecx | _OSXSAVE if xcr0 else entry.ecx & ~_OSXSAVE)
        elif entry.function == 7 and not entry.index:
            yield entry._replace(ecx=entry.ecx | _OSPKE if boot.has("OSPKE") else entry.ecx & ~_OSPKE)
        else:
            yield entry
