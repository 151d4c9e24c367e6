"""What Linux knows of AMD's and Hygon's processors beyond CPUID (arch/x86/kernel/cpu/amd.c, hygon.c)."""

from __future__ import annotations

from vcpuid.linux import machine
from vcpuid.linux.cpu import Cpu
from vcpuid.path.decisions import Rule

EARLY, BSP, INIT = "early_init_amd, cpu/amd.c", "bsp_init_amd, cpu/amd.c", "init_amd, cpu/amd.c"
MICROCODE = "Update the microcode"
K8 = Rule("linux.amd.k8", "The family is K8 or a later one", EARLY)
INVARIANT_TSC = Rule("linux.amd.invariant-tsc", "Leaf 0x80000007 says that the TSC runs at a constant rate and never stops", EARLY)
POWER = Rule("linux.amd.power", "Leaf 0x80000007 announces this power interface", EARLY)
SYSCALL = Rule("linux.amd.syscall32", "A 64-bit kernel takes 32-bit system calls by SYSCALL on AMD", EARLY)
EXTENDED_APICID = Rule("linux.amd.extd-apicid", "APIC IDs of this family have 8 bits", EARLY)
VMMCALL = Rule("linux.amd.vmmcall", "AMD's hypercall is VMMCALL", EARLY)
NO_ENCRYPTION = Rule(
    "linux.amd.encryption-off",
    "The firmware did not enable memory encryption in SYSCFG",
    "early_detect_mem_encrypt, cpu/amd.c",
    "Enable SMEE in the firmware",
)
SME_UNUSED = Rule(
    "linux.amd.sme-unused", "This kernel does not encrypt its own memory", "early_detect_mem_encrypt, cpu/amd.c", "Boot with mem_encrypt=on"
)
SMM_UNLOCKED = Rule("linux.amd.smm-unlocked", "SEV needs SMM locked by the firmware (HWCR)", "early_detect_mem_encrypt, cpu/amd.c")
NO_SNP = Rule(
    "linux.amd.no-snp-host",
    "Linux cannot be an SNP host here: it runs as a guest or knows no RMP table",
    "bsp_determine_snp, cpu/amd.c",
    since="6.12",
)
BRTYPE = Rule("linux.amd.ibpb-brtype", "IBPB flushes branch type predictions too on this family", EARLY, since="6.12")
SSBD_BY_MSR = Rule("linux.amd.ls-cfg-ssbd", "Speculative store bypass can be turned off in LS_CFG", BSP)
GENERATION = Rule("linux.amd.generation", "Family and model are of this Zen generation", BSP)
ZEN = Rule("linux.amd.zen", "The family is Zen's or a later one", "init_amd_zen_common, cpu/amd.c")
TSA_CLEARED = Rule("linux.amd.tsa-microcode", "This microcode makes VERW clear buffers", "tsa_init, cpu/amd.c")
TSA_IMMUNE = Rule("linux.amd.tsa-immune", "Processors before Zen 3 have no transient scheduler attacks", "tsa_init, cpu/amd.c")
GP_ON_CPUID = Rule("linux.amd.cpuid-fault", "{cause} lets CPUID fault in user mode", BSP, since="6.18")
NO_PBE = Rule("linux.amd.no-pbe", "Bit 31 stood for 3DNow! on old AMD processors", INIT, until="6.18")
REP_GOOD = Rule("linux.amd.rep-good", "String instructions are fast on this family", INIT)
FSRS = Rule("linux.amd.fsrs", "On AMD, {cause} speaks for STOSB as well", INIT)
NO_MCE = Rule("linux.amd.no-mce", "K6 reports machine checks without the MSRs for them", INIT)
LAHF = Rule("linux.amd.erratum-110", "Erratum 110: the firmware forced it on a K8 that lacks it", "init_amd_k8, cpu/amd.c")
K8_SWAPGS = Rule("linux.amd.k8-swapgs", "K8 speculates past SWAPGS", "init_amd_k8, cpu/amd.c")
E400 = Rule("linux.amd.erratum-400", "Erratum 400: the APIC timer stops in C1E", "init_amd_k8 and init_amd_gh, cpu/amd.c")
E383 = Rule("linux.amd.erratum-383", "Erratum 383: TLB entries may multiply match", "init_amd_gh, cpu/amd.c")
E1386 = Rule(
    "linux.amd.erratum-1386",
    "Erratum 1386: XSAVES loses state on Zen 1 and 2",
    "fix_erratum_1386, cpu/amd.c",
    MICROCODE,
)
CPB = Rule("linux.amd.erratum-1076", "Erratum 1076: Zen 1 has core performance boost though CPUID hides it", "init_amd_zen1, cpu/amd.c")
DIV0 = Rule("linux.amd.div0", "Zen 1 leaks quotients of divisions by zero", "init_amd_zen1, cpu/amd.c")
IRPERF = Rule(
    "linux.amd.erratum-1054", "Erratum 1054: the counter of instructions retired is inaccurate", "init_amd_zen1, cpu/amd.c", since="6.12"
)
CYAN_SKILLFISH = Rule("linux.amd.cyan-skillfish", "RDSEED is unreliable on this model", "init_amd_zen2, cpu/amd.c", since="6.12")
ZEN2_INVLPGB = Rule(
    "linux.amd.zen2-invlpgb", "Zen 2 has no INVLPGB though some clients report it", "init_amd_zen2, cpu/amd.c", since="6.18"
)
BTC_NO = Rule("linux.amd.btc-no", "Zen 3 is immune to branch type confusion, but predates the bit that says so", "init_amd_zen3, cpu/amd.c")
VIRTUAL_VMLOAD = Rule(
    "linux.amd.zen4-vmload", "Virtualized VMLOAD can reset the host on this model", "init_amd_zen4, cpu/amd.c", since="6.12"
)
RDSEED = Rule(
    "linux.amd.zen5-rdseed", "32-bit RDSEED returns zeros with this microcode", "init_amd_zen5, cpu/amd.c", MICROCODE, since="6.12"
)
TLBI = Rule("linux.amd.zen5-tlbi", "INVLPGB needs software's help on Zen 5", "init_amd_zen5, cpu/amd.c", since="7.3")
FXSAVE_LEAK = Rule("linux.amd.fxsave-leak", "Without XSAVEERPTR, FXSAVE leaks the last FPU instruction's address", INIT)
SVM_OFF = Rule("linux.amd.svm-off", "The firmware turned SVM off in VM_CR", INIT, "Enable SVM in the firmware", since="6.12")
LFENCE = Rule("linux.amd.lfence", "Linux makes LFENCE serializing, so that it orders RDTSC", INIT)
ARAT = Rule("linux.amd.arat", "The APIC timer of this family runs in deep C-states", INIT)
PREFETCHW = Rule("linux.amd.prefetchw", "{cause} implies PREFETCHW", INIT)
SYSRET = Rule("linux.amd.sysret-ss", "SYSRET does not reset the attributes of SS on AMD", INIT)
NULL_SEGMENT = Rule(
    "linux.amd.null-segment", "Loading a null selector may not clear the segment's base", "check_null_seg_clears_base, cpu/common.c"
)
NO_APIC_FENCE = Rule("linux.amd.apic-fence", "AMD needs no fence after writes of x2APIC MSRs", INIT)
HYGON_CPB = Rule("linux.hygon.cpb", "Hygon processors have core performance boost", "init_hygon, cpu/hygon.c")

