"""How fast a host's TSC runs, and whether its KVM can let a guest's run at another rate.

QEMU asks KVM for the rate that a guest had where it came from, and where KVM cannot give it, takes the guest all the same unless it names a
tsc-frequency (kvm_arch_set_tsc_khz, target/i386/kvm/kvm.c; up to 250 ppm count as the same).
"""

from __future__ import annotations

from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.vendors import AMD_AND_HYGON

_PPM = 250
_FLAGS = {True: ("flags", "tsc_scale"), False: ("vmx_flags", "tsc_scaling")}
"""Where /proc/cpuinfo shows that the processor scales: AMD's, and the others'."""


def rate(host: Snapshot) -> int | None:
    """Return the TSC's rate in kHz, as CPUID's leaves 0x15 and 0x16 tell it; None where they do not (native_calibrate_tsc of Linux)."""
    denominator, numerator, crystal, _ = host.raw.registers(0x15)
    if not denominator or not numerator:
        return None
    if crystal:
        return crystal * numerator // denominator // 1000
    return (host.raw.registers(0x16).eax & 0xFFFF) * 1000 or None


def scales(host: Snapshot) -> bool | None:
    """Tell whether KVM can give a guest another rate than the host's; None where /proc/cpuinfo is not told."""
    name, flag = _FLAGS[host.vendor in AMD_AND_HYGON]
    return None if name not in host.cpuinfo else flag in host.cpuinfo[name].split()


def alike(one: int, other: int) -> bool:
    """Tell whether two rates are one to KVM."""
    return abs(one - other) <= other * _PPM // 1_000_000
