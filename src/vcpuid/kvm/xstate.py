"""Which XSAVE states KVM may give to guests: XCR0 and IA32_XSS as the host runs with them, and what KVM knows of those.

From fpu__init_system_xstate (Linux arch/x86/kernel/fpu/xstate.c), kvm_x86_vendor_init and kvm_setup_xss_caps (arch/x86/kvm/x86.c) and
kvm_get_filtered_xcr0 (arch/x86/kvm/x86.h).
"""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable
from vcpuid.kvm.hardware import Hardware
from vcpuid.linux import BootCpu

_MPX = 0x18
_TILE_CONFIG = 1 << 17
_TILE_DATA = 1 << 18
_KVM_XCR0 = 0x3 | 0x4 | _MPX | 0xE0 | 1 << 9 | _TILE_CONFIG | _TILE_DATA
CET = 0x1800
"""The states of control-flow enforcement, user's and supervisor's: all that KVM knows of IA32_XSS."""

_USER = (("AVX", 0x4), ("MPX", _MPX), ("AVX512F", 0xE0), ("AMX_TILE", _TILE_CONFIG | _TILE_DATA))
"""States that the host enables where it has the feature (xsave_cpuid_features)."""


def supported_xcr0(boot: BootCpu, raw: CpuidTable, hardware: Hardware) -> int:
    """Return the XCR0 features that KVM supports, whoever asks: those that the host runs with, of those that KVM knows."""
    if not boot.has("XSAVE"):
        return 0
    eax, _, _, edx = raw.registers(0xD, 0)
    running = (eax | edx << 32) & _KVM_XCR0
    for feature, states in _USER:
        if not boot.has(feature):
            running &= ~states
    if not boot.has("PKU" if boot.kernel == "6.1" else "OSPKE"):
        running &= ~(1 << 9)
    if not boot.has("XFD"):
        running &= ~_TILE_DATA
    if "vmx.mpx" not in hardware.on:
        running &= ~_MPX
    return running


def permitted_xcr0(boot: BootCpu, supported: int, hardware: Hardware) -> int:
    """Take away what the asking process has no permission for; since 6.4 the tile configuration goes with the tile data."""
    if not supported & _TILE_DATA or hardware.params.fact("amx_permission"):
        return supported
    supported &= ~_TILE_DATA
    return supported & ~_TILE_CONFIG if boot.number >= (6, 4) else supported


def supported_xss(boot: BootCpu, raw: CpuidTable, *, xsaves: bool, shstk: bool, ibt: bool) -> int:
    """Return the IA32_XSS features that KVM supports, by what it offers to guests; none before 6.18."""
    if boot.number < (6, 18) or not (xsaves and boot.has("XSAVES") and boot.has("SHSTK")) or not (shstk or ibt):
        return 0
    states = raw.registers(0xD, 1).ecx & CET
    return states if states == CET else 0
