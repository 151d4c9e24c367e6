"""VMX and SGX by the feature-control MSR, and vmx_capability, the words behind "vmx flags" (arch/x86/kernel/cpu/feat_ctl.c)."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.linux import machine
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

SOURCE = "init_ia32_feat_ctl, cpu/feat_ctl.c"
ENABLE = "enable it in the firmware"
NO_MSR = Rule("linux.feat-ctl.absent", "the processor has no FEAT_CTL MSR that would enable it", SOURCE)
PRESENT = Rule("linux.feat-ctl.present", "the processor has the FEAT_CTL MSR", SOURCE)
VMX_OFF = Rule("linux.feat-ctl.vmx-off", "FEAT_CTL is locked with VMX off", SOURCE, ENABLE)
SGX_OFF = Rule(
    "linux.feat-ctl.sgx-off", "FEAT_CTL is locked with SGX off, or nothing in this kernel would use it", SOURCE, ENABLE, since="5.15"
)
SGX_LC_OFF = Rule("linux.feat-ctl.sgx-lc-off", "FEAT_CTL is locked with SGX launch control off", SOURCE, ENABLE, since="5.15")
CAPABILITY = Rule("linux.vmx-capability", "the VMX capability MSRs report it", "init_vmx_capabilities, cpu/feat_ctl.c")

_LOCKED, _VMX_OUTSIDE_SMX, _CONTROL_SGX_LC, _CONTROL_SGX = 1, 1 << 2, 1 << 17, 1 << 18
"""Bits of IA32_FEAT_CTL."""

MISC, PRIMARY, SECONDARY, TERTIARY_LOW, TERTIARY_HIGH = range(5)
_VIRTUAL_TPR = bits.VMX_FEATURE_VIRTUAL_TPR.mask
_APIC_ACCESSES, _EPT = bits.VMX_FEATURE_VIRT_APIC_ACCESSES.mask, bits.VMX_FEATURE_EPT.mask
_APIC_REGISTERS, _INTR_DELIVERY = bits.VMX_FEATURE_APIC_REGISTER_VIRT.mask, bits.VMX_FEATURE_VIRT_INTR_DELIVERY.mask
_VIRTUAL_NMIS, _POSTED_INTR = bits.VMX_FEATURE_VIRTUAL_NMIS.mask, bits.VMX_FEATURE_POSTED_INTR.mask
_EPT_AD, _FLEXPRIORITY, _APICV = 1 << 18, 1 << 24, 1 << 25
"""Of the word MISC, whose lower half are the pin-based controls: bits that are Linux' own (asm/vmxfeatures.h)."""
_EPT_BITS = {0: 17, 21: 18, 17: 19, 7: 20}
"""Bits of IA32_VMX_EPT_VPID_CAP and the bits of the word MISC that Linux keeps them in: execute-only, A/D, 1 GB pages, 5 levels."""


def feature_control(cpu: Cpu) -> None:
    """Turn VMX and SGX off where FEAT_CTL has them off; a kernel that finds it unlocked sets it up and locks it."""
    control = cpu.machine.msr(machine.FEAT_CTL)
    if control is None:
        cpu.clear("VMX", NO_MSR)
        cpu.clear("SGX", NO_MSR)
        return
    for_kvm = cpu.has("SGX") and cpu.has("VMX")
    for_driver = cpu.has("SGX") and cpu.has("SGX_LC")
    if not control & _LOCKED:
        control = _LOCKED | _VMX_OUTSIDE_SMX * cpu.has("VMX") | _CONTROL_SGX * (for_kvm or for_driver) | _CONTROL_SGX_LC * for_driver
    cpu.set("MSR_IA32_FEAT_CTL", PRESENT)
    if cpu.has("VMX"):
        if control & _VMX_OUTSIDE_SMX:
            _capabilities(cpu)
        else:
            cpu.clear("VMX", VMX_OFF)
    if not control & _CONTROL_SGX:
        cpu.clear("SGX", SGX_OFF)
    elif not control & _CONTROL_SGX_LC and for_driver:
        cpu.clear("SGX_LC" if for_kvm and cpu.has("VMX") else "SGX", SGX_LC_OFF)


def _capabilities(cpu: Cpu) -> None:
    def msr(index: int) -> int:
        return cpu.machine.msr(index) or 0

    primary, secondary, tertiary = msr(0x482) >> 32, msr(0x48B) >> 32, msr(0x492)
    ept = msr(0x48C)
    misc = msr(0x481) >> 32 & 0xFFFF | (ept >> 32 & 1) << 16 | (msr(0x491) >> 32 & 0xF) << 28
    for source, target in _EPT_BITS.items():
        misc |= (ept >> source & 1) << target
    if primary & _VIRTUAL_TPR:
        if secondary & _APIC_ACCESSES:
            misc |= _FLEXPRIORITY
        if secondary & _APIC_REGISTERS and secondary & _INTR_DELIVERY and misc & _POSTED_INTR:
            misc |= _APICV
    cpu.vmx = [misc, primary, secondary, tertiary & 0xFFFFFFFF, tertiary >> 32]
    for feature, word, mask in _FLAGS:
        if cpu.vmx[word] & mask:
            cpu.set(feature, CAPABILITY)


_FLAGS = (
    ("TPR_SHADOW", PRIMARY, _VIRTUAL_TPR),
    ("FLEXPRIORITY", MISC, _FLEXPRIORITY),
    ("VNMI", MISC, _VIRTUAL_NMIS),
    ("EPT", SECONDARY, _EPT),
    ("EPT_AD", MISC, _EPT_AD),
    ("VPID", MISC, _VIRTUAL_NMIS),  # Linux looks for VPID's bit in the wrong word, where it stands for virtual NMIs
)

FLAGS = frozenset(f"X86_FEATURE_{feature}" for feature, _, _ in _FLAGS)
"""The flags of /proc/cpuinfo that stand for VMX's capabilities where there is VMX. AMD's processors have a bit of CPUID for one, VNMI."""
