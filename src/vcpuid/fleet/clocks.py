"""How fast a host's TSC runs, and whether its KVM can let a guest's run at another rate.

QEMU asks KVM for the rate that a guest had where it came from, and where KVM cannot give it, takes the guest all the same unless it names a
tsc-frequency (kvm_arch_set_tsc_khz, target/i386/kvm/kvm.c; up to 250 ppm count as the same).
"""

from __future__ import annotations

from collections.abc import Sequence

from vcpuid.cpuid import MsrWord, Snapshot, brand_string
from vcpuid.cpuid.vendors import AMD_AND_HYGON
from vcpuid.told.facts import Fact, WholeLeaf

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
    """Tell whether KVM can give a guest another rate than the host's; None where neither /proc/cpuinfo nor the processor tells it."""
    amd = host.vendor in AMD_AND_HYGON
    name, flag = _FLAGS[amd]
    if name in host.cpuinfo:
        return flag in host.cpuinfo[name].split()
    if amd:
        leaf = host.raw.get(_SVM)
        return None if leaf is None else bool(leaf.edx >> _RATE_MSR & 1)
    controls = host.hardware_msrs.get(_SECONDARY)
    return None if controls is None else bool(controls >> _SCALING & 1)


_SVM, _RATE_MSR = 0x8000000A, 4
_SECONDARY, _SCALING = 0x48B, 57
"""Leaf and MSR that list what the processor virtualizes, and the bit of TSC scaling: of the MSR, that it may be switched on."""


def same(one: Snapshot, other: Snapshot) -> bool | None:
    """Tell whether two hosts' TSCs run at one rate: processors of one name do, and of others their leaves tell; None where they do not."""
    rates = rate(one), rate(other)
    if rates[0] is not None and rates[1] is not None:
        return alike(rates[0], rates[1])
    names = brand_string(one.raw).strip(), brand_string(other.raw).strip()
    return True if names[0] and names[0] == names[1] else None


def parted(hosts: Sequence[Snapshot]) -> tuple[list[list[int]], list[int]]:
    """Part hosts, by their places, by the rate of their TSC, where some of them cannot give a guest another than their own.

    Returns the parts, and those of which it is not told to which they belong: `NOT_TOLD` says so.
    """
    if all(scales(host) for host in hosts):
        return [list(range(len(hosts)))], []
    by_rate: list[list[int]] = []
    unclear: list[int] = []
    for place, host in enumerate(hosts):
        found = [same(hosts[some[0]], host) for some in by_rate]
        if True in found:
            by_rate[found.index(True)].append(place)
        elif None in found:
            unclear.append(place)
        else:
            by_rate.append([place])
    return by_rate, unclear


NOT_TOLD = "whether its TSC runs at the same rate, or KVM scales it"


def untold(*hosts: Snapshot) -> tuple[Fact, ...]:
    """Return the facts that would tell it; AMD's processors have none of the rate."""
    amd = {host.vendor in AMD_AND_HYGON for host in hosts if scales(host) is None}
    scaling = [Fact(WholeLeaf(_SVM)) if one else Fact(MsrWord(_SECONDARY)) for one in sorted(amd)]
    return (*([Fact(WholeLeaf(0x15))] if any(rate(host) is None and host.vendor not in AMD_AND_HYGON for host in hosts) else []), *scaling)


def alike(one: int, other: int) -> bool:
    """Tell whether two rates are one to KVM."""
    return abs(one - other) <= other * _PPM // 1_000_000
