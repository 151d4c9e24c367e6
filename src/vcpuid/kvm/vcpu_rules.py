"""Why a vCPU's table is not the one it was given, and why the guest reads something else again."""

from __future__ import annotations

from vcpuid.reasons import Rule
from vcpuid.releases import REBUILT

_SET = "kvm_update_cpuid_runtime, arch/x86/kvm/cpuid.c"

OSXSAVE = Rule(
    "kvm.vcpu.osxsave",
    "OSXSAVE follows the guest's CR4.OSXSAVE, whatever the VMM wrote there",
    _SET,
    remedy="give the guest xsave, and boot it without noxsave: its kernel then sets CR4.OSXSAVE",
)
APIC = Rule(
    "kvm.vcpu.apic",
    "the APIC bit follows the global enable of the guest's IA32_APIC_BASE",
    _SET,
)
MWAIT = Rule(
    "kvm.vcpu.mwait",
    "MWAIT follows the guest's IA32_MISC_ENABLE, because the VMM turned KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT off",
    _SET,
    remedy="set bit 18 of the guest's IA32_MISC_ENABLE, or leave the quirk on",
)
OSPKE = Rule(
    "kvm.vcpu.ospke",
    "OSPKE follows the guest's CR4.PKE, whatever the VMM wrote there",
    _SET,
    remedy="give the guest pku, and boot it without nopku: its kernel then sets CR4.PKE",
)
XSAVE_SIZE = Rule(
    "kvm.vcpu.xsave-size",
    "the size of the XSAVE area is that of the features on in the guest's XCR0 now",
    _SET,
)
XSAVES_SIZE = Rule(
    "kvm.vcpu.xsaves-size",
    "the size of the compacted XSAVE area is that of the features on in the guest's XCR0 (and, since 6.18, IA32_XSS) now",
    _SET,
)
PV_UNHALT = Rule(
    "kvm.vcpu.pv-unhalt",
    "a guest that halts without exits cannot be kicked awake, so KVM takes its PV unhalt away",
    "kvm_apply_cpuid_pv_features_quirk (before 6.14: __kvm_update_cpuid_runtime), arch/x86/kvm/cpuid.c",
    remedy="keep HLT exits: in QEMU, cpu-pm=off",
)
SGX_XFRM = Rule(
    "kvm.vcpu.sgx-xfrm",
    "an enclave may use only those XSAVE features that the guest itself may use, x87 and SSE always among them",
    "__kvm_update_cpuid_runtime (5.15: kvm_vcpu_after_set_cpuid), arch/x86/kvm/cpuid.c",
    since="5.15",
    until="6.1",
)
INVPCID_WITHOUT_PCID = Rule(
    "kvm.vcpu.invpcid-without-pcid",
    "kvm_intel takes INVPCID from a guest without PCID, in which it would fault in the wrong way",
    "vmx_compute_secondary_exec_control, arch/x86/kvm/vmx/vmx.c",
    remedy="give the guest pcid",
    until="5.10",
)

FIRST_MATCH = Rule(
    "kvm.lookup.first-match",
    "an earlier entry of the same leaf answers for every sub-leaf, so this one is never read",
    "cpuid_entry2_find (kvm_find_cpuid_entry2 in 6.16, not in 6.14), arch/x86/kvm/cpuid.c",
    remedy="give the earlier entry KVM_CPUID_FLAG_SIGNIFCANT_INDEX, or drop one of the two",
)
TSX_HIDDEN = Rule(
    "kvm.lookup.tsx-hidden",
    "the guest's IA32_TSX_CTRL hides TSX from CPUID",
    "kvm_cpuid, arch/x86/kvm/cpuid.c",
)
INVTSC_HIDDEN = Rule(
    "kvm.lookup.invtsc-hidden",
    "a Hyper-V guest sees the invariant TSC only once it has asked for it in HV_X64_MSR_TSC_INVARIANT_CONTROL",
    "kvm_cpuid, arch/x86/kvm/cpuid.c; kvm_hv_invtsc_suppressed, arch/x86/kvm/hyperv.h",
    remedy="set bit 0 of that MSR in the guest, or leave hv-tsc-invariant off in QEMU",
    since="6.6",
)
XEN_TIME = Rule(
    "kvm.vcpu.xen-time",
    "Xen's time leaf tells the guest's TSC frequency as KVM knows it",
    "kvm_xen_update_tsc_info, arch/x86/kvm/xen.c; in 6.16, not in 6.14: kvm_cpuid, arch/x86/kvm/cpuid.c",
    since="6.6",
    until="7.2",
    lacking=tuple(REBUILT),
)
