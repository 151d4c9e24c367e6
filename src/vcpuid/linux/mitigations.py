"""Flags of the mitigations that Linux chooses by itself (arch/x86/kernel/cpu/bugs.c, mm/pti.c), as Debian configures it.

Modelled are the automatic choice, `mitigations=off` and, for each vulnerability, the option that turns its mitigation off; of the values
that pick one mitigation by name only `pti=on`, `spectre_v2=retpoline`, `spectre_v2=ibrs` and what RHEL 8 has beside it. All flags but "pti"
and 6.1's "ibpb_exit_to_user" are hidden from /proc/cpuinfo.
"""

from __future__ import annotations

from vcpuid.cpuid.vendors import design_of
from vcpuid.linux import machine
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.bugs import arch_capabilities
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_ITS


def _rule(name: str, reason: str, function: str, since: str | None = None, until: str | None = None, lacking: tuple[str, ...] = ()) -> Rule:
    return Rule(f"linux.mitigation.{name}", reason, f"{function}, cpu/bugs.c", None, since, until, lacking)


PTI = Rule(
    "linux.mitigation.pti", "page tables are split against Meltdown", "pti_check_boottime_disable, arch/x86/mm/pti.c", "boot with nopti"
)
WITHOUT_PTI = Rule(
    "linux.mitigation.not-with-pti",
    "Linux does not use it together with {cause}",
    "pti_check_boottime_disable, arch/x86/mm/pti.c",
    since="6.16",
)
SWAPGS = _rule("swapgs", "fences keep speculation from skipping SWAPGS", "spectre_v1_select_mitigation")
RETPOLINE = _rule("retpoline", "retpolines mitigate Spectre v2", "spectre_v2_select_mitigation")
IBRS = _rule("ibrs", "IBRS on kernel entry mitigates Spectre v2 and Retbleed", "spectre_v2_select_mitigation")
RSB = _rule("rsb", "the return stack buffer is filled against Spectre v2", "spectre_v2_determine_rsb_fill_type_at_vmexit")
RSB_LITE = _rule("rsb-lite", "one call after a VM exit mitigates PBRSB", "spectre_v2_determine_rsb_fill_type_at_vmexit")
FIRMWARE = _rule("firmware", "speculation is restricted while firmware runs", "spectre_v2_select_mitigation")
USE_IBPB = _rule("ibpb", "IBPB separates processes", "spectre_v2_user_select_mitigation", until="6.14")
BHI_HARDWARE = _rule("bhi-hardware", "{cause} keeps branch history apart", "spec_ctrl_bhi_dis", since="5.15")
BHI_SOFTWARE = _rule("bhi-software", "a loop clears branch history", "bhi_select_mitigation", since="5.15")
UNRET = _rule("unret", "untrained returns mitigate Retbleed", "retbleed_select_mitigation")
ITS = _rule("its", "aligned thunks mitigate indirect target selection", "its_select_mitigation", since="5.15")
SRSO = _rule("srso", "safe returns mitigate SRSO", "srso_select_mitigation")
SRSO_NO_SMT = _rule("srso-no-smt", "without SMT, Zen 1 and 2 are immune to SRSO", "srso_select_mitigation", until="6.16")
SRSO_MICROCODE = _rule(
    "srso-microcode", "the microcode's IBPB flushes branch type predictions", "srso_select_mitigation", until="6.1", lacking=("4.18",)
)
NO_REDUCTION = _rule(
    "srso-no-reduction", "Linux chose another mitigation of SRSO than reduced speculation", "srso_select_mitigation", since="6.12"
)
IBPB_ON_VMEXIT = _rule("srso-vmexit", "IBPB on VM exits mitigates SRSO", "srso_select_mitigation", since="6.12")
VERW = _rule("verw", "VERW clears CPU buffers", "md_clear_select_mitigation")
TSA = _rule("tsa", "VERW clears CPU buffers against transient scheduler attacks", "tsa_select_mitigation", since="5.15")
VMSCAPE = _rule("vmscape", "IBPB before user space mitigates VMScape", "vmscape_select_mitigation", since="5.15")
L1TF = _rule("l1tf", "page table entries that are not present are inverted", "l1tf_select_mitigation")
GDS = _rule("gds", "without microcode, gather_data_sampling=force turns AVX off", "gds_select_mitigation")


RETPOLINES = ("retpoline", "retpoline,generic")
"""Values of spectre_v2= that ask for retpolines and nothing else."""
IBRS_ALWAYS, RETPOLINE_AND_IBRS = "ibrs_always", "retpoline,ibrs_user"
"""Values that RHEL 8's kernel alone has: IBRS in processes as well, and there alone."""


