"""Features that Linux turns on for itself or lists for software: paging, keys, shadow stacks (common.c, mm/init.c, fred.c)."""

from __future__ import annotations

from vcpuid.linux import machine
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_3, RHEL_9

LEVELS = Rule("linux.level-missing", "its leaf is beyond the highest one that the processor reports", "filter_cpuid_features, cpu/common.c")
PROTECTION_KEYS = Rule("linux.pku.enabled", "Linux turned CR4.PKE on", "setup_pku, cpu/common.c")
SHADOW_STACK = Rule(
    "linux.cet.user-shstk",
    "Linux offers {cause} to user space",
    "setup_cet, cpu/common.c",
    since="6.6",
    lacking=RHEL_9,
)
LASS_UNUSED = Rule(
    "linux.lass.unused",
    "Linux does not use it where it emulates vsyscalls or has EFI, as Debian's has",
    "setup_lass, cpu/common.c",
    since="6.19",
    until="7.0",
)
NO_FIVE_LEVELS = Rule(
    "linux.la57.not-built",
    "this kernel has no five-level page tables (CONFIG_X86_5LEVEL), as Debian builds it",
    "early_identify_cpu, cpu/common.c",
    until="5.10",
)
PCID_ERRATUM = Rule(
    "linux.pcid.erratum",
    "INVLPG misses global pages with this microcode",
    "setup_pcid, mm/init.c",
    "update the microcode",
    since="5.15",
    lacking=(*RHEL_9, "6.8"),
)
PCID_MODEL = Rule(
    "linux.pcid.model",
    "INVLPG may miss global pages on this model, and this kernel does not ask for the microcode that fixes it",
    "setup_pcid, mm/init.c",
    until="6.8",
    lacking=(*BEFORE_RHEL_9_3, "5.15", "6.1", "6.6"),
    also=("5.14",),
)
PCID_WITHOUT_PGE = Rule("linux.pcid.without-pge", "Linux uses PCID only together with global pages", "setup_pcid, mm/init.c")
INVPCID_SINGLE = Rule(
    "linux.pcid.invpcid-single",
    "INVPCID can flush one context once CR4.PCIDE is on",
    "setup_pcid, mm/init.c",
    until="6.1",
    also=("5.14-el9_3",),
)
FRED_CALLS = Rule(
    "linux.fred.system-calls", "with {cause}, 32-bit system calls are made by INT 0x80", "cpu_init_fred_exceptions, fred.c", since="6.12"
)
PPIN = Rule("linux.ppin", "the processor's inventory number can be read", "ppin_init, cpu/common.c")
NO_PPIN = Rule("linux.ppin-locked", "the firmware locked the inventory number away", "ppin_init, cpu/common.c")

_NEEDED_LEVELS = (("MWAIT", 0x5), ("DCA", 0x9), ("XSAVE", 0xD))


def filter_levels(cpu: Cpu) -> None:
    """Turn off what needs a leaf that the processor does not have (filter_cpuid_features)."""
    for feature, level in _NEEDED_LEVELS:
        if level > cpu.level and cpu.has(feature):
            cpu.clear(feature, LEVELS)


def protect(cpu: Cpu) -> None:
    """Turn protection keys and shadow stacks on, and LASS off (setup_lass, setup_pku, setup_cet)."""
    cpu.drop("LASS", LASS_UNUSED)
    if cpu.has("PKU") and cpu.machine.option("nopku") is None:
        cpu.force("OSPKE", PROTECTION_KEYS)
    if cpu.has("SHSTK"):
        cpu.set("USER_SHSTK", SHADOW_STACK, "SHSTK")


def paging(cpu: Cpu) -> None:
    """Drop five levels where this kernel has four; decide about PCID (setup_pcid)."""
    cpu.drop("LA57", NO_FIVE_LEVELS)
    if not cpu.has("PCID"):
        return
    good = cpu.is_one_of("invlpg_microcode")
    if good is not None and good.data is None:
        cpu.drop("PCID", PCID_MODEL)
    elif good is not None and cpu.microcode < good.data:
        cpu.drop("PCID", PCID_ERRATUM)
    elif not cpu.has("PGE"):
        cpu.drop("PCID", PCID_WITHOUT_PGE)
    elif cpu.has("INVPCID"):
        cpu.force("INVPCID_SINGLE", INVPCID_SINGLE)


def fred(cpu: Cpu) -> None:
    """Drop the fast 32-bit system calls where FRED is in use (cpu_init_fred_exceptions)."""
    if cpu.has("FRED"):
        for feature in ("SYSENTER32", "SYSFAST32", "SYSCALL32"):
            cpu.drop(feature, FRED_CALLS, "FRED")


def inventory_number(cpu: Cpu) -> None:
    """See whether the protected processor inventory number can be read (ppin_init)."""
    if cpu.has("AMD_PPIN"):
        feature, control = "AMD_PPIN", machine.AMD_PPIN_CTL
    elif cpu.has("INTEL_PPIN") or cpu.is_one_of("ppin"):
        feature, control = "INTEL_PPIN", machine.PPIN_CTL
    else:
        return
    value = cpu.machine.msr(control)
    if value is None or value & 3 == 1:
        cpu.drop(feature, NO_PPIN)
    else:
        cpu.set(feature, PPIN)
