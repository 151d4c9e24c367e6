"""What guests read, held against the model: the look-up of KVM's rules in the table that the vCPU keeps.

kvm:kvm_cpuid tells the registers that a guest got. A difference is explained where KVM writes the bits itself as the guest's own registers
say: the table shows one moment, the answers were given at others. All other differences are ones that the model did not foresee.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Register, bits, names
from vcpuid.cpuid.words import REGISTERS, Bit, leaf_keys, positions
from vcpuid.kvm import vcpu_rules as rules
from vcpuid.kvm.lookup import lookup_entry
from vcpuid.reasons import Rule
from vcpuid.releases import Release
from vcpuid.trace.exits import Exit
from vcpuid.trace.guests import Guests
from vcpuid.trace.tables import VcpuTables

_ALL = 0xFFFFFFFF
_FOLLOWING: dict[tuple[int, int], tuple[tuple[Register, int, Rule], ...]] = {
    (1, 0): (
        ("ecx", bits.OSXSAVE.mask, rules.OSXSAVE),
        ("ecx", bits.MWAIT.mask, rules.MWAIT),
        ("edx", bits.APIC.mask, rules.APIC),
    ),
    (7, 0): (("ecx", bits.OSPKE.mask, rules.OSPKE),),
    (0xD, 0): (("ebx", _ALL, rules.XSAVE_SIZE),),
    (0xD, 1): (("ebx", _ALL, rules.XSAVES_SIZE),),
}
"""Bits that follow the guest's registers."""
_HIDDEN: dict[tuple[int, int], tuple[Register, int, Rule]] = {
    (7, 0): ("ebx", bits.RTM.mask | bits.HLE.mask, rules.TSX_HIDDEN),
    (0x80000007, 0): ("edx", bits.CONSTANT_TSC.mask, rules.INVTSC_HIDDEN),
}
"""Bits that an MSR of the guest's takes away, all at once."""


@dataclass(frozen=True, slots=True)
class AnswerDifference:
    """A register that a guest got, and what the model says instead; `mask` are the bits that differ, `count` how often they did.

    `rule` is the one by which they may differ, None where the model did not foresee it.
    """

    exit: Exit
    register: Register
    got: int
    modelled: int
    mask: int
    count: int
    rule: Rule | None

    def named(self) -> list[str]:
        """Name the features that differ; parts of numbers have no name."""
        word = CpuidWord(self.exit.function, self.exit.index, self.register)
        found = (names.by_bit(Bit(word, position)) for position in positions(self.mask))
        return [feature.name for feature in found if feature is not None]


@dataclass(frozen=True)
class Checked:
    """What came of holding answers against tables: `held` exits were, `not_told` were of vCPUs whose table nobody told.

    Where a vCPU had several tables, an answer may be of any of them, and one that is of none is not told either.
    """

    differences: tuple[AnswerDifference, ...]
    held: int
    not_told: int
    guests: Guests

    @property
    def agrees(self) -> bool:
        """Tell whether every answer is the model's, but for bits that follow the guest's registers."""
        return all(difference.rule is not None for difference in self.differences)

    def rows(self) -> list[dict[str, object]]:
        """Give the differences, those that the model did not foresee first."""
        return [
            self._row(difference) for difference in sorted(self.differences, key=lambda found: (found.rule is not None, found.exit[:4]))
        ]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"agrees": self.agrees if self.held else None, "held": self.held, "not_told": self.not_told, "differences": self.rows()}

    def _row(self, found: AnswerDifference) -> dict[str, object]:
        pid, tid = found.exit[:2]
        return {
            "pid": pid,
            "vm": self.guests.guest(pid).name or None,
            "vcpu": self.guests.vcpu(pid, tid),
            "thread": tid,
            **leaf_keys(found.exit.function, found.exit.index),
            "register": found.register,
            "got": f"{found.got:08x}",
            "modelled": f"{found.modelled:08x}",
            "features": found.named(),
            "count": found.count,
            "rule": None if found.rule is None else found.rule.id,
            "why": "the model does not explain it" if found.rule is None else found.rule.reason,
        }


