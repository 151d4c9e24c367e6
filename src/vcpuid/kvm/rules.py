"""Why KVM shows a CPUID bit or hides it: the rules that need more than a feature's kind.

A `Row` is one kvm_cpu_cap_set, kvm_cpu_cap_clear or kvm_cpu_cap_check_and_set and the `if` around it. To teach vcpuid a new one, add a
row in the place where the kernel has it. `when` lists terms that must all hold:

    npt             a switch of the vendor module is on (`vcpuid.kvm.hardware`)
    host:NAME       the host kernel has the feature (boot_cpu_has)
    bug:NAME        the host kernel knows of the bug (boot_cpu_has_bug)
    cap:NAME        KVM still offers the feature
    !TERM           the contrary

`grant` adds a feature that only the vendor module can offer (VENDOR_F since 6.14): where `when` fails, the row's rule says why the feature
is missing. `set` and `clear` change what the feature's kind gave. Names are the kernel's, without X86_FEATURE_.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_2, BEFORE_RHEL_9_5, UPSTREAM, code_of, number

_COMMON = "kvm_set_cpu_caps, arch/x86/kvm/cpuid.c"
_VMX = "vmx_set_cpu_caps, arch/x86/kvm/vmx/vmx.c"
_SVM = "svm_set_cpu_caps, arch/x86/kvm/svm/svm.c"
_SEV = "sev_set_cpu_caps, arch/x86/kvm/svm/sev.c"

NOT_LISTED = Rule("kvm.caps.not-listed", "KVM does not list this feature, so guests cannot have it", _COMMON)
NOT_YET = {
    newer: Rule(
        f"kvm.caps.not-before-{newer}", f"KVM of this kernel does not list this feature; Linux {newer} does", _COMMON,
        remedy=f"run Linux {newer} or newer on the host", until=older,
    )
    for older, newer in pairwise(UPSTREAM)
}  # fmt: skip
"""By the first release, of those with tables, in which KVM offers the feature."""
HOST_KERNEL = Rule(
    "kvm.caps.host-kernel",
    "the host kernel does not use this feature of the CPU, and KVM offers only what the host kernel has",
    _COMMON,
    remedy="see why Linux dropped it: its command line, its configuration, or a feature that it depends on",
)
EMULATED = Rule("kvm.caps.emulated", "KVM emulates it in software, whatever the CPU has", _COMMON)
SYNTHESIZED = Rule(
    "kvm.caps.synthesized", "the host kernel knows the CPU to behave so, though CPUID does not say it", _COMMON, since="5.15"
)
CLAIMED = Rule("kvm.caps.claimed", "this KVM offers it on every CPU, whatever the host kernel uses", _COMMON, since="6.16", until="6.19")
RUNTIME = Rule("kvm.caps.runtime", "KVM does not offer it: it follows the guest's own registers at run time", _COMMON)
OTHER_VENDOR = Rule("kvm.caps.vendor", "a vendor module of KVM must offer it, and the one for this CPU does not", _COMMON)

_SHADOW_PKU = Rule("kvm.caps.pku-shadow", "KVM's shadow paging does not do protection keys", _COMMON, remedy="load KVM with ept or npt on")
_PKU_OFF = Rule("kvm.caps.pku-host", "protection keys are off in the host kernel", _COMMON, remedy="boot the host without nopku")
_SHADOW_CET = Rule("kvm.caps.shstk-shadow", "KVM's shadow paging does not do shadow stacks", _COMMON, "load KVM with ept or npt on", "6.18")
_MAXPHYADDR = Rule(
    "kvm.caps.cet-maxphyaddr",
    "KVM may have to emulate accesses to reserved addresses, and its emulator does no control-flow enforcement",
    _COMMON, "load KVM with ept or npt on and allow_smaller_maxphyaddr off", "6.18",
)  # fmt: skip
_GBPAGES = Rule("kvm.caps.gbpages", "KVM's shadow paging does 1 GiB pages itself", _COMMON)
_SPEC_CTRL_61 = Rule("kvm.caps.spec-ctrl", "the host has IBRS and IBPB, which Intel's bit announces together", _COMMON, until="6.12")
_SPEC_CTRL = Rule(
    "kvm.caps.spec-ctrl-amd", "the host has AMD's IBRS and a full IBPB, which Intel's bit announces together", _COMMON, since="6.14"
)
_INTEL_STIBP = Rule("kvm.caps.intel-stibp", "the host has STIBP; KVM shows it in Intel's place too", _COMMON)
_INTEL_SSBD = Rule("kvm.caps.intel-ssbd", "the host has AMD's SSBD; KVM shows it in Intel's place too", _COMMON)
_AMD_IBPB = Rule("kvm.caps.amd-ibpb", "the host has IBPB; KVM shows it in AMD's place too", _COMMON)
_AMD_IBPB_RET = Rule(
    "kvm.caps.amd-ibpb-ret", "the host's IBPB flushes return predictions too; KVM shows it in AMD's place", _COMMON, since="6.14"
)
_AMD_IBRS = Rule("kvm.caps.amd-ibrs", "the host has IBRS; KVM shows it in AMD's place too", _COMMON)
_AMD_STIBP = Rule("kvm.caps.amd-stibp", "the host has STIBP; KVM shows it in AMD's place too", _COMMON)
_AMD_SSBD = Rule("kvm.caps.amd-ssbd", "the host has Intel's SSBD; KVM shows it in AMD's place too", _COMMON)
_SSB_NO = Rule("kvm.caps.ssb-no", "the host kernel knows the CPU to be free of speculative store bypass", _COMMON)
_VIRT_SSBD = Rule("kvm.caps.virt-ssbd", "the host switches SSBD by its LS_CFG register; KVM gives guests a virtual switch", _COMMON)
_NULL_SEG = Rule("kvm.caps.null-seg", "the host kernel knows that loading a null selector clears the segment's base", _COMMON, since="5.15")

_VMX_ABSENT = Rule(
    "kvm.vmx.absent", "Linux has no VMX that it may use, and kvm_intel does not load without it",
    "kvm_is_vmx_supported, arch/x86/kvm/vmx/vmx.c (6.1: vmx_disabled_by_bios)",
    remedy="switch VT-x on in the firmware; where the host is a guest, give it vmx",
)  # fmt: skip
_VMX_NESTED = Rule("kvm.vmx.nested", "KVM hides it: nested virtualization is off", _VMX, remedy="load kvm_intel with nested=1")
_VMX_MPX = Rule("kvm.vmx.mpx", "VMX cannot switch the MPX state, or the host kernel has no MPX", _VMX)
_VMX_INVPCID = Rule("kvm.vmx.invpcid", "VMX does not let guests execute INVPCID", _VMX)
_VMX_PT = Rule(
    "kvm.vmx.pt", "Intel PT is the host's alone: pt_mode is 0, or EPT, the PMU or VMX's part of it is missing", _VMX,
    remedy="load kvm_intel with pt_mode=1",
)  # fmt: skip
_VMX_PEBS = Rule("kvm.vmx.pebs", "perf cannot run a guest's PEBS on this CPU", _VMX, since="6.1")
_VMX_PDCM = Rule(
    "kvm.vmx.pdcm", "KVM hides it: it has no PMU to offer", _VMX, "load kvm with enable_pmu=1, on a host with a PMU", since="6.1"
)
_VMX_SGX = Rule(
    "kvm.vmx.sgx", "KVM hides it: SGX is off in KVM or VMX cannot intercept ENCLS", _VMX, "load kvm_intel with sgx=1", since="5.15"
)
_VMX_UMIP = Rule("kvm.vmx.umip", "KVM emulates UMIP with VMX's intercept of descriptor-table instructions", _VMX)
_VMX_XSAVES = Rule("kvm.vmx.xsaves", "VMX does not let guests execute XSAVES", _VMX)
_VMX_RDTSCP = Rule("kvm.vmx.rdtscp", "VMX does not let guests execute RDTSCP and RDPID", _VMX)
_VMX_WAITPKG = Rule("kvm.vmx.waitpkg", "VMX does not let guests execute TPAUSE and UMWAIT", _VMX)
_VMX_CET = Rule(
    "kvm.vmx.cet", "VMX cannot switch the control-flow enforcement state, or kvm_intel's parameter cet is off", _VMX,
    remedy="load kvm_intel with cet=1, on Linux 7.1 or newer", since="6.18",
)  # fmt: skip
_VMX_CET_GUEST = Rule(
    "kvm.vmx.cet-guest", "KVM's emulator does no control-flow enforcement, and without unrestricted guests it must emulate", _VMX,
    remedy="load kvm_intel with unrestricted_guest=1", since="6.18",
)  # fmt: skip
_VMX_CET_CODE = Rule("kvm.vmx.cet-error-code", "VMX cannot inject a control-protection fault with its error code", _VMX, since="6.18")

_SVM_IBT = Rule("kvm.svm.ibt", "AMD's CPUs have no indirect-branch tracking to offer", _SVM, since="6.18")
_SVM_ABSENT = Rule(
    "kvm.svm.absent", "Linux has no SVM that it may use, and kvm_amd does not load without it",
    "kvm_is_svm_supported, arch/x86/kvm/svm/svm.c (6.1: has_svm)",
    remedy="switch AMD-V on in the firmware; where the host is a guest, give it svm",
)  # fmt: skip
_SVM_NESTED = Rule(
    "kvm.svm.nested", "AMD-V features follow nested virtualization: shown where it is on, hidden where it is off", _SVM,
    remedy="load kvm_amd with nested=1",
)  # fmt: skip
_SVM_PART = Rule(
    "kvm.svm.nested-part", "KVM hides it: nested virtualization is off, or the host does not use the feature itself", _SVM,
    remedy="load kvm_amd with nested=1 and the parameter of that feature on",
)  # fmt: skip
_SVM_NPT = Rule("kvm.svm.npt", "KVM hides it: npt is off, or nested virtualization is", _SVM, remedy="load kvm_amd with npt=1 and nested=1")
_SVM_VIRT_SSBD = Rule("kvm.svm.virt-ssbd", "KVM gives AMD guests a virtual switch for SSBD, on top of the host's", _SVM)
_SVM_INVPCID = Rule("kvm.svm.invpcid", "the host kernel does not use INVPCID, so that KVM does not offer it either", _SVM, until="5.10")
_SVM_PERFCTR = Rule(
    "kvm.svm.perfctr-core", "KVM hides it: it has no PMU with six counters to offer", _SVM,
    remedy="load kvm with enable_pmu=1, on a host with a PMU", since="6.1",
)  # fmt: skip
_SVM_PERFMON = Rule("kvm.svm.perfmon-v2", "perf's PMU is not of the second version", _SVM, since="6.6")
_SVM_BUS_LOCK = Rule("kvm.svm.bus-lock", "AMD-V does not carry bus-lock traps into guests", _SVM, since="5.15")
_SVM_MSR_IMM = Rule("kvm.svm.msr-imm", "KVM does not virtualize it on AMD", _SVM, since="6.18")
_SEV_OFF = Rule(
    "kvm.sev.off", "KVM hides it: memory encryption for guests is off or cannot be set up here", _SEV,
    remedy="load kvm_amd with sev=1, sev_es=1, sev_snp=1 and npt=1, on a host whose firmware has ASIDs for it", since="5.15",
)  # fmt: skip

XSS = Rule(
    "kvm.caps.cet-xss", "the host kernel does not save the state of control-flow enforcement",
    "kvm_setup_xss_caps, arch/x86/kvm/x86.c", since="6.18",
)  # fmt: skip
"""Applied by `vcpuid.kvm.xstate`, after all rows."""


class Row(NamedTuple):
    """One conditional change of features; `since` and `until` are the first and last kernel that has it.

    `lacking` are those distributions' kernels between that do not have it, and `also` those outside that do.
    """

    action: Literal["set", "clear", "grant"]
    features: str
    when: str
    rule: Rule
    since: str = UPSTREAM[0]
    until: str | None = None
    lacking: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def in_force(self, kernel: str) -> bool:
        """Whether a kernel release has the row."""
        if kernel in self.lacking or kernel in self.also:
            return kernel in self.also
        code = number(code_of(kernel))
        return number(self.since) <= code and (self.until is None or code <= number(self.until))


COMMON = (
    Row("clear", "PKU", "!tdp", _SHADOW_PKU),
    Row("clear", "PKU", "!host:OSPKE", _PKU_OFF),
    Row("clear", "SHSTK", "!tdp", _SHADOW_CET, "6.18"),
    Row("clear", "SHSTK IBT", "smaller_maxphyaddr", _MAXPHYADDR, "6.18"),
    Row("set", "SPEC_CTRL", "host:IBPB host:IBRS", _SPEC_CTRL_61, until="6.12"),
    Row("set", "SPEC_CTRL", "host:AMD_IBPB_RET host:AMD_IBPB host:AMD_IBRS", _SPEC_CTRL, "6.14"),
    Row("set", "INTEL_STIBP", "host:STIBP", _INTEL_STIBP),
    Row("set", "SPEC_CTRL_SSBD", "host:AMD_SSBD", _INTEL_SSBD),
    Row("set", "GBPAGES", "!tdp", _GBPAGES),
    Row("set", "AMD_IBPB", "host:IBPB", _AMD_IBPB),
    Row("set", "AMD_IBPB_RET", "host:IBPB host:SPEC_CTRL !bug:EIBRS_PBRSB", _AMD_IBPB_RET, "6.14"),
    Row("set", "AMD_IBRS", "host:IBRS", _AMD_IBRS),
    Row("set", "AMD_STIBP", "host:STIBP", _AMD_STIBP),
    Row("set", "AMD_SSBD", "host:SPEC_CTRL_SSBD", _AMD_SSBD),
    Row("set", "AMD_SSB_NO", "!bug:SPEC_STORE_BYPASS", _SSB_NO),
    Row("set", "VIRT_SSBD", "host:LS_CFG_SSBD !host:AMD_SSBD", _VIRT_SSBD),
    Row("set", "NULL_SEL_CLR_BASE", "!bug:NULL_SEG", _NULL_SEG, "5.15"),
)
"""kvm_set_cpu_caps, since 7.1 kvm_initialize_cpu_caps (arch/x86/kvm/cpuid.c).

