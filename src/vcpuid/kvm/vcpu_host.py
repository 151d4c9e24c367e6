"""What a vCPU's table depends on outside of the guest: the host's CPU, its Linux, its KVM."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot
from vcpuid.kvm.caps import caps
from vcpuid.kvm.lookup import find
from vcpuid.kvm.params import Given, read
from vcpuid.kvm.supported import supported
from vcpuid.releases import kernel as kernel_tables
from vcpuid.releases import number

DYNAMIC_XFEATURES = 1 << 18
"""XFEATURE_MASK_USER_DYNAMIC of Linux arch/x86/include/asm/fpu/xstate.h: AMX's tile data."""

_NOTHING = CpuidTable()


def offered_xcr0(table: CpuidTable) -> int:
    """Return the XCR0 features that leaf 0xD of a table offers."""
    entry = find(table, 0xD, 0)
    return 0 if entry is None else entry.eax | entry.edx << 32


class Host:
    """A host, or none that is known: then nothing counts as missing. `params` see `vcpuid.kvm.params`."""

    __slots__ = ("_params", "_snapshot", "kernel", "release")

    def __init__(self, snapshot: Snapshot | None, kernel: str, params: Given | None) -> None:
        self._snapshot, self._params = snapshot, params or {}
        self.kernel = kernel_tables(kernel)
        self.release = number(self.kernel)

    @property
    def supported(self) -> CpuidTable | None:
        """What KVM_GET_SUPPORTED_CPUID answers: as the snapshot tells, else as modelled; None where the host is not known."""
        if self._snapshot is None or self._snapshot.supported is not None:
            return None if self._snapshot is None else self._snapshot.supported
        return supported(self._snapshot, self.kernel, self._params).table

    @property
    def xcr0(self) -> int:
        """The XCR0 features that KVM has (kvm_caps.supported_xcr0)."""
        if self._snapshot is None:
            return -1
        if self._snapshot.raw:
            return caps(self._snapshot, self.kernel, self._params).xcr0
        return offered_xcr0(self._snapshot.supported or _NOTHING)

    @property
    def permission(self) -> int:
        """The dynamic XCR0 features that the VMM's process may use: none that the host has not, none that were not asked for.

        Where `amx_permission` is not given, the process counts as having asked, as QEMU does.
        """
        if not read("amx_permission", self._params.get("amx_permission", True)):
            return 0
        return DYNAMIC_XFEATURES if self._snapshot is None else offered_xcr0(self._cpuid(_NOTHING))

    def runs_with(self, flag: str, word: CpuidWord, mask: int) -> bool:
        """Whether Linux runs the host with a feature: by /proc/cpuinfo, else by CPUID, else by what KVM supports."""
        if self._snapshot is None:
            return True
        if "flags" in self._snapshot.cpuinfo:
            return flag in self._snapshot.cpuinfo["flags"].split()
        return bool(self._cpuid(_NOTHING).word(word) & mask)

    def xsave_layout(self, table: CpuidTable) -> CpuidTable:
        """The table whose leaf 0xD tells the sizes of XSAVE's states; the guest's own where the host is not known."""
        return self._cpuid(table)

    def _cpuid(self, otherwise: CpuidTable) -> CpuidTable:
        if self._snapshot is None:
            return otherwise
        return self._snapshot.raw or self._snapshot.supported or otherwise