def check(exits: Mapping[Exit, int], tables: VcpuTables, guests: Guests, kernel: str | Release) -> Checked:
    """Hold each answer against the table of its vCPU; `kernel` is the host's release. Raises InputError for a wrong one."""
    by_vcpu: dict[tuple[int, int], dict[Exit, int]] = {}
    for exit_, count in exits.items():
        by_vcpu.setdefault(exit_[:2], {})[exit_] = count
    found: list[AnswerDifference] = []
    held = not_told = 0
    for (pid, tid), of_vcpu in by_vcpu.items():
        moments = _by_table(tables.candidates(pid), guests.vcpu(pid, tid))
        if not moments:
            not_told += sum(of_vcpu.values())
            continue
        if len({number for number, _ in moments}) < len(moments):  # a VMM set one anew, or another guest was in the process before
            open_ = _fitting_none(of_vcpu, [table for tables_ in moments.values() for table in tables_], kernel)
            not_told += open_
            held += sum(of_vcpu.values()) - open_
            continue
        held += sum(of_vcpu.values())
        # Where the thread's name does not tell which vCPU it is, its answers do: no two tables of a guest have the same APIC ID.
        fits = [tuple(_all_differences(of_vcpu, of_one, kernel)) for of_one in moments.values()]
        nearest = min(fits, key=len)
        found += nearest
    return Checked(tuple(_joined(found)), held, not_told, guests)


def _by_table(candidates: Sequence[tuple[int, CpuidTable]], number: int | None) -> dict[tuple[int, CpuidTable], list[CpuidTable]]:
    """Put together what may be one vCPU's: tables that differ in what follows the guest's registers alone are one, at several moments.

    Keys are a vCPU's number and its table without these bits. Where none has that number, all may be meant.
    """
    found: dict[tuple[int, CpuidTable], list[CpuidTable]] = {}
    for of, table in [one for one in candidates if one[0] == number] or candidates:
        found.setdefault((of, CpuidTable(map(_without_following, table))), []).append(table)
    return found


def _without_following(entry: Entry) -> Entry:
    cleared = {register: getattr(entry, register) for register in REGISTERS}
    for register, mask, _ in _FOLLOWING.get(entry[:2], ()):
        cleared[register] &= ~mask
    return entry._replace(**cleared)


def _fitting_none(exits: Mapping[Exit, int], tables: Sequence[CpuidTable], kernel: str | Release) -> int:
    """Count the answers of a vCPU with several tables that are of none of them: it may have had one more, which nobody read."""
    return sum(
        count
        for exit_, count in exits.items()
        if all(any(difference.rule is None for difference in _differences(exit_, count, table, kernel)) for table in tables)
    )


def _all_differences(exits: Mapping[Exit, int], moments: Sequence[CpuidTable], kernel: str | Release) -> Iterator[AnswerDifference]:
    """Hold each answer against the moment of the table that it fits best."""
    for exit_, count in exits.items():
        fits = [tuple(_differences(exit_, count, table, kernel)) for table in moments]
        yield from fits[min(range(len(fits)), key=lambda at: len(fits[at]))]


def _differences(exit_: Exit, count: int, table: CpuidTable, kernel: str | Release) -> Iterator[AnswerDifference]:
    answer = lookup_entry(table, exit_.function, exit_.index, kernel=kernel)
    if exit_.registers is None or answer.registers == exit_.registers:
        return
    place = (exit_.function, exit_.index) if answer.entry is None else answer.entry[:2]
    for register, got, modelled in zip(REGISTERS, exit_.registers, answer.registers, strict=True):
        left = got ^ modelled
        for mask, rule in _foreseen(place, register, got, modelled):
            if left & mask:
                yield AnswerDifference(exit_, register, got, modelled, left & mask, count, rule)
            left &= ~mask
        if left:
            yield AnswerDifference(exit_, register, got, modelled, left, count, None)


def _foreseen(place: tuple[int, int], register: Register, got: int, modelled: int) -> Iterator[tuple[int, Rule]]:
    """Give the bits of a register that may differ from one moment to the next, with the rule that says so."""
    for of, mask, rule in _FOLLOWING.get(place, ()):
        if of == register:
            yield mask, rule
    if place in _HIDDEN:
        of, mask, rule = _HIDDEN[place]
        if of == register and not got & mask:
            yield mask, rule


def _joined(found: Iterable[AnswerDifference]) -> Iterator[AnswerDifference]:
    """Put together differences of one vCPU that are the same, wherever in the guest they were seen."""
    counts: dict[tuple[object, ...], AnswerDifference] = {}
    for one in found:
        key = (*one.exit[:4], one.register, one.got, one.modelled, one.mask)
        counts[key] = replace(one, count=one.count + counts[key].count) if key in counts else one
    yield from counts.values()
