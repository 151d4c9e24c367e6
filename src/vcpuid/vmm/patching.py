"""A CPUID table under change, as VMMs do it that take KVM's answer and patch it, field by field, for each vCPU.

Every change of a bit goes through a `Ledger`; flags and empty entries are no bits and leave no decision. `Patch` is a change as data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, Registers
from vcpuid.cpuid.words import REGISTERS
from vcpuid.reasons import Ledger, Rule


@dataclass(frozen=True, slots=True)
class VcpuPlace:
    """One vCPU: its number, counted from 0, how many the machine has, and how many of them are threads of one core."""

    number: int = 0
    count: int = 1
    threads: int = 1


class Patch(NamedTuple):
    """Bits `low` to `high` of a register become a number: one for all vCPUs, or one that is worked out for each."""

    word: CpuidWord
    low: int
    high: int
    value: int | Callable[[VcpuPlace], int]
    rule: Rule

    @property
    def mask(self) -> int:
        """The bits as an integer on the register."""
        return (1 << self.high + 1) - (1 << self.low)


class MissingLeaf(LookupError):
    """A patch is for a leaf or sub-leaf that the table does not have."""

    def __init__(self, function: int, index: int) -> None:
        self.function, self.index = function, index
        super().__init__(f"leaf {function:#x} sub-leaf {index:#x} is missing")


class TableDraft:
    """A table whose entries are found by leaf and sub-leaf.

    Of two entries of one place the last holds; KVM_GET_SUPPORTED_CPUID gives no two. Reading or changing a register of an entry that is
    not there raises MissingLeaf.
    """

    __slots__ = ("_flags", "_ledger", "_words")

    def __init__(self, table: CpuidTable, ledger: Ledger) -> None:
        self._ledger = ledger
        self._flags = {(entry.function, entry.index): entry.flags for entry in table}
        self._words = {
            CpuidWord(entry.function, entry.index, register): value
            for entry in table
            for register, value in zip(REGISTERS, entry.registers, strict=True)
        }

    def fork(self, ledger: Ledger) -> TableDraft:
        """Return a draft of its own that begins as this one is, and writes its changes to another ledger."""
        other = TableDraft(CpuidTable(), ledger)
        other._flags, other._words = dict(self._flags), dict(self._words)
        return other

    def __contains__(self, place: tuple[int, int]) -> bool:
        return place in self._flags

    def subleaves(self, function: int) -> Iterator[int]:
        """Yield 0, 1, 2 and so on, up to the first sub-leaf that the leaf lacks."""
        index = 0
        while (function, index) in self._flags:
            yield index
            index += 1

    def word(self, word: CpuidWord) -> int:
        """Return a register."""
        try:
            return self._words[word]
        except KeyError:
            raise MissingLeaf(word.function, word.index) from None

    def registers(self, function: int, index: int = 0) -> Registers:
        """Return an entry's registers."""
        return Registers(*(self.word(CpuidWord(function, index, register)) for register in REGISTERS))

    def flags(self, function: int, index: int) -> int:
        """Return an entry's flags."""
        return self._flags[function, index]

    def insert(self, function: int, index: int, flags: int) -> None:
        """Give an entry these flags; where it is not there yet, its registers are zero."""
        if (function, index) not in self._flags:
            self._words |= dict.fromkeys((CpuidWord(function, index, register) for register in REGISTERS), 0)
        self._flags[function, index] = flags

    def assign(self, word: CpuidWord, mask: int, value: int, rule: Rule) -> None:
        """Make the bits of `mask` those of `value`."""
        before = self.word(word)
        if value & mask == mask:
            after = self._ledger.set(word, before, mask, rule)
        elif not value & mask:
            after = self._ledger.clear(word, before, mask, rule)
        else:
            after = self._ledger.compute(word, before, before & ~mask | value & mask, rule)
        self._words[word] = after

    def copy(self, function: int, index: int, registers: Iterable[int], rule: Rule) -> None:
        """Replace an entry's registers by those of another place."""
        for register, value in zip(REGISTERS, registers, strict=True):
            word = CpuidWord(function, index, register)
            self._words[word] = self._ledger.copy(word, self.word(word), value, rule)

    def apply(self, patches: Iterable[Patch], vcpu: VcpuPlace) -> None:
        """Apply patches, in order, as they are for one vCPU."""
        for patch in patches:
            value = patch.value if isinstance(patch.value, int) else patch.value(vcpu)
            self.assign(patch.word, patch.mask, value << patch.low, patch.rule)

    def table(self) -> CpuidTable:
        """Return the entries, in order of leaf and sub-leaf."""
        return CpuidTable(Entry(*place, flags, *self.registers(*place)) for place, flags in sorted(self._flags.items()))


def leaf(function: int, index: int = 0) -> tuple[CpuidWord, CpuidWord, CpuidWord, CpuidWord]:
    """Give a sub-leaf's four words."""
    return (
        CpuidWord(function, index, "eax"),
        CpuidWord(function, index, "ebx"),
        CpuidWord(function, index, "ecx"),
        CpuidWord(function, index, "edx"),
    )


def bit(feature: Bit, value: int | Callable[[VcpuPlace], int], rule: Rule) -> Patch:
    """Write the patch of a single bit of CPUID."""
    word, position = feature
    assert isinstance(word, CpuidWord), "no MSR is patched in a table"
    return Patch(word, position, position, value, rule)
