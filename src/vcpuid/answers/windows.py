"""The whole -cpu with which a Windows guest finds every recommended Hyper-V enlightenment that QEMU and this host's KVM give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vcpuid.answers.settings import Amendment, joined
from vcpuid.answers.starting import Start, started
from vcpuid.answers.verdict import verdict
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Path
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.startup import RunningKvm
from vcpuid.qemu.state import CpuState


class Enlightened(NamedTuple):
    """`start` is how QEMU's start with the guest's own -cpu ends, None of another VMM's guest.

    `cpu` is the -cpu to take instead, None where none starts or nothing is to be added. `left_out` is what is recommended and not in it, or
    was asked for and cannot be set up, each with the reason. `none_here` says that no -cpu brings any, since the host's KVM has no Hyper-V.
    """

    start: Start | None
    cpu: str | None
    left_out: tuple[Amendment, ...] = ()
    none_here: bool = False

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        start = None if self.start is None else self.start.as_dict()
        return {
            "start": start,
            "proposal": self.cpu,
            "left_out": [amendment.as_dict() for amendment in self.left_out],
            "none_here": self.none_here,
        }


NOTHING = Enlightened(None, None)


def enlightened(path: Path, missing: Iterable[str], kvm: RunningKvm | None) -> Enlightened:
    """Add what is missing to a path's -cpu; with a KVM, the one that runs here, only what starts on it."""
    if not isinstance(path.made.detail, CpuState):
        return NOTHING
    start, host = started(path, kvm), kvm_says(path.setup).hyperv
    if host is not None and not host:
        return Enlightened(start, None, none_here=True)
    properties = catalog(path.setup.vmm.tables).properties
    flags = list(missing)
    left_out = [Amendment("left-out", flag, f"QEMU {path.setup.vmm} does not have it") for flag in flags if flag not in properties]
    known = [flag for flag in flags if flag in properties]
    if not known and start.message is None:
        return Enlightened(start, None, tuple(left_out))
    answer = verdict(joined(path.cpu, known), path.setup, kvm=kvm)
    if answer.refusal is None:  # features of the model may be missing, which is not asked here
        return Enlightened(start, answer.cpu, tuple(left_out))
    refused = [amendment for amendment in answer.amendments if amendment.kind == "left-out" and amendment.what.startswith("hv-")]
    return Enlightened(start, answer.proposal, (*left_out, *refused))
