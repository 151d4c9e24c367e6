"""Firecracker as a VMM of the path: an adapter over `guest`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, MsrWord, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError, KvmError
from vcpuid.formats.firecracker_template import Template
from vcpuid.kvm.answers import Answers
from vcpuid.kvm.supported import answered
from vcpuid.numbers import decimal
from vcpuid.params import Params
from vcpuid.reasons import Ledger
from vcpuid.releases import Release
from vcpuid.setup import Setup
from vcpuid.vmm import Made
from vcpuid.vmm.firecracker import rules
from vcpuid.vmm.firecracker.guest import Guest, guest, released
from vcpuid.vmm.firecracker.msrs import counted
from vcpuid.vmm.firecracker.template import names, static
from vcpuid.vmm.patching import leaf

NONE = "none"
"""What is asked for without a template."""

_MOST_VCPUS = 999
"""Of more than any machine has: those beyond Firecracker's own limit are refused where that is known."""

_PERMISSION = "amx_permission"


@dataclass(frozen=True, slots=True)
class Firecracker:
    """What is asked of it is the name of a static template, or "none"; with a `custom` template, the name of its file.

    The setup's `smp` is the machine configuration: `N` vCPUs, or with smt `N,threads=2`. `Made.detail` is a `Guest`.
    """

    custom: Template | None = None
    name: str = "firecracker"
    spoken: str = "Firecracker"
    title: str = "Firecracker's table for KVM_SET_CPUID2"

    def release(self, asked: str | None) -> Release:
        """Choose the rules for a release."""
        return released(asked)

    def describe(self, asked: str, setup: Setup, remark: str = "") -> str:
        """Name template, release and vCPUs."""
        vcpus, smt = _machine(setup.smp)
        return f"{remark}{_spoken(asked)}, Firecracker {setup.vmm}, vcpu_count {vcpus}{', smt' if smt else ''}, {setup.linux}"

    def alike(self, table: CpuidTable, setup: Setup) -> Iterator[str]:
        """Give no template, then the static ones."""
        del table, setup
        yield NONE
        yield from names()

    def make(self, asked: str, setup: Setup, kvm: Answers) -> Made:
        """Make the tables of a guest; raises what `guest` raises, and InputError for an `smp` that is no machine of Firecracker's."""
        template = self.custom or (None if asked.lower() == NONE else static(asked, setup.vmm.tables))
        vcpus, smt = _machine(setup.smp)
        ledger = Ledger()
        told = guest(
            _permitted(setup, kvm.supported, ledger) if setup.vmm.number >= (1, 12) else kvm.supported,
            host=setup.host.raw,
            template=template if self.custom or template is None else asked,
            vcpus=vcpus,
            smt=smt,
            offered=kvm.msrs,
            release=setup.vmm,
            kernel=setup.kernel,
        )
        return Made(
            tables=told.tables,
            msrs=FrozenMap[Word, int](told.msrs.items()),
            decisions=(*ledger.decisions, *told.decisions),
            denied=tuple(_denied(template, told)) if template else (),
            warnings=told.warnings,
            remarks=told.remarks,
            detail=told,
        )

    def unspecific(self, warning: str) -> str:
        """Return the text: none of its warnings has a number of the host's."""
        return warning


FIRECRACKER = Firecracker()


def _spoken(asked: str) -> str:
    return "no CPU template" if asked.lower() == NONE else f"CPU template {asked}"


def _machine(smp: str) -> tuple[int, bool]:
    """Read vcpu_count and smt of an -smp argument."""
    count, _, rest = smp.removeprefix("cpus=").partition(",")
    vcpus = decimal(count, _MOST_VCPUS)
    if rest not in ("", "threads=1", "threads=2") or vcpus is None:
        raise InputError(f"-smp {smp[:40]!r}: Firecracker has a number of vCPUs, and with smt two threads a core: N, or N,threads=2")
    return vcpus, rest == "threads=2"


def _permitted(setup: Setup, supported: CpuidTable, ledger: Ledger) -> CpuidTable:
    """Return KVM's answer to a process that may use AMX, as Firecracker asks to (request_dynamic_xstate_features, arch/x86_64/xstate.rs).

    Where the answer was observed, or modelled for a process that did not ask, only what the permission changes in the model is changed.
    """
    if not setup.host.raw or _PERMISSION in setup.params.kvm:
        return supported
    with_it = replace(setup, params=Params.of({**setup.params.kvm, **setup.params.linux, _PERMISSION: 1}))
    try:
        without, permitted = answered(setup).table.by_key(), answered(with_it).table
    except KvmError:  # what was observed is no answer of Linux's KVM to this processor
        return supported
    changed = {entry[:2]: entry for entry in permitted if without.get(entry[:2]) != entry}
    if not changed:
        return supported
    entries = supported.by_key()
    for place, entry in changed.items():
        before = entries.get(place, Entry._make((*entry[:3], 0, 0, 0, 0)))
        values = [_with(before, without.get(place), entry, number) for number in range(3, 7)]
        for word, old, new in zip(leaf(*place), before[3:], values, strict=True):
            ledger.compute(word, old, new, rules.AMX_PERMISSION)
        entries[place] = Entry._make((*entry[:3], *values))
    return CpuidTable(entries.values())


def _with(before: Entry, without: Entry | None, entry: Entry, number: int) -> int:
    """Change the bits of a register that the permission changes, and no other."""
    old = 0 if without is None else without[number]
    return before[number] ^ ((old ^ entry[number]) & (~(before[number] ^ old)))


def _denied(template: Template, told: Guest) -> Iterator[Bit]:
    """Name the bits that a template turns on and that the guest does not get."""
    table = told.tables[0]
    for modifier in template.cpuid:
        wanted: dict[Word, int] = {}
        for register, (mask, value) in modifier.registers:
            word = CpuidWord(modifier.leaf, modifier.subleaf, register)
            wanted[word] = wanted.get(word, 0) & ~mask | value
        for register in REGISTERS:
            word = CpuidWord(modifier.leaf, modifier.subleaf, register)
            lost = wanted.get(word, 0) & ~table.word(word)
            yield from (Bit(word, position) for position in range(32) if lost >> position & 1)
    for index, (_, value) in template.msrs:
        lost = counted(index, value) & ~told.msrs.get(MsrWord(index), 0)
        yield from (Bit(MsrWord(index), position) for position in range(64) if lost >> position & 1)
