"""Which clock a Linux guest keeps time by, and why.

Linux takes the clocksource with the highest rating. Ratings are those of arch/x86/kernel/kvmclock.c and tsc.c, hpet.c,
drivers/clocksource/hyperv_timer.c and acpi_pm.c, the same from Linux 6.1 to 7.3. A watchdog that finds the TSC drifting takes it away
later; that is no matter of CPUID, and not told here. Nor are processors in several sockets, which count for AMD's without constant_tsc.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vcpuid.cpuid import bits, hyperv, hypervisor_name, vendors
from vcpuid.software.cpu import SoftwareCpu

_KVM_BASES = (0x40000100, 0x40000000)
_CLOCKS = bits.KVM_FEATURE_CLOCKSOURCE.mask | bits.KVM_FEATURE_CLOCKSOURCE2.mask
_STABLE = bits.KVM_FEATURE_CLOCKSOURCE_STABLE_BIT.mask
_MANDATORY = hyperv.HYPERCALL.mask | hyperv.VP_INDEX.mask
_INVARIANT = hyperv.TSC_INVARIANT.mask


class Clock(NamedTuple):
    """A clocksource by Linux' name, its rating (None where Linux does not use it) and the reason."""

    name: str
    rating: int | None
    why: str


class Clocks(NamedTuple):
    """`hypervisor` is the one that Linux takes the guest's to be; `sources` go from the best rated down; `timer` is the tick's."""

    hypervisor: str | None
    sources: tuple[Clock, ...]
    timer: Clock

    @property
    def chosen(self) -> Clock:
        """The clocksource in use."""
        return self.sources[0]


def clocks(cpu: SoftwareCpu) -> Clocks:
    """Say what a Linux guest keeps time by."""
    kvm = next((base for base in _KVM_BASES if _hypervisor(cpu, base) == vendors.KVM), None)
    on_hyperv = kvm is None and _is_hyperv(cpu)
    if not cpu.linux.has("HYPERVISOR"):
        kvm, on_hyperv = None, False
    sources = [*_tsc(cpu, on_hyperv), *(_kvm_clock(cpu, kvm) if kvm else ()), *(_hyperv(cpu) if on_hyperv else ())]
    sources.append(Clock("hpet", 250, "QEMU's HPET, where the machine has one: each read exits to QEMU"))
    sources.append(Clock("acpi_pm", 200, "ACPI's timer: each read exits to QEMU"))
    sources.sort(key=lambda clock: -1 if clock.rating is None else clock.rating, reverse=True)
    return Clocks("KVM" if kvm else "Hyper-V" if on_hyperv else None, tuple(sources), _timer(cpu, on_hyperv))


def _hypervisor(cpu: SoftwareCpu, base: int) -> str:
    return hypervisor_name(cpu.table.registers(base))


def _is_hyperv(cpu: SoftwareCpu) -> bool:
    """Linux wants Hyper-V's name, hypercalls and hv-vpindex, else it goes on as without a hypervisor (ms_hyperv_platform)."""
    return _hypervisor(cpu, hyperv.VENDOR) == vendors.HYPERV and not _MANDATORY & ~_hyperv_features(cpu)


def _invariant(cpu: SoftwareCpu) -> bool:
    return cpu.linux.has("CONSTANT_TSC") and cpu.linux.has("NONSTOP_TSC")


def _tsc(cpu: SoftwareCpu, on_hyperv: bool) -> Iterator[Clock]:
    if not cpu.linux.has("TSC"):
        yield Clock("tsc", None, "CPUID has no tsc")
    elif on_hyperv and not _hyperv_features(cpu) & _INVARIANT:
        yield Clock("tsc", None, "Linux on Hyper-V calls the TSC unstable unless Hyper-V promises an invariant one, which QEMU does not")
    elif _invariant(cpu):
        watched = "" if cpu.linux.has("TSC_ADJUST") else "; watched against another clock, since CPUID has no tsc_adjust"
        yield Clock("tsc", 300, f"invtsc: the TSC runs at one rate and never stops{watched}")
    else:
        yield Clock("tsc", 300, "without invtsc (constant_tsc and nonstop_tsc) the watchdog may call it unstable")


def _kvm_clock(cpu: SoftwareCpu, base: int) -> Iterator[Clock]:
    features = cpu.table.registers(base + 1).eax
    if not features & _CLOCKS:
        yield Clock("kvm-clock", None, "CPUID has no kvmclock")
        return
    speed = "read without a system call" if features & _STABLE else "without kvmclock-stable-bit each read is a system call"
    if _invariant(cpu):
        yield Clock("kvm-clock", 299, f"below the TSC, since the TSC is invariant; {speed}")
    else:
        yield Clock("kvm-clock", 400, f"above the TSC, since CPUID has no invtsc; {speed}")


def _hyperv_features(cpu: SoftwareCpu) -> int:
    return cpu.table.registers(hyperv.FEATURES).eax


def _hyperv(cpu: SoftwareCpu) -> Iterator[Clock]:
    features = _hyperv_features(cpu)
    lower = bool(features & _INVARIANT)
    why = "below the TSC, which Hyper-V promises to be invariant" if lower else "hv-time"
    for name, bit, rating in (
        ("hyperv_clocksource_tsc_page", hyperv.REFERENCE_TSC, 250 if lower else 500),
        ("hyperv_clocksource_msr", hyperv.REFERENCE_COUNTER, 245 if lower else 495),
    ):
        yield Clock(name, rating if features & bit.mask else None, why if features & bit.mask else "without hv-time")


def _timer(cpu: SoftwareCpu, on_hyperv: bool) -> Clock:
    if on_hyperv and _hyperv_features(cpu) & hyperv.SYNTIMERS.mask:
        return Clock("Hyper-V clockevent", 1000, "hv-stimer")
    rating = 150 if cpu.linux.has("ARAT") else 100
    if cpu.linux.has("TSC_DEADLINE_TIMER"):
        return Clock("lapic-deadline", rating, "tsc-deadline: one MSR write arms the APIC's timer")
    return Clock("lapic", rating, "without tsc-deadline: the APIC's timer counts down, after a calibration")
