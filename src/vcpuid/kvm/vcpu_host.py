"""What a vCPU's table depends on outside of the guest: the host's CPU, its Linux, its KVM."""

from __future__ import annotations

from vcpuid.cpuid import Bit, CpuidTable, vendors, xfeatures
from vcpuid.kvm.answers import kvm_says
from vcpuid.kvm.caps import loaded
from vcpuid.kvm.hardware import module_of
from vcpuid.kvm.lookup import find
from vcpuid.params import Params, read
from vcpuid.releases import Release
from vcpuid.setup import Setup

DYNAMIC_XFEATURES = xfeatures.TILE_DATA
"""XFEATURE_MASK_USER_DYNAMIC of Linux arch/x86/include/asm/fpu/xstate.h: AMX's tile data."""

_NOTHING = CpuidTable()


def offered_xcr0(table: CpuidTable) -> int:
    """Return the XCR0 features that leaf 0xD of a table offers."""
    entry = find(table, 0xD, 0)
    return 0 if entry is None else entry.eax | entry.edx << 32


class KvmBelow:
    """The KVM that a vCPU lives on, or one of which only the kernel is known: then nothing counts as missing.

    `setup` is None in the second case, where `kernel` alone counts. `release` is the number of the kernel's code, and
    `tables` what its tables are called.
    """

    __slots__ = ("_given", "_host", "_setup", "release", "tables")

    def __init__(self, setup: Setup | None, kernel: Release, params: Params) -> None:
        self._setup, self.release, self.tables, self._given = setup, kernel.number, kernel.tables, params.kvm
        self._host = None if setup is None else setup.host

    @property
    def supported(self) -> CpuidTable | None:
        """What KVM_GET_SUPPORTED_CPUID answers: as the snapshot tells, else as modelled; None where the host is not known."""
        return None if self._setup is None else kvm_says(self._setup).supported

    @property
    def hides_lone_invpcid(self) -> bool:
        """Whether KVM takes INVPCID from a table without PCID, as kvm_intel of an old kernel does."""
        vendor = "" if self._host is None else self._host.vendor
        return self.release <= (5, 10) and bool(vendor) and module_of(vendors.linux_kind(vendor)) == "kvm_intel"

    @property
    def xcr0(self) -> int:
        """The XCR0 features that KVM has (kvm_caps.supported_xcr0)."""
        if self._setup is None:
            return -1
        host = self._setup.host
        return loaded(self._setup).xcr0 if host.raw else offered_xcr0(self._cpuid(_NOTHING))

    @property
    def permission(self) -> int:
        """The dynamic XCR0 features that the VMM's process may use: none that the host has not, none that were not asked for.

        Where `amx_permission` is not given, the process counts as having asked, as QEMU does.
        """
        if not read("amx_permission", self._given.get("amx_permission", True)):
            return 0
        return DYNAMIC_XFEATURES if self._host is None else offered_xcr0(self._cpuid(_NOTHING))

    def runs_with(self, flag: str, bit: Bit) -> bool:
        """Whether Linux runs the host with a feature: by /proc/cpuinfo, else by CPUID, else by what KVM supports."""
        if self._host is None:
            return True
        if "flags" in self._host.cpuinfo:
            return flag in self._host.cpuinfo["flags"].split()
        return self._cpuid(_NOTHING).has(bit)

    def xsave_layout(self, table: CpuidTable) -> CpuidTable:
        """The table whose leaf 0xD tells the sizes of XSAVE's states; the guest's own where the host is not known."""
        return self._cpuid(table)

    def _cpuid(self, otherwise: CpuidTable) -> CpuidTable:
        if self._setup is None or not (self._setup.host.raw or self._setup.host.supported):
            return otherwise
        return kvm_says(self._setup).raw
