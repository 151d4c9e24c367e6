"""Which vulnerabilities the processor has: X86_BUG_ flags (cpu_set_bug_bits in arch/x86/kernel/cpu/common.c).

Two lists of models decide, cpu_vuln_whitelist (immune) and cpu_vuln_blacklist (affected), and IA32_ARCH_CAPABILITIES, whose bits say
what a processor is immune to whatever its model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from vcpuid.linux import machine
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

SOURCE = "cpu_set_bug_bits, cpu/common.c"
IMMUNE_TO_NOTHING: frozenset[str] = frozenset()


MMIO_IMMUNE = ArchCap.SBDR_SSDP_NO | ArchCap.FBSDP_NO | ArchCap.PSDP_NO


class BugEvidence(NamedTuple):
    """What decides: the processor, its ARCH_CAPABILITIES, and its rows of the two lists."""

    cpu: Cpu
    caps: int
    immune: frozenset[str]
    affected: frozenset[str]

    def not_immune(self, to: str, caps: int = 0) -> bool:
        """Tell whether neither the model's row nor any of these capabilities says that it is immune."""
        return to not in self.immune and not self.caps & caps

    @property
    def bhi_no(self) -> int:
        """The capability that speaks for immunity to BHI: none since Linux knows of ITS, when the models took its place."""
        return 0 if "ITS" in self.cpu.tables.bugs else ArchCap.BHI_NO


class Bug(NamedTuple):
    """A flag and when it is set."""

    name: str
    rule: Rule
    present: Callable[[BugEvidence], bool]


def bug(name: str, reason: str, present: Callable[[BugEvidence], bool], since: str | None = None, until: str | None = None) -> Bug:
    """Make a row with the rule `linux.bug.NAME`."""
    identity = "linux.bug." + name.lower().replace("_", "-")
    return Bug(name, Rule(identity, reason, SOURCE, None, since, until), present)


NO_LIST = "the processor is on no list of immune models"
LISTED = "the model is on the list of affected ones"

FIRST = (
    bug("OLD_MICROCODE", "the model has newer microcode than this", lambda v: _old_microcode(v.cpu), since="6.16"),
    bug("ITLB_MULTIHIT", NO_LIST, lambda v: v.not_immune("NO_ITLB_MULTIHIT", ArchCap.PSCHANGE_MC_NO)),
)
"""What is looked at even where a processor does not speculate."""

SPECULATING = (
    bug("SPECTRE_V1", "the processor speculates", lambda v: True),
    bug("SPECTRE_V2", "the processor speculates past indirect branches", lambda v: v.not_immune("NO_SPECTRE_V2")),
    bug("SPECTRE_V2_USER", "the processor speculates past indirect branches", lambda v: v.not_immune("NO_SPECTRE_V2"), since="6.16"),
    bug(
        "SPEC_STORE_BYPASS",
        "neither the model, nor CPUID, nor ARCH_CAPABILITIES says that loads do not pass older stores",
        lambda v: v.not_immune("NO_SSB", ArchCap.SSB_NO) and not v.cpu.has("AMD_SSB_NO"),
    ),
)
AFTER_IBRS = (
    bug("MDS", NO_LIST, lambda v: v.not_immune("NO_MDS", ArchCap.MDS_NO)),
    bug(
        "MSBDS_ONLY",
        "of MDS, the model has only the store buffers' part",
        lambda v: v.cpu.has_bug("MDS") and "MSBDS_ONLY" in v.immune,
    ),
    bug("SWAPGS", NO_LIST, lambda v: v.not_immune("NO_SWAPGS")),
    bug(
        "TAA",
        "the processor has TSX, or control over it, and ARCH_CAPABILITIES does not say that asynchronous aborts are harmless",
        lambda v: not v.caps & ArchCap.TAA_NO and (v.cpu.has("RTM") or bool(v.caps & ArchCap.TSX_CTRL)),
    ),
    bug(
        "SRBDS",
        "the model is on the list of affected ones and has RDRAND or RDSEED",
        lambda v: (v.cpu.has("RDRAND") or v.cpu.has("RDSEED")) and bool(v.affected & {"SRBDS", "MMIO_SBDS"}),
    ),
    bug("MMIO_STALE_DATA", LISTED, lambda v: "MMIO" in v.affected and v.caps & MMIO_IMMUNE != MMIO_IMMUNE),
    bug(
        "MMIO_UNKNOWN",
        "the model is on no list, so nothing is known",
        lambda v: "MMIO" not in v.affected and v.caps & MMIO_IMMUNE != MMIO_IMMUNE and "NO_MMIO" not in v.immune,
        until="6.14",
    ),
    bug(
        "RETBLEED",
        "the model is on the list of affected ones, or ARCH_CAPABILITIES says that returns may use alternate predictions",
        lambda v: not v.cpu.has("BTC_NO") and ("RETBLEED" in v.affected or (bool(v.caps & ArchCap.RSBA) and not _spared(v.cpu))),
    ),
    bug("SMT_RSB", LISTED, lambda v: "SMT_RSB" in v.affected, since="5.15"),
    bug("SRSO", LISTED, lambda v: "SRSO" in v.affected and not v.cpu.has("SRSO_NO")),
    bug("GDS", LISTED, lambda v: "GDS" in v.affected and not v.caps & ArchCap.GDS_NO and v.cpu.has("AVX")),
    bug("RFDS", "the model is on the list of affected ones, or ARCH_CAPABILITIES offers to clear registers", lambda v: _rfds(v)),
    bug(
        "BHI",
        "the processor has enhanced IBRS, or a hypervisor may hide it",
        lambda v: v.not_immune("NO_BHI", v.bhi_no) and (v.cpu.has("IBRS_ENHANCED") or v.cpu.has("HYPERVISOR")),
        since="5.15",
    ),
    bug("IBPB_NO_RET", "IBPB leaves return predictions", lambda v: v.cpu.has("AMD_IBPB") and not v.cpu.has("AMD_IBPB_RET"), since="5.15"),
    bug("ITS", "the model is on the list of affected ones, or a hypervisor may run on one", lambda v: _its(v), since="5.15"),
    bug(
        "ITS_NATIVE_ONLY",
        "on this model guests cannot reach the host by it",
        lambda v: v.cpu.has_bug("ITS") and "ITS_NATIVE_ONLY" in v.affected,
        since="5.15",
    ),
    bug("TSA", "the model is on the list of affected ones, or is a Zen that a hypervisor shows", lambda v: _tsa(v), since="5.15"),
    bug("VMSCAPE", LISTED, lambda v: "VMSCAPE" in v.affected and not v.cpu.has("HYPERVISOR"), since="5.15"),
)
LAST = (
    bug("CPU_MELTDOWN", NO_LIST, lambda v: v.not_immune("NO_MELTDOWN", ArchCap.RDCL_NO)),
    bug("L1TF", NO_LIST, lambda v: v.cpu.has_bug("CPU_MELTDOWN") and "NO_L1TF" not in v.immune),
)
IBRS_ENHANCED = Rule("linux.ibrs-enhanced", "ARCH_CAPABILITIES announces enhanced IBRS, or CPUID automatic IBRS", SOURCE)
PBRSB = bug(
    "EIBRS_PBRSB",
    "enhanced IBRS lets returns after a VM exit use old predictions",
    lambda v: v.not_immune("NO_EIBRS_PBRSB", ArchCap.PBRSB_NO),
)


