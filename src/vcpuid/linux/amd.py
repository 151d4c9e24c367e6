"""What Linux knows of AMD's and Hygon's processors beyond CPUID (arch/x86/kernel/cpu/amd.c, hygon.c)."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.linux import machine, zen
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_ITS, BEFORE_RHEL_9_3, BEFORE_RHEL_9_4

EARLY, BSP, INIT = "early_init_amd, cpu/amd.c", "bsp_init_amd, cpu/amd.c", "init_amd, cpu/amd.c"
K8 = Rule("linux.amd.k8", "the family is K8 or a later one", EARLY)
INVARIANT_TSC = Rule("linux.amd.invariant-tsc", "leaf 0x80000007 says that the TSC runs at a constant rate and never stops", EARLY)
POWER = Rule("linux.amd.power", "leaf 0x80000007 announces this power interface", EARLY)
SYSCALL = Rule("linux.amd.syscall32", "a 64-bit kernel takes 32-bit system calls by SYSCALL on AMD", EARLY)
EXTENDED_APICID = Rule("linux.amd.extd-apicid", "APIC IDs of this family have 8 bits", EARLY)
NORTHBRIDGE_APICID = Rule(
    "linux.amd.extd-apicid-northbridge",
    "the northbridge says that APIC IDs have 8 bits; a guest without one reads all ones there, which says the same",
    f"{EARLY}: register 0x68 of PCI device 00:18.0",
)
VMMCALL = Rule("linux.amd.vmmcall", "AMD's hypercall is VMMCALL", EARLY)
NO_ENCRYPTION = Rule(
    "linux.amd.encryption-off",
    "the firmware did not enable memory encryption in SYSCFG",
    "early_detect_mem_encrypt, cpu/amd.c",
    "enable SMEE in the firmware",
)
SME_UNUSED = Rule(
    "linux.amd.sme-unused",
    "this kernel does not encrypt its own memory",
    "early_detect_mem_encrypt, cpu/amd.c",
    "boot with mem_encrypt=on",
    since="6.1",
    lacking=("4.18", *BEFORE_RHEL_9_4),
)
SMM_UNLOCKED = Rule("linux.amd.smm-unlocked", "SEV needs SMM locked by the firmware (HWCR)", "early_detect_mem_encrypt, cpu/amd.c")
NO_SNP = Rule(
    "linux.amd.no-snp-host",
    "Linux cannot be an SNP host here: it runs as a guest, or without a reverse map table that it knows",
    "bsp_determine_snp, cpu/amd.c",
    since="6.12",
    also=("5.14-el9_5",),
)
BRTYPE = Rule("linux.amd.ibpb-brtype", "IBPB flushes branch type predictions too on this family", EARLY, since="6.6", also=("4.18",))
SSBD_BY_MSR = Rule("linux.amd.ls-cfg-ssbd", "speculative store bypass can be turned off in LS_CFG", BSP)
GP_ON_CPUID = Rule("linux.amd.cpuid-fault", "{cause} lets CPUID fault in user mode", BSP, since="6.17")
NO_PBE = Rule("linux.amd.no-pbe", "bit 31 stood for 3DNow! on old AMD processors", INIT, until="6.19")
REP_GOOD = Rule("linux.amd.rep-good", "string instructions are fast on this family", INIT)
FSRS = Rule("linux.amd.fsrs", "on AMD, {cause} covers STOSB as well", INIT, since="6.6", lacking=("5.14-el9_3",))
NO_MCE = Rule("linux.amd.no-mce", "K6 reports machine checks without the MSRs for them", INIT)
LAHF = Rule("linux.amd.erratum-110", "erratum 110: the firmware forced it on a K8 that lacks it", "init_amd_k8, cpu/amd.c")
K8_SWAPGS = Rule("linux.amd.k8-swapgs", "K8 speculates past SWAPGS", "init_amd_k8, cpu/amd.c")
E400 = Rule("linux.amd.erratum-400", "erratum 400: the APIC timer stops in C1E", "init_amd_k8 and init_amd_gh, cpu/amd.c")
E383 = Rule("linux.amd.erratum-383", "erratum 383: TLB entries may multiply match", "init_amd_gh, cpu/amd.c")
FXSAVE_LEAK = Rule("linux.amd.fxsave-leak", "without XSAVEERPTR, FXSAVE leaks the last FPU instruction's address", INIT)
SVM_OFF = Rule(
    "linux.amd.svm-off", "the firmware turned SVM off in VM_CR", INIT, "enable SVM in the firmware", since="6.8", also=("5.14-el9_4",)
)
LFENCE = Rule("linux.amd.lfence", "Linux makes LFENCE serializing, so that it orders RDTSC", INIT)
ARAT = Rule("linux.amd.arat", "the APIC timer of this family runs in deep C-states", INIT)
PREFETCHW = Rule("linux.amd.prefetchw", "{cause} implies PREFETCHW", INIT)
SYSRET = Rule("linux.amd.sysret-ss", "SYSRET does not reset the attributes of SS on AMD", INIT)
NULL_SEGMENT = Rule(
    "linux.amd.null-segment", "loading a null selector may not clear the segment's base", "check_null_seg_clears_base, cpu/common.c"
)
NO_APIC_FENCE = Rule("linux.amd.apic-fence", "AMD needs no fence after writes of x2APIC MSRs", INIT, since="5.15")
HYGON_CPB = Rule("linux.hygon.cpb", "Hygon processors have core performance boost", "init_hygon, cpu/hygon.c")

HYGON_XSAVES = Rule(
    "linux.hygon.erratum-1386", "Hygon's cores are Zen 1's, on which XSAVES loses state", "init_spectral_chicken, cpu/amd.c", until="6.1",
    lacking=BEFORE_RHEL_9_3,
)  # fmt: skip


def early_init(cpu: Cpu) -> None:
    """Do what early_init_amd, or early_init_hygon, does."""
    cpu.microcode = (cpu.machine.msr(machine.MICROCODE) or 0) & 0xFFFFFFFF
    if cpu.family >= 0xF:
        cpu.set("K8", K8)
    if cpu.power & bits.CONSTANT_TSC.mask:
        cpu.set("CONSTANT_TSC", INVARIANT_TSC)
        cpu.set("NONSTOP_TSC", INVARIANT_TSC)
    if cpu.power & bits.ACC_POWER.mask:
        cpu.set("ACC_POWER", POWER)
    if cpu.power & bits.RAPL.mask:
        cpu.set("RAPL", POWER)
    cpu.set("SYSCALL32", SYSCALL)
    if cpu.has("APIC") and cpu.family >= 0xF:
        # Up to family 0x16 Linux reads register 0x68 of PCI device 00:18.0, which is in no snapshot. Where there is no such device, as in
        # QEMU's guests, it reads all ones; on hardware the firmware of all but the first K8s sets the two bits.
        cpu.set("EXTD_APICID", EXTENDED_APICID if cpu.family > 0x16 else NORTHBRIDGE_APICID)
    cpu.set("VMMCALL", VMMCALL)
    if cpu.vendor == "hygon":
        return
    if cpu.has("SME") or cpu.has("SEV"):
        _memory_encryption(cpu)
    if not cpu.has("HYPERVISOR") and not cpu.has("IBPB_BRTYPE"):
        if cpu.family == 0x17 and cpu.has("AMD_IBPB"):
            cpu.force("IBPB_BRTYPE", BRTYPE)
        elif cpu.family >= 0x19 and (cpu.machine.msr(machine.PRED_CMD) or 0) & machine.PRED_CMD_SBPB:
            cpu.force("IBPB_BRTYPE", BRTYPE)
            cpu.force("SBPB", BRTYPE)


def _memory_encryption(cpu: Cpu) -> None:
    encrypted = (cpu.machine.msr(machine.SYSCFG) or 0) >> 23 & 1
    if not encrypted:
        cpu.drop("SME", NO_ENCRYPTION)
        rule = NO_ENCRYPTION
    else:
        cpu.phys_bits -= cpu.leaf(0x8000001F).ebx >> 6 & 0x3F
        if cpu.machine.option("mem_encrypt") != "on":
            cpu.drop("SME", SME_UNUSED)
        if (cpu.machine.msr(machine.K7_HWCR) or 0) & 1:
            return
        rule = SMM_UNLOCKED
    for feature in ("SEV", "SEV_ES", "SEV_SNP"):
        if feature != "SEV_SNP" or cpu.since("6.12") or cpu.is_release("5.14-el9_5"):
            cpu.drop(feature, rule)


def bsp_init(cpu: Cpu) -> None:
    """Do what bsp_init_amd, or bsp_init_hygon, does."""
    hygon = cpu.vendor == "hygon"
    has_control = cpu.has("AMD_SSBD") or cpu.has("VIRT_SSBD")
    if not has_control and (hygon or 0x15 <= cpu.family <= 0x17) and cpu.machine.msr(machine.LS_CFG) is not None:
        cpu.force("LS_CFG_SSBD", SSBD_BY_MSR)
        cpu.force("SSBD", SSBD_BY_MSR)
    if hygon:
        return
    zen.identify(cpu)
    if cpu.has("SEV_SNP") and not _can_host_snp(cpu):
        cpu.drop("SEV_SNP", NO_SNP)
    zen.transient_scheduler_attacks(cpu)
    if cpu.has("GP_ON_USER_CPUID"):
        cpu.force("CPUID_FAULT", GP_ON_CPUID, "GP_ON_USER_CPUID")


def _can_host_snp(cpu: Cpu) -> bool:
    """Tell whether Linux knows the layout of the reverse map table and the firmware made one (bsp_determine_snp)."""
    known = any(map(cpu.has, ("ZEN3", "ZEN4", "RMPREAD"))) if cpu.since("6.14") else cpu.family >= 0x19
    return known and not cpu.has("HYPERVISOR") and bool(cpu.machine.msr(machine.RMP_END))


def init(cpu: Cpu) -> None:
    """Do what init_amd, or init_hygon, does after the early part."""
    cpu.clear("PBE", NO_PBE)
    if cpu.family >= 0x10:
        cpu.set("REP_GOOD", REP_GOOD)
    if cpu.vendor == "hygon":
        cpu.set("ZEN", zen.ZEN)
        cpu.set("CPB", HYGON_CPB)
        cpu.clear("XSAVES", HYGON_XSAVES)
    else:
        _by_family(cpu)
        if cpu.family >= 6 and not cpu.has("XSAVEERPTR"):
            cpu.set_bug("FXSAVE_LEAK", FXSAVE_LEAK)
    if cpu.has("SVM") and (cpu.machine.msr(machine.VM_CR) or 0) >> 4 & 1:
        cpu.clear("SVM", SVM_OFF)
    if cpu.has("XMM2"):
        cpu.set("LFENCE_RDTSC", LFENCE)
    if cpu.family > 0x11:
        cpu.set("ARAT", ARAT)
    if cpu.vendor == "amd":
        for cause in ("3DNOW", "LM"):
            if cpu.has(cause):
                cpu.set("3DNOWPREFETCH", PREFETCHW, cause)
    cpu.set_bug("SYSRET_SS_ATTRS", SYSRET)
    _null_segment(cpu)
    cpu.clear("APIC_MSRS_FENCE", NO_APIC_FENCE)


def _by_family(cpu: Cpu) -> None:
    if cpu.has("FSRM"):
        cpu.set("FSRS", FSRS, "FSRM")
    family, model = cpu.family, cpu.model
    if family < 6:
        cpu.clear("MCE", NO_MCE)
    elif family == 0xF:
        _k8(cpu)
    elif family == 0x10:
        cpu.set_bug("AMD_TLB_MMATCH", E383)
        if (model, cpu.stepping) >= (2, 1):
            cpu.set_bug("AMD_E400", E400)
    zen.init(cpu)


def _k8(cpu: Cpu) -> None:
    level = cpu.leaf(1).eax
    if 0x0F48 <= level < 0x0F50 or level >= 0x0F58:
        cpu.set("REP_GOOD", REP_GOOD)
    if cpu.model < 0x14 and (not cpu.has("HYPERVISOR") or cpu.is_release(*BEFORE_ITS)):
        cpu.clear("LAHF_LM", LAHF)
    cpu.set_bug("SWAPGS_FENCE", K8_SWAPGS)
    if (cpu.model, cpu.stepping) >= (0x41, 2):
        cpu.set_bug("AMD_E400", E400)


def _null_segment(cpu: Cpu) -> None:
    announced = cpu.extended_level >= 0x80000021 and cpu.leaf(0x80000021).eax & bits.NULL_SEL_CLR_BASE.mask
    measured = not cpu.has("HYPERVISOR") and cpu.family in (0x17, 0x18) and cpu.model >= 0x30  # Zen 2 clears it, and does not say so
    if not announced and not measured:
        cpu.set_bug("NULL_SEG", NULL_SEGMENT)
