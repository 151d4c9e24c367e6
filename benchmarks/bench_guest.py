"""What a real vCPU costs, and what the model of one costs.

    python benchmarks/bench_guest.py

Needs a usable /dev/kvm for the first part. Figures are medians; the table is what KVM_GET_SUPPORTED_CPUID answers here.
"""

from __future__ import annotations

import platform
from collections.abc import Callable

from timing import median

from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.errors import VcpuidError
from vcpuid.kvm.lookup import lookup, seen
from vcpuid.kvm.vcpu import set_cpuid
from vcpuid.live import tiny_guest as guest
from vcpuid.live.kvm_device import Kvm

_INTEL = Entry(0, 0, 0, 0x20, 0x756E6547, 0x6C65746E, 0x49656E69)
_PLAIN = CpuidTable([_INTEL, *(Entry(function, 0, 0, 1, 2, 3, 4) for function in range(1, 0x21))])


def batch(work: Callable[[], object], times: int = 1000) -> Callable[[], object]:
    """Repeat what is too short to be timed by itself."""

    def run() -> None:
        for _ in range(times):
            work()

    return run


def real() -> None:
    """Time whole guests, and CPUID inside them."""
    with Kvm() as kvm:
        table = kvm.supported_cpuid()
    leaves = [(entry.function, entry.index) for entry in table]
    many = (leaves * 40)[:1024]
    for mode in (16, 32, 64):
        try:
            one = median(lambda mode=mode: guest.read_cpuid(table, leaves[:1], mode), 30)  # type: ignore[misc]
            full = median(lambda mode=mode: guest.read_cpuid(table, many, mode), 15)  # type: ignore[misc]
            cost = guest.time_exit(table, mode)
        except VcpuidError as lacking:
            print(f"{mode}-bit guest: {lacking}")
            continue
        inside = f"{cost.cycles:.0f} cycles" + ("" if cost.ns is None else f" ({cost.ns:.0f} ns)")
        print(f"{mode}-bit guest: {1 / one:6.0f} guests/s   {(full - one) / len(many) * 1e6:6.2f} µs a leaf read   CPUID inside: {inside}")


def model() -> None:
    """Time the model of a vCPU."""
    kernel = platform.release()
    for name, work in {
        "lookup, a leaf that is there": batch(lambda: lookup(_PLAIN, 7, 0, kernel=kernel)),
        "lookup, a leaf out of range": batch(lambda: lookup(_PLAIN, 0x12345, 0, kernel=kernel)),
        "lookup, no such leaf": batch(lambda: lookup(_PLAIN, 0x1F, 3, kernel=kernel)),
        "set_cpuid": batch(lambda: set_cpuid(_PLAIN, kernel="7.3")),
        "seen": batch(lambda: seen(_PLAIN, kernel="7.3")),
    }.items():
        print(f"{name:30} {median(work, 9) * 1e6:9.0f} ns")


if __name__ == "__main__":
    try:
        real()
    except VcpuidError as lacking:
        print(f"no guests: {lacking}")
    model()
