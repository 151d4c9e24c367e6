"""A verdict of vcpuid check on one host, with all that belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vcpuid.cli.domain import AskedCpu
from vcpuid.cli.setup import Asked, probe_for, read_host, trial_for
from vcpuid.cli.standing import HERE, standing
from vcpuid.errors import InputError, VcpuidError

if TYPE_CHECKING:
    from vcpuid.answers.order import Order
    from vcpuid.answers.verdict import Verdict
    from vcpuid.hazards.rule import Hazard


def unread_document(host: str, error: VcpuidError) -> dict[str, object]:
    """Tell programs of a host of which nothing can be said."""
    from vcpuid.hazards.report import SCHEMA

    return {"schema": SCHEMA, "host": host, "error": str(error)}


class HostChecked:
    """A verdict on one host, the hazards of the guest's CPUID, and how libvirt led to it."""

    def __init__(self, host: str, basis: str, answer: Verdict, hazards: Sequence[Hazard], order: Order | None) -> None:
        self.host, self.basis, self.answer, self.hazards, self.order = host, basis, answer, hazards, order

    @classmethod
    def of(cls, wanted: AskedCpu, source: str | None, asked: Asked, *, probe: bool = True) -> HostChecked:
        """Judge it; without a source, on this machine. Raises InputError and what `AskedCpu.ordered` does."""
        from vcpuid import hazards
        from vcpuid.answers.ordered import judged
        from vcpuid.answers.verdict import verdict

        host = read_host(source)
        cpu, setup, order = wanted.ordered(host, asked)
        kvm = trial_for(host, setup) if probe else None
        answer = verdict(cpu, setup, probe=None if kvm is None else probe_for(host), kvm=kvm, by_libvirt=order is not None)
        found = () if answer.seen is None or answer.refusal is not None else hazards.of_path(answer.seen)
        if order is not None and answer.path is not None:
            order = judged(order, answer.path)
        return cls(source or HERE, standing(answer.setup, host, source), answer, found, order)

    @property
    def status(self) -> int:
        """The exit status that is the answer."""
        answer, order = self.answer, self.order
        objection = None if order is None or answer.refusal is not None else order.objection
        if _misspelled(answer):
            return InputError.exit_status
        no = not answer.runs or objection or (order is not None and order.depends) or any(hazard.breaks for hazard in self.hazards)
        return 1 if no else 0

    def as_dict(self, manager: str | None = None) -> dict[str, object]:
        """For JSON."""
        from vcpuid.hazards.report import report

        return report(self.hazards, self.answer, manager, self.order, self.host)


def _misspelled(answer: Verdict) -> bool:
    """Tell whether QEMU refuses for a name that no QEMU has: that is no property of the host."""
    from vcpuid.qemu.unknown import misnamed

    return answer.refusal is not None and answer.path is None and misnamed(answer.cpu, answer.setup.vmm.tables)
