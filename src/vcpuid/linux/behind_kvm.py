"""What KVM's feature MSRs tell of the hardware's, of which KVM made them: its rules backwards.

IA32_ARCH_CAPABILITIES is made by kvm_get_arch_capabilities (arch/x86/kvm/x86.c, since 7.3 msrs.c), VMX's capabilities for nested guests
by nested_vmx_setup_ctls_msrs (arch/x86/kvm/vmx/nested.c).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vcpuid import params
from vcpuid.cpuid.registers import MsrTable
from vcpuid.linux.arch_cap import ArchCap, kvm_immune, kvm_supported
from vcpuid.releases import KERNELS
from vcpuid.setup import Setup

ARCH_CAPABILITIES = 0x10A
_PIN_BASED, _PRIMARY, _SECONDARY, _EPT_VPID, _FUNCTIONS, _TERTIARY = 0x481, 0x482, 0x48B, 0x48C, 0x491, 0x492
VMX = (_PIN_BASED, _PRIMARY, _SECONDARY, _EPT_VPID, _FUNCTIONS, _TERTIARY)
"""VMX's capabilities that Linux prints (init_vmx_capabilities); KVM has no feature MSR for the last."""


class Bounds(NamedTuple):
    """What is known of an MSR: the bits of `must` are set, those outside `may` are not."""

    must: int = 0
    may: int = (1 << 64) - 1


class _Rule(NamedTuple):
    """The bits that KVM sets whatever the hardware has, and those without which in KVM's value the hardware has none."""

    made: int
    needed: int


def _bits(*positions: int) -> int:
    return sum(1 << position for position in positions)


_NEWEST = KERNELS[-1]

_RULES = {
    ARCH_CAPABILITIES: _Rule(ArchCap.PSCHANGE_MC_NO, kvm_supported(_NEWEST) & ~(ArchCap.PSCHANGE_MC_NO | ArchCap.TAA_NO)),
    _PIN_BASED: _Rule(_bits(38), _bits(37)),  # the preemption timer; virtual NMIs
    _PRIMARY: _Rule(_bits(60), _bits(35, 53, 59)),  # MSR bitmaps; TSC offsetting, TPR shadow, monitor trap flag
    _SECONDARY: _Rule(
        _bits(46, 49),  # VMCS shadowing, the log of modified pages
        _bits(33, 34, 35, 39, 40, 41, 44, 47, 52, 57, 58),  # those on which KVM's CPUID depends (vcpuid.kvm.vmx), the APIC's, TSC scaling
    ),
    _EPT_VPID: _Rule(_bits(16, 17, 25, 26), _bits(0, 7, 21)),  # large pages, INVEPT's kinds; execute-only, 5 levels, A/D bits
    _FUNCTIONS: _Rule(_bits(0), 0),  # EPTP switching
}  # fmt: skip

_ALSO_KVMS = sum(kvm_immune(_NEWEST).values()) | ArchCap.SKIP_L1D_FLUSH | ArchCap.GDS_NO
"""Bits that KVM sets also for reasons of its own: those, what the host does about L1TF, and its microcode against GDS."""

_UNKNOWN_TO = {(5, 10): {_SECONDARY: _bits(47, 57, 58)}}
"""Needed bits of VMX's that KVM does not pass on yet, by kernel."""

_SWITCHED = {
    "ept": {_SECONDARY: _bits(33, 39), _EPT_VPID: _bits(0, 7, 21)},
    "eptad": {_EPT_VPID: _bits(21)},
    "unrestricted_guest": {_SECONDARY: _bits(39)},
    "sgx": {_SECONDARY: _bits(47)},
}
"""What KVM keeps back, by the parameters of kvm_intel with which it was told to."""


def estimates(msrs: MsrTable) -> Iterator[tuple[int, int]]:
    """Give MSRs of the hardware by KVM's, without what KVM makes up: values that lie within their `bounds`."""
    for index, rule in _RULES.items():
        if index in msrs:
            yield index, msrs[index] & ~rule.made


def bounds(ran: Setup, index: int) -> Bounds:
    """Narrow an MSR of the hardware by what KVM told on a host as it ran; nothing is known where that is nothing.

    Of IA32_ARCH_CAPABILITIES that holds for a processor that has it.
    """
    value, rule = ran.host.msrs.get(index), _RULES.get(index)
    if value is None or rule is None:
        return Bounds()
    own = _ALSO_KVMS if index == ARCH_CAPABILITIES else 0
    needed = rule.needed
    if index == ARCH_CAPABILITIES:
        needed &= kvm_supported(ran.kernel.tables)
    needed &= ~_UNKNOWN_TO.get(ran.kernel.number, {}).get(index, 0)
    for parameter, kept_back in _SWITCHED.items():
        if _off(ran, parameter):
            needed &= ~kept_back.get(index, 0)
    return Bounds(value & ~rule.made & ~own, Bounds().may & ~(needed & ~value))


def _off(ran: Setup, parameter: str) -> bool:
    full = f"kvm_intel.{parameter}"
    told = (ran.params.kvm.get(full), ran.params.kvm.get(parameter), ran.host.params.get(full))
    value = next((found for found in told if found is not None), None)
    return value is not None and not params.read(full, value)
