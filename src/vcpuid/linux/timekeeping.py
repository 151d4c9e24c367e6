"""The TSC and the APIC timer (arch/x86/kernel/tsc.c, apic/apic.c)."""

from __future__ import annotations

from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule

KNOWN = Rule("linux.tsc.known-freq", "leaf 0x15 gives the TSC's frequency", "native_calibrate_tsc, tsc.c")
RELIABLE = Rule("linux.tsc.reliable", "on this Atom nothing but the TSC keeps time", "native_calibrate_tsc, tsc.c")
BY_MSR = Rule("linux.tsc.msr", "MSRs give this Atom's frequencies, and Linux takes its TSC for reliable", "cpu_khz_from_msr, tsc_msr.c")
ART = Rule("linux.tsc.art", "leaf 0x15 relates the TSC to the always running timer", "detect_art, tsc.c")
NO_TSC = Rule("linux.tsc.no-deadline", "without {cause} there is no deadline to set", "tsc_init, tsc.c")
DEADLINE_ERRATUM = Rule(
    "linux.apic.deadline-erratum",
    "the TSC deadline timer is unreliable with this microcode",
    "apic_validate_deadline_timer, apic/apic.c",
    "update the microcode",
)

_ATOMS = {0x27, 0x35, 0x37, 0x4A, 0x4C, 0x5A, 0x75}
"""The models of tsc_msr_cpu_ids: Saltwell, Silvermont and Airmont, but for those of servers."""


def init(cpu: Cpu) -> None:
    """Learn the TSC's frequency, whether the always running timer can be used, and whether the deadline timer can."""
    if cpu.has("TSC"):
        _frequency(cpu)
        _always_running_timer(cpu)
    else:
        cpu.drop("TSC_DEADLINE_TIMER", NO_TSC, "TSC")
    _deadline_timer(cpu)


def _frequency(cpu: Cpu) -> None:
    # Leaf 0x16 goes before the MSRs (native_calibrate_cpu_early); a hypervisor that tells the frequency is asked instead of either.
    by_leaf = cpu.level >= 0x16 and cpu.leaf(0x16).eax
    if cpu.vendor == "intel" and cpu.family == 6 and cpu.model in _ATOMS and not by_leaf and not cpu.has("TSC_KNOWN_FREQ"):
        cpu.force("TSC_KNOWN_FREQ", BY_MSR)
        cpu.force("TSC_RELIABLE", BY_MSR)
    if cpu.vendor != "intel" or cpu.level < 0x15:
        return
    denominator, numerator, crystal, _ = cpu.leaf(0x15)
    if not denominator or not numerator:
        return
    goldmont_d = cpu.model == 0x5F and (cpu.family == 6 or not cpu.since("6.12"))
    if crystal >= 1000 or goldmont_d:
        cpu.force("TSC_KNOWN_FREQ", KNOWN)
    if cpu.model == 0x5C and (crystal >= 1000 or cpu.level >= 0x16):
        cpu.force("TSC_RELIABLE", RELIABLE)


def _always_running_timer(cpu: Cpu) -> None:
    wanted = cpu.has("NONSTOP_TSC") and cpu.has("TSC_ADJUST") and not cpu.has("HYPERVISOR")
    if wanted and cpu.level >= 0x15 and cpu.leaf(0x15).eax:
        cpu.force("ART", ART)


def _deadline_timer(cpu: Cpu) -> None:
    good = None if cpu.has("HYPERVISOR") else cpu.is_one_of("deadline_timer_microcode")
    if good is not None and cpu.microcode < good.data:
        cpu.drop("TSC_DEADLINE_TIMER", DEADLINE_ERRATUM)