def select(cpu: Cpu) -> None:
    """Choose mitigations (cpu_select_mitigations)."""
    if cpu.has_bug("L1TF"):
        cpu.force("L1TF_PTEINV", L1TF)
    reduction = False
    if cpu.machine.option("mitigations") != "off":
        _swapgs(cpu)
        _buffers(cpu)
        retbleed = _wanted(cpu, "RETBLEED", "retbleed")
        _spectre_v2(cpu, retbleed)
        if retbleed and design_of(cpu.vendor) == "amd":
            cpu.force("RETHUNK", UNRET)
            cpu.force("UNRET", UNRET)
        reduction = _return_stack(cpu)
        _others(cpu)
    if not reduction:
        cpu.drop("SRSO_BP_SPEC_REDUCE", NO_REDUCTION)


def _wanted(cpu: Cpu, bug: str, *options: str) -> bool:
    """Tell whether the processor has a bug and no option turns its mitigation off."""
    return cpu.has_bug(bug) and not any(cpu.machine.option(option) == "off" for option in options)


def isolate_page_tables(cpu: Cpu) -> None:
    """Split page tables against Meltdown (pti_check_boottime_disable)."""
    off = cpu.machine.option("mitigations") == "off"
    mode = cpu.machine.option("pti")
    forced = mode == "on" and (cpu.since("6.17") or not cpu.since("6.8") or not off)
    refused = off or mode == "off" or cpu.machine.option("nopti") is not None
    if forced or (cpu.has_bug("CPU_MELTDOWN") and not refused):
        cpu.force("PTI", PTI)
        cpu.drop("INVLPGB", WITHOUT_PTI, "PTI")
        if cpu.since("7.1"):
            cpu.drop("FRED", WITHOUT_PTI, "PTI")


def _swapgs(cpu: Cpu) -> None:
    if not cpu.has_bug("SPECTRE_V1") or cpu.machine.option("nospectre_v1") is not None:
        return
    smap_holds = cpu.has("SMAP") and not cpu.has_bug("CPU_MELTDOWN")
    if cpu.has("FSGSBASE") or not smap_holds:
        if cpu.has_bug("SWAPGS") and not cpu.has("PTI"):
            cpu.force("FENCE_SWAPGS_USER", SWAPGS)
        cpu.force("FENCE_SWAPGS_KERNEL", SWAPGS)


def _spectre_v2(cpu: Cpu, retbleed: bool) -> None:
    refused = cpu.machine.option("nospectre_v2") is not None
    if refused or not _wanted(cpu, "SPECTRE_V2", "spectre_v2"):
        return
    for_processes = _own(cpu) == RETPOLINE_AND_IBRS
    plain = cpu.machine.option("spectre_v2") in RETPOLINES or for_processes
    by_ibrs = _ibrs_by_name(cpu)
    enhanced = cpu.has("IBRS_ENHANCED") and not plain and not by_ibrs
    by_ibrs |= not enhanced and retbleed and cpu.has("IBRS") and cpu.vendor == "intel" and not plain
    if enhanced:
        if cpu.has_bug("EIBRS_PBRSB"):
            cpu.force("RSB_VMEXIT_LITE", RSB_LITE)
        if not cpu.since("5.15") or cpu.is_release(*BEFORE_ITS):
            cpu.force("RSB_CTXSW", RSB)
    else:
        if by_ibrs:
            cpu.force("KERNEL_IBRS", IBRS)
            if _own(cpu) == IBRS_ALWAYS:
                cpu.force("IBRS_EXIT_SKIP", IBRS)
        else:
            cpu.force("RETPOLINE", RETPOLINE)
            if for_processes:
                cpu.force("KERNEL_IBRS", IBRS)
                cpu.force("IBRS_EXIT_SET", IBRS)
        cpu.force("RSB_CTXSW", RSB)
        cpu.force("RSB_VMEXIT", RSB)
    if cpu.has("IBPB"):
        cpu.force("USE_IBPB", USE_IBPB)
    _firmware(cpu, enhanced or by_ibrs)
    if _wanted(cpu, "BHI", "spectre_bhi"):
        _branch_history(cpu)
    if _wanted(cpu, "ITS", "indirect_target_selection"):
        if not cpu.has("RETPOLINE"):
            cpu.force("INDIRECT_THUNK_ITS", ITS)
        cpu.force("RETHUNK", ITS)


def _own(cpu: Cpu) -> str | None:
    """Return what spectre_v2= has that RHEL 8's kernel alone follows, where it does."""
    wish = cpu.machine.option("spectre_v2")
    return wish if wish in (IBRS_ALWAYS, RETPOLINE_AND_IBRS) and cpu.is_release("4.18") and cpu.has("IBRS") else None


def _ibrs_by_name(cpu: Cpu) -> bool:
    """Tell whether spectre_v2=ibrs is followed: on Intel's processors alone, but by RHEL 8's kernel; any other chooses for itself."""
    asked = cpu.machine.option("spectre_v2") == "ibrs" and cpu.has("IBRS")
    return (asked and (cpu.vendor == "intel" or cpu.is_release("4.18"))) or _own(cpu) == IBRS_ALWAYS


