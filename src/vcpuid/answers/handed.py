"""The table that a VMM hands to KVM for one vCPU, and what of it and of the VMM's warnings the host does not tell enough to know."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.answers.certainty import refuse
from vcpuid.cpuid import CpuidTable
from vcpuid.errors import InputError, RefusedError
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Warned, paths, warned
from vcpuid.setup import Setup
from vcpuid.told.completions import nameless
from vcpuid.told.facts import NotTold
from vcpuid.told.tables import EVERY_LEAF, of_tables
from vcpuid.vmm import Vmm

SCHEMA = "vcpuid/qemu-table/1"
"""The form of `Handed.as_dict`."""


class Handed(NamedTuple):
    """The table of the vCPU with the number `vcpu`, as the VMM makes it where nothing is there that is not told."""

    cpu: str
    setup: Setup
    vcpu: int
    table: CpuidTable
    warned: Warned
    not_told: tuple[NotTold, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "cpu": self.cpu,
            "setup": self.setup.as_dict(),
            "warnings": list(self.warned.certain),
            "warnings_not_told": [found.as_dict() for found in self.warned.not_told],
            "remarks": list(self.setup.remarks),
            "vcpu": self.vcpu,
            "entries": [entry.as_dict() for entry in self.table],
            "not_told": [found.as_dict() for found in self.not_told],
        }


def handed(cpu: str, setup: Setup, vmm: Vmm, vcpu: int = 0) -> Handed:
    """Make the table, which KVM need not take.

    Raises the VMM's own error where it refuses the CPU, NotToldError where that is not told, InputError for a vCPU that there is not.
    """
    try:
        tables = vmm.make(cpu, setup, kvm_says(setup)).tables
    except RefusedError as error:
        refuse(error, cpu, setup, vmm)
    if vcpu >= len(tables):
        raise InputError(f"there is no vCPU {vcpu}: -smp {setup.smp} makes {len(tables)}")
    said = warned(cpu, setup, vmm)
    if blind := nameless(setup.host):
        return Handed(cpu, setup, vcpu, tables[vcpu], said, (NotTold(EVERY_LEAF, blind),))
    given = paths(cpu, setup, vmm).map(lambda path: None if path is None else path.tables[vcpu])
    return Handed(cpu, setup, vcpu, tables[vcpu], said, of_tables(tables[vcpu], given))
