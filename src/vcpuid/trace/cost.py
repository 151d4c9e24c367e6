"""What a CPUID exit costs a guest: measured in one of this machine, or else assumed, and then by name."""

from __future__ import annotations

from statistics import median

from vcpuid.cpuid import CpuidTable
from vcpuid.errors import VcpuidError
from vcpuid.live.kvm_device import Kvm
from vcpuid.live.tiny_guest import time_exit
from vcpuid.software.start import ASSUMED, ExitCost

_ROUNDS, _TIMES = 200, 5
"""On a busy machine one measurement may come out at a fraction of it, or at nothing: of several, the one in the middle counts."""


def here() -> ExitCost:
    """Measure it in guests of this machine's KVM, which takes milliseconds; where none runs, or none tells, give what is assumed."""
    try:
        with Kvm() as kvm:
            table = kvm.supported_cpuid()
        ns = median(_measured(table) for _ in range(_TIMES))
    except VcpuidError:
        return ASSUMED
    return ExitCost(ns, "measured", "in a guest of this machine's KVM") if ns else ASSUMED


def _measured(table: CpuidTable) -> float:
    return time_exit(table, rounds=_ROUNDS, seconds=2.0).ns or 0.0
