"""Does a -cpu start on the KVM that runs here? That KVM is asked; where QEMU would end, what it is that must not be asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from vcpuid.answers.settings import Amendment, joined, repaired, switch
from vcpuid.cpuid.hyperv import ENLIGHTENMENTS
from vcpuid.errors import KvmError, UnavailableError, VcpuidError
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Path, assumed, resolve
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.startup import Halt, RunningKvm, start, startup
from vcpuid.qemu.state import CpuState
from vcpuid.reasons import Basis
from vcpuid.setup import Setup

_MOST = 8
"""Settings that a proposal may lose before it is none."""

STARTS, REFUSES, ABORTS = "starts", "refuses", "aborts"


class Start(NamedTuple):
    """How QEMU's start ends: STARTS, REFUSES or ABORTS, and how that is known; `asked` is what of -cpu KVM refuses, where it is that.

    With Basis.NOT_TRIED the outcome is that on Linux's own KVM, of which this host's is none.
    """

    outcome: str
    basis: Basis
    message: str | None = None
    asked: str | None = None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"outcome": self.outcome, "basis": self.basis.value, "message": self.message, "asked": self.asked}


def started(path: Path, kvm: RunningKvm | None) -> Start:
    """Try a CPU that QEMU took on the running KVM; without one, or where it gives no vCPU to try it on, the rules have to do."""
    if kvm is None:
        return Start(STARTS, assumed(path.setup))
    try:
        halt = tried(path, kvm)
    except (KvmError, UnavailableError):
        return Start(STARTS, assumed(path.setup))
    if halt is None:
        return Start(STARTS, Basis.OBSERVED)
    return Start(ABORTS if halt.aborts else REFUSES, Basis.OBSERVED, halt.message, halt.asked)


def remarked(path: Path, kvm: RunningKvm | None) -> Path:
    """Add to the remarks on a path of QEMU's that its guest would never run, where the running KVM says so."""
    if kvm is None or not isinstance(path.made.detail, CpuState):
        return path
    start = started(path, kvm)
    if start.message is None:
        return path
    told = f"no such guest runs here, QEMU {start.outcome}: {start.message.splitlines()[0]}"
    return replace(path, remarks=(*path.remarks, told))


def tried(path: Path, kvm: RunningKvm) -> Halt | None:
    """Set a vCPU up as QEMU would, and return what brings that to an end; raises where KVM gives no vCPU at all."""
    state = path.made.detail
    assert isinstance(state, CpuState)
    return start(startup(state, path.tables[0], kvm_says(path.setup), kvm.listed), kvm)


def mended(cpu: str, setup: Setup, kvm: RunningKvm) -> tuple[str, tuple[Amendment, ...]] | None:
    """Leave out of a -cpu what QEMU cannot set on this KVM, and all that needs it; None where that does not make it start."""
    name, settings, _ = repaired(cpu, catalog(setup.vmm.tables))
    amendments: list[Amendment] = []
    for _ in range(_MOST):
        text = joined(name, settings)
        try:
            halt = tried(resolve(text, host=setup), kvm)
        except VcpuidError:
            return None
        if halt is None:
            return text, tuple(amendments)
        if halt.asked is None or any(amendment.what == halt.asked for amendment in amendments):
            return None
        amendments.append(Amendment("left-out", halt.asked, f"this KVM does not let QEMU set it up ({halt.message.splitlines()[0]})"))
        settings = _without(halt.asked, settings)
    return None


def _without(asked: str, settings: Iterable[str]) -> list[str]:
    """Leave a property out, and the enlightenments that need it; what no setting asks for is switched off."""
    gone = {asked}
    for name, enlightenment in ENLIGHTENMENTS.items():  # in an order in which needs come before what needs them
        if gone & set(enlightenment.needs):
            gone.add(name)
    kept = [setting for setting in settings if switch(setting)[0] not in gone]
    return kept if asked in ENLIGHTENMENTS or asked == "hv-passthrough" else [*kept, f"-{asked}"]
