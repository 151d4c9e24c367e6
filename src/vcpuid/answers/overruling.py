"""Where a real vCPU overrules the table that it was given, as Linux's own KVM would not."""

from __future__ import annotations

from vcpuid.cpuid import Bit
from vcpuid.path.pipeline import Path
from vcpuid.reasons import Basis, Trace

UNTRIED = "Not tried: this host's KVM is not Linux's own and may show a guest what QEMU leaves out; run vcpuid on that host to try it."
"""What an answer about such a host says where no vCPU was asked: the host itself, of which that is asked, may answer otherwise."""


def untried(path: Path | None) -> str | None:
    """Say that the guest of a path is that of another KVM than the host's; None where it is not."""
    return None if path is None or path.trace.step("vcpu").basis is not Basis.NOT_TRIED else UNTRIED


def put_back(trace: Trace, bit: Bit) -> bool:
    """Whether the VMM leaves a bit out and KVM shows it to the guest all the same."""
    return _overruled(trace, bit, to=True)


def withheld(trace: Trace, bit: Bit) -> bool:
    """Whether the VMM gives a bit and KVM does not show it to the guest."""
    return _overruled(trace, bit, to=False)


def _overruled(trace: Trace, bit: Bit, to: bool) -> bool:
    """By the rules the vCPU would have kept what the VMM gave; where no vCPU was asked there is nothing to hold against them."""
    vcpu, guest = trace.step("vcpu"), trace.step("guest")
    given, kept, seen = trace.vmm.value(bit), vcpu.modelled_value(bit), guest.value(bit)
    return given is kept is (not to) and seen is to
