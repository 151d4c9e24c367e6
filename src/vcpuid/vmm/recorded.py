"""A VMM of which only its table is known: a recording or a dump shows what it handed to KVM_SET_CPUID2, and no rule of ours made it.

What differs from KVM's answer is told as an observation. Where VMMs are known to write a place (a vCPU's APIC id, the topology, the brand
string, bits that KVM rules itself), the decision names that idiom; else it says what happened to the bits and no more. The idioms are those
of QEMU, Firecracker, Cloud Hypervisor, crosvm, libkrun and gVisor, as their tables show them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot, bits
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.parts import alone, dumped, for_guest
from vcpuid.cpuid.words import REGISTERS, Register
from vcpuid.kvm.answers import Answers
from vcpuid.reasons import Decision, Ledger, Rule
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release
from vcpuid.setup import Setup
from vcpuid.vmm import Made

_SHOWN = "the table that was given to KVM_SET_CPUID2"
_ALL = 0xFFFFFFFF

APIC_ID = Rule("recorded.apic-id", "the VMM writes each vCPU's own APIC id here", _SHOWN)
TOPOLOGY = Rule("recorded.topology", "the VMM lays out the guest's threads, cores and caches here, and not the host's", _SHOWN)
BRAND = Rule("recorded.brand", "the VMM writes the processor's name here, which KVM does not report", _SHOWN)
VENDOR = Rule("recorded.vendor", "the VMM names the processor's maker here", _SHOWN)
SIGNATURE = Rule("recorded.signature", "the VMM writes the family, model and stepping of the CPU that it plays", _SHOWN)
RANGE = Rule("recorded.range", "the VMM says which leaf is the last one", _SHOWN)
RUNTIME = Rule("recorded.runtime", "the VMM copies a bit that KVM itself sets, by the guest's registers", _SHOWN)
HYPERVISOR = Rule("recorded.hypervisor-bit", "the VMM tells the guest that it is a guest", _SHOWN)
DEADLINE = Rule(
    "recorded.tsc-deadline",
    "the VMM gives the APIC timer's deadline mode, since KVM emulates the APIC (KVM_CAP_TSC_DEADLINE_TIMER)",
    _SHOWN,
)
INTRODUCTION = Rule(
    "recorded.hypervisor-leaves", "hypervisors introduce themselves here, and the VMM decides which ones the guest finds", _SHOWN
)
XSAVE_AREA = Rule("recorded.xsave-area", "sizes and offsets follow from the XSAVE states that the VMM gives the guest", _SHOWN)
LEFT_OUT = Rule("recorded.left-out", "the VMM's table has no such leaf", _SHOWN)
OF_PROCESSOR = Rule("recorded.of-processor", "the VMM hands on what the processor itself answers, and not what KVM reports", _SHOWN)
TAKEN = Rule(
    "recorded.taken", "the VMM took it away; its table does not say why", _SHOWN, remedy="see the VMM's own settings for the guest's CPU"
)
ADDED = Rule(
    "recorded.added", "the VMM gave it, though KVM does not report it", _SHOWN, remedy="see the VMM's own settings for the guest's CPU"
)
_KEPT = "the table that the vCPU keeps (KVM_GET_CPUID2)"
KEPT_WITHOUT = Rule("recorded.kept-without", "the vCPU lacks it: the VMM took it away, or KVM did when it kept the table", _KEPT)
KEPT_WITH = Rule(
    "recorded.kept-with", "the vCPU has it, though KVM does not report it: the VMM gave it, or KVM did when it kept the table", _KEPT
)


class _Idiom(NamedTuple):
    """Bits of a register, or of a register in every sub-leaf (`subleaf` None), that VMMs write for a reason of their own."""

    rule: Rule
    function: int
    subleaf: int | None
    register: Register
    mask: int = _ALL


def _whole(rule: Rule, function: int, *registers: Register) -> Iterator[_Idiom]:
    return (_Idiom(rule, function, None, register) for register in registers or REGISTERS)


_IDIOMS = (
    _Idiom(RANGE, 0x0, 0, "eax"),
    *_whole(VENDOR, 0x0, "ebx", "ecx", "edx"),
    _Idiom(SIGNATURE, 0x1, 0, "eax"),
    _Idiom(APIC_ID, 0x1, 0, "ebx", 0xFF000000),
    _Idiom(TOPOLOGY, 0x1, 0, "ebx", 0x00FF0000),
    _Idiom(TOPOLOGY, 0x1, 0, "edx", bits.HT.mask),  # the package has several threads
    _Idiom(DEADLINE, 0x1, 0, "ecx", bits.TSC_DEADLINE_TIMER.mask),
    _Idiom(RUNTIME, 0x1, 0, "ecx", bits.OSXSAVE.mask),
    _Idiom(HYPERVISOR, 0x1, 0, "ecx", bits.HYPERVISOR.mask),
    *_whole(TOPOLOGY, 0x4),
    _Idiom(RUNTIME, 0x7, 0, "ecx", bits.OSPKE.mask),
    *(idiom for leaf in (0xB, 0x1F) for idiom in (*_whole(APIC_ID, leaf, "edx"), *_whole(TOPOLOGY, leaf, "eax", "ebx", "ecx"))),
    *_whole(XSAVE_AREA, 0xD, "ebx", "ecx"),
    _Idiom(RANGE, 0x80000000, 0, "eax"),
    *_whole(VENDOR, 0x80000000, "ebx", "ecx", "edx"),
    _Idiom(SIGNATURE, 0x80000001, 0, "eax"),
    _Idiom(TOPOLOGY, 0x80000001, 0, "ecx", bits.CMP_LEGACY.mask),
    *(idiom for leaf in (0x80000002, 0x80000003, 0x80000004) for idiom in _whole(BRAND, leaf)),
    _Idiom(TOPOLOGY, 0x80000008, 0, "ecx"),
    *_whole(TOPOLOGY, 0x8000001D),
    _Idiom(APIC_ID, 0x8000001E, 0, "eax"),
    *_whole(TOPOLOGY, 0x8000001E, "ebx", "ecx"),
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A VMM that made these tables, one a vCPU; what is asked of it is the name of the source that shows them.

    `dump` is set where a program read the first of them in the guest: such a table may not be there as a whole.
    """

    tables: tuple[CpuidTable, ...]
    dump: Snapshot | None = None
    name: str = "vmm"
    spoken: str = "the VMM"
    title: str = "the recorded table for KVM_SET_CPUID2"

    @classmethod
    def of(cls, guests: Sequence[Snapshot], source: str | None = None) -> Recorded:
        """Take the tables of a guest's vCPUs, one snapshot each; raises InputError, with `source`, for one that has none."""
        first = guests[0]
        dump = replace(alone(first), cpuinfo=FrozenMap()) if dumped(first) else None
        return cls(tuple(for_guest(guest, source) for guest in guests), dump)

    def showing(self, dump: Snapshot) -> Recorded:
        """Return the same VMM with another first table: the one that a dump shows."""
        return replace(self, tables=(for_guest(dump), *self.tables[1:]), dump=None)

    def release(self, asked: str | None) -> Release:
        """Return a release that says there is none: nothing is known of the program but its tables."""
        del asked
        return Release("VMM", "recorded", "recorded", (0, 0))

    def describe(self, asked: str, setup: Setup, remark: str = "") -> str:
        """Name the source."""
        return f"{remark}the table of {asked}, {setup.linux}"

    def alike(self, table: CpuidTable, setup: Setup) -> Sequence[str]:
        """Give the recorded table's own name: there is nothing else to ask for."""
        del table, setup
        return ("recorded",)

    def make(self, asked: str, setup: Setup, kvm: Answers) -> Made:
        """Hand on the recorded tables; the decisions, from KVM's answer to the first of them, are worked out when looked at."""
        del asked, setup
        first = self.tables[0]
        return Made(self.tables, decisions=LazySequence(lambda: tuple(account(kvm.supported, first, kvm.host.raw))), observed=True)

    def unspecific(self, warning: str) -> str:
        """Return the text: nothing is known of what it prints."""
        return warning