def _firmware(cpu: Cpu, always_on: bool) -> None:
    if cpu.has_bug("RETBLEED") and cpu.has("IBPB") and design_of(cpu.vendor) == "amd":
        cpu.force("USE_IBPB_FW", FIRMWARE)
    elif cpu.has("IBRS") and not always_on:
        cpu.force("USE_IBRS_FW", FIRMWARE)


def _branch_history(cpu: Cpu) -> None:
    alternate_returns = arch_capabilities(cpu) & ArchCap.RRSBA
    if cpu.has("RETPOLINE") and (not alternate_returns or cpu.has("RRSBA_CTRL")):
        return
    if cpu.has("BHI_CTRL"):
        cpu.force("CLEAR_BHB_HW", BHI_HARDWARE, "BHI_CTRL")
    else:
        for feature in ("CLEAR_BHB_LOOP", "CLEAR_BHB_LOOP_ON_VMEXIT", "CLEAR_BHB_VMEXIT"):
            cpu.force(feature, BHI_SOFTWARE)


def _return_stack(cpu: Cpu) -> bool:
    """Mitigate SRSO; returns whether by reduced speculation."""
    off = not _wanted(cpu, "SRSO", "spec_rstack_overflow")
    looks_first = not cpu.since("6.8") or cpu.is_release("5.14-el9_5", "5.14")  # at the microcode, also where this is turned off
    if not cpu.has_bug("SRSO") or (off and not looks_first):
        return False
    if not cpu.has("IBPB_BRTYPE"):
        if cpu.family == 0x17 and cpu.has("AMD_IBPB"):
            cpu.force("IBPB_BRTYPE", SRSO_MICROCODE)
        elif cpu.family == 0x19 and (cpu.machine.msr(machine.PRED_CMD) or 0) & machine.PRED_CMD_SBPB:
            cpu.force("SBPB", SRSO_MICROCODE)
            cpu.force("IBPB_BRTYPE", SRSO_MICROCODE)
    if cpu.family < 0x19 and not _has_siblings(cpu):
        if cpu.has("IBPB_BRTYPE"):
            cpu.force("SRSO_NO", SRSO_NO_SMT)
        if cpu.has("SRSO_NO") or cpu.since("6.17"):
            return False
    if off:
        return False
    if cpu.has("SRSO_USER_KERNEL_NO"):
        if cpu.has("BTB_CTX_ISOLATION") or cpu.has("SRSO_BP_SPEC_REDUCE"):
            return not cpu.has("BTB_CTX_ISOLATION")
        if cpu.has("IBPB_BRTYPE") or cpu.since("6.17"):
            cpu.force("IBPB_ON_VMEXIT", IBPB_ON_VMEXIT)
            cpu.drop("RSB_VMEXIT", IBPB_ON_VMEXIT)
        return False
    for feature in ("RETHUNK", "UNRET", "SRSO_ALIAS" if cpu.family == 0x19 else "SRSO"):
        cpu.force(feature, SRSO)
    return False


def _has_siblings(cpu: Cpu) -> bool:
    threads = cpu.leaf(0x8000001E).ebx >> 8 & 0xFF if cpu.has("TOPOEXT") else 0
    return threads > 0 and cpu.machine.option("nosmt") != "force"


def _buffers(cpu: Cpu) -> None:
    caps = arch_capabilities(cpu)
    taa = cpu.has("RTM") and _wanted(cpu, "TAA", "tsx_async_abort")
    mds = _wanted(cpu, "MDS", "mds")
    registers = bool(caps & ArchCap.RFDS_CLEAR) and _wanted(cpu, "RFDS", "reg_file_data_sampling")
    mmio = _wanted(cpu, "MMIO_STALE_DATA", "mmio_stale_data")
    if mds or taa or registers or (mmio and (cpu.has_bug("MDS") or (cpu.has_bug("TAA") and cpu.has("RTM")))):
        cpu.force("CLEAR_CPU_BUF", VERW)
        if cpu.since("6.19"):
            cpu.force("CLEAR_CPU_BUF_VM", VERW)
    elif mmio:
        cpu.force("CLEAR_CPU_BUF_VM_MMIO", VERW)
    just_in_case = cpu.has("HYPERVISOR") and not cpu.since("6.16")  # the host's microcode may do it and not say so
    if _wanted(cpu, "TSA", "tsa") and (cpu.has("VERW_CLEAR") or just_in_case):
        cpu.force("CLEAR_CPU_BUF", TSA)
        cpu.force("CLEAR_CPU_BUF_VM", TSA)


def _others(cpu: Cpu) -> None:
    if cpu.has("IBPB") and not cpu.has("IBPB_ON_VMEXIT") and _wanted(cpu, "VMSCAPE", "vmscape"):
        cpu.force("IBPB_EXIT_TO_USER", VMSCAPE)
    microcode = arch_capabilities(cpu) & ArchCap.GDS_CTRL
    if cpu.has_bug("GDS") and not microcode and cpu.machine.option("gather_data_sampling") == "force":
        cpu.drop("AVX", GDS)
