"""What the machines of captures/kvm have beside CPUID: the emulators' MSRs, and how the kernels were booted."""

from __future__ import annotations

from support.captures import MITIGATIONS_OFF
from vcpuid.cpuid import Snapshot

# What Bochs's models have of VMX: masks on the allowed-1 halves of the pin-based, primary and secondary controls, and on EPT_VPID_CAP.
VIRTUAL_NMI, PREEMPTION_TIMER, POSTED_INTERRUPTS = 1 << 5, 1 << 6, 1 << 7
TSC_OFFSET, TPR_SHADOW, MONITOR_TRAP = 1 << 3, 1 << 21, 1 << 27
APIC_ACCESSES, EPT, VPID, UNRESTRICTED = 1 << 0, 1 << 1, 1 << 5, 1 << 7
APIC_REGISTERS, INTERRUPT_DELIVERY, PAUSE_LOOP, SHADOW_VMCS = 1 << 8, 1 << 9, 1 << 10, 1 << 14
PML, VIRTUALIZATION_EXCEPTION, MODE_BASED_EXEC, TSC_SCALING, USER_WAIT = 1 << 17, 1 << 18, 1 << 22, 1 << 25, 1 << 26
EXECUTE_ONLY, ONE_GIGABYTE, ACCESSED_DIRTY, INVVPID = 1 << 0, 1 << 17, 1 << 21, 1 << 32

PENRYN = (VIRTUAL_NMI, TSC_OFFSET | TPR_SHADOW, APIC_ACCESSES, 0)
ARRANDALE = (
    PENRYN[0] | PREEMPTION_TIMER,
    PENRYN[1] | MONITOR_TRAP,
    PENRYN[2] | EPT | VPID | UNRESTRICTED,
    EXECUTE_ONLY | INVVPID,
)
CANNON_LAKE = (
    *ARRANDALE[:2],
    ARRANDALE[2] | PAUSE_LOOP | SHADOW_VMCS | VIRTUALIZATION_EXCEPTION | MODE_BASED_EXEC | TSC_SCALING,
    ARRANDALE[3] | ACCESSED_DIRTY,
)
HASWELL = (
    *ARRANDALE[:2],
    ARRANDALE[2] | PAUSE_LOOP | SHADOW_VMCS | VIRTUALIZATION_EXCEPTION | APIC_REGISTERS | INTERRUPT_DELIVERY,
    ARRANDALE[3] | ACCESSED_DIRTY,
)
SKYLAKE = (HASWELL[0] | POSTED_INTERRUPTS, HASWELL[1], HASWELL[2] | PML | MODE_BASED_EXEC | TSC_SCALING, HASWELL[3])
BOCHS = {
    "core2_penryn_t9600": PENRYN,
    "corei5_arrandale_m520": ARRANDALE,
    "corei7_ivy_bridge_3770k": ARRANDALE,
    "corei7_haswell_4770": HASWELL,
    "broadwell_ult": HASWELL,
    "corei3_cnl": CANNON_LAKE,
    "corei7_skylake_x": SKYLAKE,
    "corei7_icelake_u": SKYLAKE,
    "tigerlake": SKYLAKE,
    "arrow_lake": SKYLAKE,
    "sapphire_rapids": SKYLAKE,
}


def environment(name: str, host: Snapshot) -> dict[str, str | int]:
    """Say what the machines of the captures have beside CPUID: one set of parameters for all AMD ones, one for each Bochs model."""
    common: dict[str, str | int] = {**MITIGATIONS_OFF}
    if name.startswith("kvm-amd"):
        return common
    pin, primary, secondary, ept = BOCHS[name.removeprefix("kvm-intel.").split("@")[0].split("-")[0]]
    if host.raw.registers(7).ecx >> 5 & 1:
        secondary |= USER_WAIT
    if ept & ACCESSED_DIRTY and host.raw.registers(0x80000001).edx >> 26 & 1:
        ept |= ONE_GIGABYTE
    return common | {
        "msr.33": "absent",  # TEST_CTRL
        "msr.4e": "absent",  # PPIN_CTL
        "msr.10a": 0x1F,  # ARCH_CAPABILITIES: RDCL_NO, IBRS_ALL, RSBA, SKIP_L1DFL_VMENTRY, SSB_NO
        "msr.140": "absent",  # MISC_FEATURES_ENABLES
        "msr.481": pin << 32,
        "msr.482": primary << 32,
        "msr.48b": secondary << 32,
        "msr.48c": ept,
    }
