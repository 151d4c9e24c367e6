"""Features that libvirt spells in another way than QEMU (virQEMUCapsCPUFeaturesX86, src/qemu/qemu_capabilities.c)."""

from __future__ import annotations

_TO_QEMU = {
    "cmp_legacy": "cmp-legacy",
    "ds_cpl": "ds-cpl",
    "fxsr_opt": "fxsr-opt",
    "kvm_pv_eoi": "kvm-pv-eoi",
    "kvm_pv_unhalt": "kvm-pv-unhalt",
    "lahf_lm": "lahf-lm",
    "nodeid_msr": "nodeid-msr",
    "pclmuldq": "pclmulqdq",
    "perfctr_core": "perfctr-core",
    "perfctr_nb": "perfctr-nb",
    "tsc_adjust": "tsc-adjust",
    "vmx-invvpid-single-context-noglobals": "vmx-invept-single-context-noglobals",
}
_FROM_QEMU = {qemu: libvirt for libvirt, qemu in _TO_QEMU.items()}


def to_qemu(name: str) -> str:
    """Spell a feature of libvirt's as QEMU does."""
    return _TO_QEMU.get(name, name)


def from_qemu(name: str) -> str:
    """Spell a property of QEMU's as libvirt does."""
    return _FROM_QEMU.get(name, name)
