"""The values that QEMU gives to a guest's VMX capability MSRs.

QEMU, target/i386/kvm/kvm.c: kvm_msr_entry_add_vmx and make_vmx_msr_value.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpuid.cpuid import MsrTable, bits

_BASIC, _MISC, _EPT_VPID = 0x480, 0x485, 0x48C
_CONTROLS = {
    "vmx-procbased": ("FEAT_VMX_PROCBASED_CTLS", 0x0401E172),
    "vmx-pinbased": ("FEAT_VMX_PINBASED_CTLS", 0x16),
    "vmx-exit": ("FEAT_VMX_EXIT_CTLS", 0x36DFF),
    "vmx-entry": ("FEAT_VMX_ENTRY_CTLS", 0x11FF),
    "vmx-secondary": ("FEAT_VMX_SECONDARY_CTLS", 0),
}
"""The feature word of each control MSR, and its "default1" class."""

_HOST_ADDRESS_SIZE = 0x200_0000_0000
_ENABLE_EPT, _TSC_SCALING = 0x2, 0x2000000
_EPT_MEMORY_TYPES = 0x4100
_FIXED_BASIC = 0x003C1FFF_7FFFFFFF
_FIXED_MISC = 0x1F | 0xE000000
_LAST_FIELD, _LAST_FIELD_WITH_TSC_SCALING = 0x2E, 0x32


def values(features: Mapping[str, int], host: MsrTable) -> dict[str, int]:
    """Return the values by the names that `data/qemu-start.json` has for them; empty where KVM tells no IA32_VMX_BASIC."""
    basic = host.get(_BASIC, 0)
    if not basic:
        return {}
    secondary = features.get("FEAT_VMX_SECONDARY_CTLS", 0)
    long_mode = features.get("FEAT_8000_0001_EDX", 0) & bits.LM.mask
    found = {name: _control(features.get(word, 0), default) for name, (word, default) in _CONTROLS.items()}
    found["vmx-exit"] |= _HOST_ADDRESS_SIZE if long_mode else 0
    kept = host.get(_EPT_VPID, 0) & _EPT_MEMORY_TYPES if secondary & _ENABLE_EPT else 0
    found["vmx-ept-vpid"] = features.get("FEAT_VMX_EPT_VPID_CAPS", 0) | kept
    found["vmx-basic"] = features.get("FEAT_VMX_BASIC", 0) | basic & _FIXED_BASIC
    found["vmx-misc"] = features.get("FEAT_VMX_MISC", 0) | host.get(_MISC, 0) & _FIXED_MISC
    found["vmx-enumeration"] = _LAST_FIELD_WITH_TSC_SCALING if secondary & _TSC_SCALING else _LAST_FIELD
    return found


def _control(features: int, default1: int) -> int:
    """What may be 1 in the high half; in the low one, what must be: default1's bits that are no feature."""
    return (features | default1) << 32 | default1 & ~features
