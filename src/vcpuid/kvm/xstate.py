"""Which XSAVE states KVM may give to guests: XCR0 and IA32_XSS as the host runs with them, and what KVM knows of those.

From fpu__init_system_xstate (Linux arch/x86/kernel/fpu/xstate.c), kvm_x86_vendor_init and kvm_setup_xss_caps (arch/x86/kvm/x86.c) and
kvm_get_filtered_xcr0 (arch/x86/kvm/x86.h).
"""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, Entry, bits, xfeatures
from vcpuid.kvm.hardware import Hardware
from vcpuid.kvm.xsave import area_size
from vcpuid.linux import BootCpu

_KVM_XCR0 = xfeatures.LEGACY | xfeatures.AVX | xfeatures.MPX | xfeatures.AVX512 | xfeatures.PKRU | xfeatures.AMX
_KVM_XSS = xfeatures.CET

_USER = (("AVX", xfeatures.AVX), ("MPX", xfeatures.MPX), ("AVX512F", xfeatures.AVX512), ("AMX_TILE", xfeatures.AMX))
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
    if not boot.has("PKU" if boot.number <= (6, 1) or boot.kernel in ("5.14-el9_3", "5.14-el9_4") else "OSPKE"):
        running &= ~xfeatures.PKRU
    if not boot.has("XFD"):
        running &= ~xfeatures.TILE_DATA
    if "vmx.mpx" not in hardware.on:
        running &= ~xfeatures.MPX
    return running


def permitted_xcr0(boot: BootCpu, supported: int, hardware: Hardware) -> int:
    """Take away what the asking process has no permission for; since 6.4 the tile configuration goes with the tile data."""
    if not supported & xfeatures.TILE_DATA or hardware.params.fact("amx_permission"):
        return supported
    supported &= ~xfeatures.TILE_DATA
    return supported & ~xfeatures.TILE_CONFIG if boot.number >= (6, 4) else supported


def supported_xss(boot: BootCpu, raw: CpuidTable, *, xsaves: bool, shstk: bool, ibt: bool) -> int:
    """Return the IA32_XSS features that KVM supports, by what it offers to guests; none before 6.18."""
    if boot.number < (6, 18) or not (xsaves and boot.has("XSAVES") and boot.has("SHSTK")) or not (shstk or ibt):
        return 0
    states = raw.registers(0xD, 1).ecx & _KVM_XSS
    return states if states == _KVM_XSS else 0


_TILES = tuple(
    Entry(0xD, xfeatures.ComponentPlace.number(tile), 1, *xfeatures.LAYOUT[tile], 0)
    for tile in (xfeatures.TILE_CONFIG, xfeatures.TILE_DATA)
)
"""The state of AMX's tiles as every processor with AMX so far has it."""


def with_amx_state(supported: CpuidTable) -> CpuidTable:
    """Complete what KVM_GET_SUPPORTED_CPUID answers by the state of AMX, which KVM tells only to those with leave to use it.

    KVM offers AMX and XFD where Linux runs the host with that state, and no leave is needed to see them.
    """
    leaf = supported.get(0xD)
    if leaf is None or not (supported.has(bits.AMX_TILE) and supported.has(bits.XFD)):
        return supported
    told = leaf.eax | xfeatures.AMX
    missing = [tile for tile in _TILES if supported.get(tile.function, tile.index) is None]
    whole = CpuidTable([*supported, *missing])
    size = area_size(whole, told | leaf.edx << 32, compacted=False)
    return CpuidTable(entry._replace(eax=told, ebx=size, ecx=size) if entry is leaf else entry for entry in whole)