_GENERATIONS = {
    0x17: (("ZEN1", ((0x00, 0x2F), (0x50, 0x5F))), ("ZEN2", ((0x30, 0x4F), (0x60, 0x7F), (0x90, 0x91), (0xA0, 0xAF)))),
    0x19: (("ZEN3", ((0x00, 0x0F), (0x20, 0x5F))), ("ZEN4", ((0x10, 0x1F), (0x60, 0xAF)))),
}
_FAMILY_1A = {
    "6.12": (("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F))),),
    "6.18": (("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F))), ("ZEN6", ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF)))),
    "7.1": (
        ("ZEN5", ((0x00, 0x2F), (0x40, 0x4F), (0x60, 0x7F), (0xD0, 0xD7))),
        ("ZEN6", ((0x50, 0x5F), (0x80, 0xAF), (0xC0, 0xCF), (0xD8, 0xEF))),
    ),
}
"""Models of family 0x1A by the release that first had them so."""


def early_init(cpu: Cpu) -> None:
    """Do what early_init_amd, or early_init_hygon, does."""
    cpu.microcode = (cpu.machine.msr(machine.MICROCODE) or 0) & 0xFFFFFFFF
    if cpu.family >= 0xF:
        cpu.set("K8", K8)
    if cpu.power >> 8 & 1:
        cpu.set("CONSTANT_TSC", INVARIANT_TSC)
        cpu.set("NONSTOP_TSC", INVARIANT_TSC)
    if cpu.power >> 12 & 1:
        cpu.set("ACC_POWER", POWER)
    if cpu.power >> 14 & 1:
        cpu.set("RAPL", POWER)
    cpu.set("SYSCALL32", SYSCALL)
    if cpu.has("APIC") and cpu.family > 0x16:
        cpu.set("EXTD_APICID", EXTENDED_APICID)
    cpu.set("VMMCALL", VMMCALL)
    if cpu.vendor == "hygon":
        return
    if cpu.has("SME") or cpu.has("SEV"):
        _memory_encryption(cpu)
    if not cpu.has("HYPERVISOR") and not cpu.has("IBPB_BRTYPE"):
        if cpu.family == 0x17 and cpu.has("AMD_IBPB"):
            cpu.force("IBPB_BRTYPE", BRTYPE)
        elif cpu.family >= 0x19 and (cpu.machine.msr(machine.PRED_CMD) or 0) & machine.SBPB:
            cpu.force("IBPB_BRTYPE", BRTYPE)
            cpu.force("SBPB", BRTYPE)


def _memory_encryption(cpu: Cpu) -> None:
    encrypted = (cpu.machine.msr(machine.SYSCFG) or 0) >> 23 & 1
    if not encrypted:
        gone, rule = ("SME", "SEV", "SEV_ES", "SEV_SNP"), NO_ENCRYPTION
    else:
        cpu.phys_bits -= cpu.leaf(0x8000001F).ebx >> 6 & 0x3F
        if cpu.machine.option("mem_encrypt") != "on":
            cpu.drop("SME", SME_UNUSED)
        if (cpu.machine.msr(machine.K7_HWCR) or 0) & 1:
            return
        gone, rule = ("SEV", "SEV_ES", "SEV_SNP"), SMM_UNLOCKED
    for feature in gone:
        if feature != "SEV_SNP" or cpu.since("6.12"):
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
    if generation := _generation(cpu):
        cpu.force(generation, GENERATION)
    if cpu.has("SEV_SNP") and (cpu.has("HYPERVISOR") or not any(map(cpu.has, ("ZEN3", "ZEN4", "RMPREAD")))):
        cpu.drop("SEV_SNP", NO_SNP)
    _transient_scheduler_attacks(cpu)
    if cpu.has("GP_ON_USER_CPUID"):
        cpu.force("CPUID_FAULT", GP_ON_CPUID, "GP_ON_USER_CPUID")


def _generation(cpu: Cpu) -> str | None:
    table = _GENERATIONS.get(cpu.family, ())
    if cpu.family == 0x1A:
        table = next((rows for release, rows in reversed(_FAMILY_1A.items()) if cpu.since(release)), ())
    for name, ranges in table:
        if any(first <= cpu.model <= last for first, last in ranges):
            return name
    return None


def _transient_scheduler_attacks(cpu: Cpu) -> None:
    if cpu.has("HYPERVISOR"):
        return
    if cpu.has("ZEN3") or cpu.has("ZEN4") or (cpu.family == 0x19 and not cpu.since("6.12")):
        good = cpu.is_one_of("tsa_microcode")
        if good is not None and cpu.microcode >= good.data:
            cpu.force("VERW_CLEAR", TSA_CLEARED)
    elif not (cpu.has("ZEN5") and cpu.since("7.3")):
        cpu.force("TSA_SQ_NO", TSA_IMMUNE)
        cpu.force("TSA_L1_NO", TSA_IMMUNE)
    if not cpu.has("ZEN5") and cpu.since("7.3"):
        cpu.force("TSA_FILL_NO", TSA_IMMUNE)


def init(cpu: Cpu) -> None:
    """Do what init_amd, or init_hygon, does after the early part."""
    cpu.clear("PBE", NO_PBE)
    if cpu.family >= 0x10:
        cpu.set("REP_GOOD", REP_GOOD)
    if cpu.vendor == "hygon":
        cpu.set("ZEN", ZEN)
        cpu.set("CPB", HYGON_CPB)
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
    if family >= 0x17 and (cpu.since("6.12") or _generation(cpu)):
        cpu.force("ZEN", ZEN)
    generation = _generation(cpu)
    if generation in _ZEN:
        _ZEN[generation](cpu)


def _k8(cpu: Cpu) -> None:
    level = cpu.leaf(1).eax
    if 0x0F48 <= level < 0x0F50 or level >= 0x0F58:
        cpu.set("REP_GOOD", REP_GOOD)
    if cpu.model < 0x14 and not cpu.has("HYPERVISOR"):
        cpu.clear("LAHF_LM", LAHF)
    cpu.set_bug("SWAPGS_FENCE", K8_SWAPGS)
    if (cpu.model, cpu.stepping) >= (0x41, 2):
        cpu.set_bug("AMD_E400", E400)


def _erratum_1386(cpu: Cpu) -> None:
    good = cpu.is_one_of("erratum_1386_microcode")
    if good is None or cpu.microcode < good.data:
        cpu.clear("XSAVES", E1386)


def _zen1(cpu: Cpu) -> None:
    if cpu.since("6.12"):
        _erratum_1386(cpu)
    if not cpu.has("HYPERVISOR"):
        cpu.set("CPB", CPB)
    cpu.set_bug("DIV0", DIV0)
    if cpu.model < 0x30:
        cpu.clear("IRPERF", IRPERF)


def _zen2(cpu: Cpu) -> None:
    _erratum_1386(cpu)
    if (cpu.model, cpu.stepping) == (0x47, 0):
        cpu.clear("RDSEED", CYAN_SKILLFISH)
    cpu.clear("INVLPGB", ZEN2_INVLPGB)


def _zen3(cpu: Cpu) -> None:
    if not cpu.has("HYPERVISOR"):
        cpu.set("BTC_NO", BTC_NO)


def _zen4(cpu: Cpu) -> None:
    if 0x18 <= cpu.model <= 0x1F or 0x60 <= cpu.model <= 0x7F:
        cpu.clear("V_VMSAVE_VMLOAD", VIRTUAL_VMLOAD)


def _zen5(cpu: Cpu) -> None:
    good = cpu.is_one_of("zen5_rdseed_microcode")
    if good is None or cpu.microcode < good.data:
        cpu.clear("RDSEED", RDSEED)
    if cpu.has("INVLPGB") and not cpu.has("TLBSYNC_SFW_NO"):
        cpu.set_bug("TLBI", TLBI)


_ZEN = {"ZEN1": _zen1, "ZEN2": _zen2, "ZEN3": _zen3, "ZEN4": _zen4, "ZEN5": _zen5}


def _null_segment(cpu: Cpu) -> None:
    announced = cpu.extended_level >= 0x80000021 and cpu.leaf(0x80000021).eax >> 6 & 1
    measured = not cpu.has("HYPERVISOR") and cpu.family in (0x17, 0x18) and cpu.model >= 0x30  # Zen 2 clears it, and does not say so
    if not announced and not measured:
        cpu.set_bug("NULL_SEG", NULL_SEGMENT)