def mark(cpu: Cpu) -> None:
    """Set the flags of all vulnerabilities that the processor has."""
    caps = arch_capabilities(cpu)
    rows = (cpu.is_one_of("vuln_whitelist"), cpu.is_one_of("vuln_blacklist"))
    view = BugEvidence(cpu, caps, *(IMMUNE_TO_NOTHING if row is None else row.data for row in rows))
    _set(view, FIRST)
    if "NO_SPECULATION" in view.immune:
        return
    _set(view, SPECULATING)
    automatic = cpu.has("AUTOIBRS") and not (cpu.has("SEV_SNP") and (cpu.since("6.12") or cpu.is_release("5.14-el9_5")))
    if caps & ArchCap.IBRS_ALL or automatic:
        cpu.force("IBRS_ENHANCED", IBRS_ENHANCED)
        _set(view, (PBRSB,))
    _set(view, AFTER_IBRS)
    _set(view, LAST)


def arch_capabilities(cpu: Cpu) -> int:
    """Read IA32_ARCH_CAPABILITIES, 0 where there is none (x86_read_arch_cap_msr)."""
    return (cpu.machine.msr(machine.ARCH_CAPABILITIES) or 0) if cpu.has("ARCH_CAPABILITIES") else 0


def _set(view: BugEvidence, bugs: tuple[Bug, ...]) -> None:
    for name, rule, present in bugs:
        if present(view):
            view.cpu.set_bug(name, rule)


def _old_microcode(cpu: Cpu) -> bool:
    if cpu.has("HYPERVISOR"):
        return False
    newest = cpu.is_one_of("latest_microcode")
    return newest is not None and (bool(cpu.microcode >> 31) or cpu.microcode < newest.data)


def _rfds(view: BugEvidence) -> bool:
    cpu, caps = view.cpu, view.caps
    if caps & (ArchCap.RFDS_NO | ArchCap.RFDS_CLEAR):
        return not caps & ArchCap.RFDS_NO
    only_big_cores = cpu.since("7.2") and cpu.model in (0x97, 0xB7) and cpu.core_type != "atom" and not cpu.has("HYBRID_CPU")
    return "RFDS" in view.affected and not only_big_cores


_TO_NEHALEM = frozenset((0x0E, 0x0F, 0x16, 0x17, 0x1A, 0x1D, 0x1E, 0x1F, 0x2E))
_WESTMERE_TO_BROADWELL = frozenset((0x25, 0x2A, 0x2C, 0x2D, 0x2F, 0x3A, 0x3C, 0x3D, 0x3E, 0x3F, 0x45, 0x46, 0x47, 0x4F, 0x56))
_SPARED = {
    **dict.fromkeys(("5.14-el9_3", "5.14-el9_4"), _WESTMERE_TO_BROADWELL),
    **dict.fromkeys(("4.18", "5.14-el9_5", "5.14"), _TO_NEHALEM | _WESTMERE_TO_BROADWELL),
}
"""Models of family 6 that Red Hat's kernels hold to be immune to Retbleed, whatever ARCH_CAPABILITIES says (cpu_in_retbleed_whitelist)."""


def _spared(cpu: Cpu) -> bool:
    return cpu.vendor == "intel" and cpu.family == 6 and cpu.model in _SPARED.get(cpu.tables.release, ())


def _its(view: BugEvidence) -> bool:
    cpu = view.cpu
    if view.caps & ArchCap.ITS_NO or cpu.vendor != "intel" or cpu.has("BHI_CTRL"):
        return False
    return cpu.has("HYPERVISOR") or "ITS" in view.affected


def _tsa(view: BugEvidence) -> bool:
    cpu = view.cpu
    needed = ("TSA_SQ_NO", "TSA_L1_NO", "TSA_FILL_NO") if cpu.since("7.3") else ("TSA_SQ_NO", "TSA_L1_NO")
    immune = cpu.vendor != "amd" or all(map(cpu.has, needed))
    return not immune and ("TSA" in view.affected or (cpu.has("HYPERVISOR") and cpu.has("ZEN")))