Its last check, which hides RDTSCP and RDPID where MSR_TSC_AUX cannot be written, is for broken hypervisors below and not modelled.
"""

INTEL = (
    Row("clear", "VMX", "!host:VMX", _VMX_ABSENT),
    Row("grant", "VMX", "nested host:VMX", _VMX_NESTED),
    Row("grant", "MPX", "vmx.mpx host:MPX", _VMX_MPX),
    Row("grant", "INVPCID", "vmx.invpcid host:INVPCID", _VMX_INVPCID, until="5.10"),
    Row("clear", "INVPCID", "!vmx.invpcid", _VMX_INVPCID, "5.15"),
    Row("grant", "INTEL_PT", "pt_guest host:INTEL_PT", _VMX_PT),
    Row("grant", "DS", "pebs host:DS", _VMX_PEBS, "6.1", lacking=("4.18", *BEFORE_RHEL_9_2)),
    Row("grant", "DTES64", "pebs host:DTES64", _VMX_PEBS, "6.1", lacking=("4.18", *BEFORE_RHEL_9_2)),
    Row("clear", "PDCM", "!pmu", _VMX_PDCM, "6.1", lacking=("4.18", *BEFORE_RHEL_9_2)),
    Row("clear", "SGX SGX_LC SGX1 SGX2", "!sgx", _VMX_SGX, "5.15"),
    Row("clear", "SGX_EDECCSSA", "!sgx", _VMX_SGX, "6.12"),
    Row("set", "UMIP", "!host:UMIP vmx.desc", _VMX_UMIP),
    Row("clear", "XSAVES", "!vmx.xsaves", _VMX_XSAVES),
    Row("clear", "RDTSCP RDPID", "!vmx.rdtscp", _VMX_RDTSCP),
    Row("grant", "WAITPKG", "vmx.waitpkg host:WAITPKG", _VMX_WAITPKG),
    Row("clear", "SHSTK IBT", "!cet", _VMX_CET, "6.18"),
    Row("clear", "SHSTK IBT", "!unrestricted_guest", _VMX_CET_GUEST, "6.18"),
    Row("clear", "SHSTK IBT", "!vmx.no_hw_error_code", _VMX_CET_CODE, "6.18"),
)
"""vmx_set_cpu_caps (arch/x86/kvm/vmx/vmx.c), after the test for VMX with which kvm_intel begins to load."""

_SVM_FEATURES = "SVM VMCBCLEAN SVME_ADDR_CHK NRIPS NPT TSCRATEMSR V_VMSAVE_VMLOAD LBRV PAUSEFILTER PFTHRESHOLD VGIF"

AMD = (
    Row("clear", "IBT", "", _SVM_IBT, "6.18"),
    Row("clear", _SVM_FEATURES, "!host:SVM", _SVM_ABSENT),
    Row("clear", "VNMI", "!host:SVM", _SVM_ABSENT, "6.6"),
    Row("clear", "FLUSHBYASID", "!host:SVM", _SVM_ABSENT, "6.8"),
    Row("clear", "GMET", "!host:SVM", _SVM_ABSENT, "7.2"),
    Row("grant", "SVM", "nested host:SVM", _SVM_NESTED),
    Row("grant", "SVME_ADDR_CHK", "nested host:SVM", _SVM_NESTED, "5.15"),
    Row("grant", "VMCBCLEAN", "nested host:SVM", _SVM_NESTED, "6.1"),
    Row("grant", "FLUSHBYASID", "nested host:SVM", _SVM_NESTED, "6.8"),
    Row("grant", "NRIPS", "nested host:SVM nrips", _SVM_PART),
    Row("grant", "NPT", "nested host:SVM npt", _SVM_NPT),
    Row("grant", "TSCRATEMSR", "nested host:SVM tsc_scaling", _SVM_PART, "6.1"),
    Row("grant", "V_VMSAVE_VMLOAD", "nested host:SVM vls", _SVM_PART, "6.1"),
    Row("grant", "LBRV", "nested host:SVM lbrv", _SVM_PART, "6.1"),
    Row("grant", "PAUSEFILTER", "nested host:SVM host:PAUSEFILTER", _SVM_PART, "6.1", lacking=BEFORE_RHEL_9_2),
    Row("grant", "PFTHRESHOLD", "nested host:SVM host:PFTHRESHOLD", _SVM_PART, "6.1", lacking=BEFORE_RHEL_9_2),
    Row("grant", "GMET", "nested host:SVM gmet", _SVM_PART, "7.2"),
    Row("grant", "VGIF", "nested host:SVM vgif", _SVM_PART, "6.1", lacking=("4.18", *BEFORE_RHEL_9_2)),
    Row("grant", "VNMI", "nested host:SVM vnmi", _SVM_PART, "6.6"),
    Row("grant", "INVPCID", "host:INVPCID", _SVM_INVPCID, until="5.10"),
    Row("set", "VIRT_SSBD", "host:LS_CFG_SSBD", _SVM_VIRT_SSBD),
    Row("set", "VIRT_SSBD", "host:AMD_SSBD", _SVM_VIRT_SSBD),
    Row("grant", "PERFCTR_CORE", "pmu host:PERFCTR_CORE", _SVM_PERFCTR, "6.1", "6.1"),
    Row("grant", "PERFCTR_CORE", "pmu core_counters host:PERFCTR_CORE", _SVM_PERFCTR, "6.6"),
    Row("clear", "PERFMON_V2", "pmu !pmu_v2", _SVM_PERFMON, "6.6"),
    Row("clear", "PERFMON_V2", "pmu !cap:PERFCTR_CORE", _SVM_PERFMON, "6.6"),
    Row("grant", "SEV", "sev", _SEV_OFF, "5.15"),
    Row("grant", "SEV_ES", "sev_es", _SEV_OFF, "5.15"),
    Row("grant", "SEV_SNP", "sev_snp", _SEV_OFF, "6.12", also=("5.14-el9_5",)),
    Row("clear", "BUS_LOCK_DETECT", "", _SVM_BUS_LOCK, "5.15", "6.6", lacking=BEFORE_RHEL_9_5),
    Row("clear", "BUS_LOCK_DETECT", "", _SVM_BUS_LOCK, "6.12"),  # Ubuntu's 6.8 of November 2024 had not taken it over
    Row("clear", "MSR_IMM", "", _SVM_MSR_IMM, "6.18"),
)
"""svm_set_cpu_caps and sev_set_cpu_caps (arch/x86/kvm/svm/svm.c and sev.c), after the test for SVM with which kvm_amd begins to load."""

ROWS = {"kvm_intel": (*COMMON, *INTEL), "kvm_amd": (*COMMON, *AMD)}
"""Every row of a vendor module, in the order in which the kernel comes to them."""
