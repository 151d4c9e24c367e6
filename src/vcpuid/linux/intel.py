"""What Linux knows of Intel's processors beyond CPUID (arch/x86/kernel/cpu/intel.c, bus_lock.c)."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.linux import machine, vmx
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

EARLY, INIT = "early_init_intel, cpu/intel.c", "init_intel, cpu/intel.c"
BAD_MICROCODE = Rule(
    "linux.intel.bad-spectre-microcode",
    "this microcode's speculation control is known to be broken",
    EARLY,
    "update the microcode",
)
PSE_ERRATUM = Rule("linux.intel.pse-erratum", "Atom errata AAE44 to AAH41: large pages need newer microcode", EARLY, "update the microcode")
SYSENTER = Rule("linux.intel.sysenter32", "a 64-bit kernel enters 32-bit system calls by SYSENTER on Intel", EARLY, until="6.19")
INVARIANT_TSC = Rule("linux.intel.invariant-tsc", "leaf 0x80000007 says that the TSC runs at a constant rate and never stops", EARLY)
CONSTANT_TSC = Rule("linux.intel.constant-tsc", "the TSC of this family and model runs at a constant rate", EARLY)
TSC_S3 = Rule("linux.intel.nonstop-tsc-s3", "the TSC of this model runs on in S3", EARLY)
PAT_ERRATUM = Rule("linux.intel.pat-erratum", "erratum AN7: PAT is unreliable up to Yonah", EARLY)
FAST_STRINGS = Rule("linux.intel.fast-strings", "MISC_ENABLE says that fast strings are on", EARLY, since="6.16")
NO_FAST_STRINGS = Rule(
    "linux.intel.no-fast-strings", "the firmware turned fast strings off in MISC_ENABLE", EARLY, "turn them on in the firmware"
)
QUARK_PGE = Rule("linux.intel.quark-pge", "Quark flushes global pages only by a load of CR3", EARLY)
SELF_SNOOP = Rule(
    "linux.intel.self-snoop-errata",
    "this model hangs or raises machine checks where memory types conflict, so self-snoop is not relied on",
    "check_memory_type_self_snoop_errata, cpu/intel.c",
)
MPX_ERRATUM = Rule(
    "linux.intel.mpx-erratum",
    "erratum SKD046: without SMEP branches may initialize MPX's bound registers wrongly",
    "check_mpx_erratum, cpu/intel.c",
    "boot with intel-skd-046-workaround=disable",
    until="5.10",
    lacking=("5.10",),  # upstream had it up to 5.5
    also=("4.18",),
)
TME_OFF = Rule(
    "linux.intel.tme-off",
    "the firmware did not enable memory encryption in TME_ACTIVATE",
    "detect_tme_early, cpu/intel.c",
    since="6.12",
    lacking=("5.14",),
)
PERFMON = Rule("linux.intel.arch-perfmon", "leaf 0xA has a version and more than one counter", INIT)
LFENCE = Rule("linux.intel.lfence", "LFENCE orders RDTSC on every processor with {cause}", INIT)
BTS = Rule("linux.intel.bts", "MISC_ENABLE does not say that branch trace stores are unavailable", INIT)
PEBS = Rule("linux.intel.pebs", "MISC_ENABLE does not say that PEBS is unavailable", INIT)
CLFLUSH_BUG = Rule("linux.intel.clflush-monitor", "MONITOR needs a CLFLUSH ahead on this model", INIT)
MONITOR_BUG = Rule("linux.intel.monitor", "MONITOR misses wake-ups on this model", INIT)
REP_GOOD = Rule("linux.intel.rep-good", "string instructions are fast on family 6", INIT, until="6.14")
PREFER_YMM = Rule("linux.intel.prefer-ymm", "512-bit code lowers the clock of this model", INIT, since="6.16")
CPUID_FAULT = Rule("linux.intel.cpuid-fault", "PLATFORM_INFO says that CPUID can be made to fault", "init_cpuid_fault, cpu/intel.c")
RING3_MWAIT = Rule("linux.intel.ring3-mwait", "Xeon Phi has MWAIT in user mode", "probe_xeon_phi_r3mwait, cpu/intel.c")
SPLIT_LOCK = Rule(
    "linux.intel.split-lock",
    "split locks can raise #AC: CORE_CAPABILITIES or the model says so",
    "split_lock_setup, cpu/bus_lock.c (cpu/intel.c before 6.13)",
)

NO_LBR_DEPTH = Rule(
    "linux.intel.no-lbr-depth", "leaf 0x1C reports no depth of last branch records", "intel_pmu_arch_lbr_init, arch/x86/events/intel/lbr.c"
)

_CONTROLS = ("IBRS", "IBPB", "STIBP", "SPEC_CTRL", "MSR_SPEC_CTRL", "INTEL_STIBP", "SSBD", "SPEC_CTRL_SSBD")
_NONSTOP_S3 = {0x27, 0x35, 0x4A, 0x75}
_CORE_CAPS_SPLIT_LOCK = bits.MSR_IA32_CORE_CAPS_SPLIT_LOCK_DETECT.mask


def early_init(cpu: Cpu) -> None:
    """Do what early_init_intel does."""
    revision = cpu.machine.msr(machine.MICROCODE)
    cpu.microcode = (revision or 0) >> 32
    if not cpu.has("HYPERVISOR"):
        cpu.platform = (cpu.machine.msr(machine.PLATFORM_ID) or 0) >> 50 & 7
    bad = None if cpu.has("HYPERVISOR") else cpu.is_one_of("bad_spectre_microcode")
    if bad is not None and cpu.microcode <= bad.data and any(map(cpu.has, ("SPEC_CTRL", "INTEL_STIBP", "IBRS", "IBPB", "STIBP"))):
        for feature in _CONTROLS:
            cpu.drop(feature, BAD_MICROCODE)
    if cpu.intel(6, 0x1C) and cpu.stepping <= 2 and cpu.microcode < 0x20E:
        cpu.clear("PSE", PSE_ERRATUM)
    cpu.set("SYSENTER32", SYSENTER)
    if cpu.intel(15, 3) and cpu.stepping in (3, 4):
        cpu.phys_bits = 36
    _time(cpu)
    if cpu.intel(6, 1 if cpu.since("6.12") and not cpu.is_release("5.14") else 0, 0x0E):
        cpu.clear("PAT", PAT_ERRATUM)
    if cpu.family > 6 or cpu.intel(6, 0x0D, 0xFF):
        if (cpu.machine.msr(machine.MISC_ENABLE) or 0) & 1:
            cpu.set("REP_GOOD", FAST_STRINGS)
        else:
            cpu.drop("REP_GOOD", NO_FAST_STRINGS)
            cpu.drop("ERMS", NO_FAST_STRINGS)
    if cpu.intel(5, 9):
        cpu.drop("PGE", QUARK_PGE)
    if not cpu.has("SMEP"):
        cpu.drop("MPX", MPX_ERRATUM)
    if cpu.is_one_of("no_self_snoop"):
        cpu.drop("SELFSNOOP", SELF_SNOOP)
    if cpu.has("TME"):
        _memory_encryption(cpu)


def _time(cpu: Cpu) -> None:
    if cpu.power & bits.CONSTANT_TSC.mask:
        cpu.set("CONSTANT_TSC", INVARIANT_TSC)
        cpu.set("NONSTOP_TSC", INVARIANT_TSC)
    models = ((0x03, 0x06), (0x0E, 0x3A)) if cpu.since("6.16") else ((0x03, 0xFF), (0x0E, 0xFF))
    if cpu.intel(15, *models[0]) or cpu.intel(6, *models[1]):
        cpu.set("CONSTANT_TSC", CONSTANT_TSC)
    if cpu.family == 6 and cpu.model in _NONSTOP_S3 and (cpu.model != 0x75 or not cpu.is_release("4.18")):
        cpu.set("NONSTOP_TSC_S3", TSC_S3)


def _memory_encryption(cpu: Cpu) -> None:
    """Take the bits of key identifiers off the physical address (detect_tme_early)."""
    activate = cpu.machine.msr(machine.TME_ACTIVATE) or 0
    if activate & 3 == 3:
        cpu.phys_bits -= activate >> 32 & 0xF
    else:
        cpu.clear("TME", TME_OFF)


def init(cpu: Cpu) -> None:
    """Do what init_intel does after early_init_intel."""
    if has_perfmon(cpu):
        cpu.set("ARCH_PERFMON", PERFMON)
    if cpu.has("XMM2"):
        cpu.set("LFENCE_RDTSC", LFENCE, "XMM2")
    if cpu.has("DS"):
        enabled = cpu.machine.msr(machine.MISC_ENABLE) or 0
        if not enabled >> 11 & 1:
            cpu.set("BTS", BTS)
        if not enabled >> 12 & 1:
            cpu.set("PEBS", PEBS)
    if cpu.has("CLFLUSH") and cpu.family == 6 and cpu.model in (0x1D, 0x2E, 0x2F):
        cpu.set_bug("CLFLUSH_MONITOR", CLFLUSH_BUG)
    lunar_lake = cpu.intel(6, 0xBD) and cpu.since("6.6") and not cpu.is_release("5.14-el9_3", "5.14-el9_4", "5.14-el9_5", "6.8")
    if cpu.has("MWAIT") and (cpu.intel(6, 0x5C) or lunar_lake):
        cpu.set_bug("MONITOR", MONITOR_BUG)
    if cpu.family == 6:
        cpu.set("REP_GOOD", REP_GOOD)
    if cpu.is_one_of("prefer_ymm"):
        cpu.set("PREFER_YMM", PREFER_YMM)
    vmx.feature_control(cpu)
    if cpu.machine.msr(machine.MISC_FEATURES_ENABLES) is not None:
        if (cpu.machine.msr(machine.PLATFORM_INFO) or 0) & machine.PLATFORM_INFO_CPUID_FAULT:
            cpu.set("CPUID_FAULT", CPUID_FAULT)
        if cpu.family == 6 and cpu.model in (0x57, 0x85) and cpu.machine.option("ring3mwait") != "disable":
            cpu.set("RING3MWAIT", RING3_MWAIT)


def has_perfmon(cpu: Cpu) -> bool:
    """Tell whether leaf 0xA has a version and more than one counter."""
    version = cpu.leaf(0xA).eax
    return cpu.level > 9 and bool(version & 0xFF) and version >> 8 & 0xFF > 1


def split_lock(cpu: Cpu) -> None:
    """See whether split locks can raise #AC (sld_setup)."""
    if cpu.has("HYPERVISOR") or cpu.machine.msr(machine.TEST_CTRL) is None:
        return
    listed = cpu.is_one_of("split_lock")
    enumerated = cpu.has("CORE_CAPABILITIES") and (cpu.machine.msr(machine.CORE_CAPABILITIES) or 0) & _CORE_CAPS_SPLIT_LOCK
    if (listed is not None and (listed.data == 0 or enumerated)) or (enumerated and (cpu.since("6.6") or cpu.is_release("4.18"))):
        cpu.force("SPLIT_LOCK_DETECT", SPLIT_LOCK)


def performance_monitoring(cpu: Cpu) -> None:
    """Look at the last branch records (intel_pmu_init)."""
    if cpu.has("ARCH_LBR") and cpu.has("ARCH_PERFMON") and not cpu.leaf(0x1C).eax & 0xFF:
        cpu.drop("ARCH_LBR", NO_LBR_DEPTH)
