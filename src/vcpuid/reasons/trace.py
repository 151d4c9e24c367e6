"""The path as its parties' steps: what each was given, what it handed on, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from vcpuid.cpuid.words import Bit, CpuidWord, Word, range_of
from vcpuid.reasons.ledger import Decision


class Basis(Enum):
    """How a step's outcome is known.

    NOT_TRIED is what the rules say where the machine is known to go by others, and was not asked.
    """

    OBSERVED = "observed"
    MODELLED = "modelled"
    NOT_TRIED = "not tried"
    NOT_TOLD = "not told"


@dataclass(frozen=True, slots=True)
class Step:
    """One party's part of the path, as words.

    `party` is its id, `spoken` how a person calls it, `title` what it hands on. Where the machine itself told what the party answers,
    `basis` is OBSERVED, `after` is what it told, and `modelled` is what the rules say, so that the two can be held side by side; the
    decisions are always those of the rules, over `before`. `whole` says that the party answers for all of CPUID: a word that is not in
    `after` then reads 0, while otherwise the party does not look at it.
    """

    party: str
    spoken: str
    title: str
    before: Mapping[Word, int]
    after: Mapping[Word, int]
    decisions: Sequence[Decision] = ()
    basis: Basis = Basis.MODELLED
    modelled: Mapping[Word, int] | None = None
    whole: bool = True
    _by_word: dict[Word, list[Decision]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def word(self, word: Word) -> int | None:
        """What the party hands on of a word; None where it does not look at it or nobody knows."""
        return None if self.basis is Basis.NOT_TOLD else read_word(self.after, word, self.whole)

    def value(self, bit: Bit) -> bool | None:
        """Whether the party hands the bit on; None as of its word."""
        return _has(self.word(bit.word), bit)

    def modelled_value(self, bit: Bit) -> bool | None:
        """What the rules say of the bit, where the machine's own answer stands in `after`; None where nothing was modelled."""
        return None if self.modelled is None else read_bit(self.modelled, bit, self.whole)

    def about(self, bit: Bit) -> tuple[Decision, ...]:
        """Give the decisions that touched the bit, oldest first."""
        by_word, (word, position) = self._by_word, bit
        if not by_word:  # they are gone through once: of a table with thousands of leaves there are as many
            for decision in self.decisions:
                by_word.setdefault(decision.word, []).append(decision)
        return tuple(decision for decision in by_word.get(word, ()) if decision.mask >> position & 1)


def read_bit(words: Mapping[Word, int], bit: Bit, whole: bool = True) -> bool | None:
    """Tell whether a bit is on; None where the words do not say, as `read_word` does."""
    return _has(read_word(words, bit.word, whole), bit)


def _has(value: int | None, bit: Bit) -> bool | None:
    return None if value is None else bool(value & bit.mask)


def read_word(words: Mapping[Word, int], word: Word, whole: bool = True) -> int | None:
    """Return a word; None where the words do not say. `whole` words are all of CPUID: what they lack is off.

    Past the last leaf of its range a register of CPUID reads 0.
    """
    return read_register(words, word) if whole and isinstance(word, CpuidWord) else words.get(word)


def read_register(words: Mapping[Word, int], word: CpuidWord) -> int:
    """Return a register as features stand in it: 0 past the last leaf of its range, where CPUID may answer with another leaf's bits.

    Where the range's first leaf is missing, as in a part of a dump, a leaf that is there counts.
    """
    value = words.get(word)
    if not value:
        return 0
    last = words.get(CpuidWord(range_of(word.function), 0, "eax"))
    return value if last is None or word.function <= last else 0


_VMM = 3
"""The VMM's place among the steps: silicon, Linux, KVM, the VMM, the vCPU, the guest."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The whole path, from the silicon to the guest."""

    steps: tuple[Step, ...]

    @property
    def vmm(self) -> Step:
        """The step of the VMM: what it hands to KVM_SET_CPUID2."""
        return self.steps[_VMM]

    def step(self, party: str) -> Step:
        """Return a party's step; KeyError where the path has none of that name."""
        for step in self.steps:
            if step.party == party:
                return step
        raise KeyError(party)
