"""What a CPUID exit costs a guest: measured in one of this machine, or else assumed, and then by name."""

from __future__ import annotations

from vcpuid.errors import VcpuidError
from vcpuid.live.kvm_device import Kvm
from vcpuid.live.tiny_guest import time_exit
from vcpuid.software.start import ASSUMED, ExitCost

_ROUNDS = 200


def here() -> ExitCost:
    """Measure it in a guest of this machine's KVM, which takes milliseconds; where none runs, give what is assumed."""
    try:
        with Kvm() as kvm:
            table = kvm.supported_cpuid()
        found = time_exit(table, rounds=_ROUNDS, seconds=2.0)
    except VcpuidError:
        return ASSUMED
    return ASSUMED if found.ns is None else ExitCost(found.ns, "measured", "in a guest of this machine's KVM")