def account(supported: CpuidTable, table: CpuidTable, raw: CpuidTable, *, handed: bool = True) -> list[Decision]:
    """Account for a table whose maker is not known: the decisions lead from what KVM supports to it, word by word.

    `raw` is the processor's own CPUID, an empty table where it is not known. A table that was not seen to be `handed` over is one that KVM
    kept, and may have changed.
    """
    taken, added = (TAKEN, ADDED) if handed else (KEPT_WITHOUT, KEPT_WITH)
    ledger = Ledger()
    before, after = supported.words(), table.words()
    known: set[CpuidWord] = {word for word in after if table.get(word.function, word.index) is not None}
    for word in sorted(before.keys() | after.keys(), key=lambda word: (word.function, word.index, REGISTERS.index(word.register))):
        value, target = before.get(word, 0), after.get(word, 0)
        value = _account(ledger, word, value, target, word in known, raw)
        value = ledger.clear(word, value, value & ~target, taken)
        ledger.set(word, value, target & ~value, added)
    return ledger.decisions


def _account(ledger: Ledger, word: CpuidWord, value: int, target: int, present: bool, raw: CpuidTable) -> int:
    """Take one word from KVM's value as far towards the table's as what VMMs are known to do explains it; return how far."""
    if value == target:
        return value
    if not present:
        return ledger.clear(word, value, value, LEFT_OUT)
    if 0x40000000 <= word.function < 0x40010000:
        return ledger.compute(word, value, target, INTRODUCTION)
    for rule, mask in _idioms_of(word):
        value = ledger.compute(word, value, value & ~mask | target & mask, rule)
    if value != target and raw.get(word.function, word.index) is not None and raw.word(word) == target:
        value = ledger.compute(word, value, target, OF_PROCESSOR)
    return value


def _idioms_of(word: CpuidWord) -> Iterator[tuple[Rule, int]]:
    for rule, function, index, register, mask in _IDIOMS:
        if function == word.function and register == word.register and index in (None, word.index):
            yield rule, mask
