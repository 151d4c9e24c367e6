"""Why a bit is what it is: rules, the decisions they made, and the trace of a whole path.

A party turns the words it is given into the words it hands on. For every bit that it changes it leaves one `Decision`, which names the
`Rule`; bits that no decision names were kept. The laws, held by tests/property/test_decision_laws.py:

* replaying the decisions over the words given yields the words handed on;
* the last decision that names a bit carries the value that the bit ended with;
* a bit that differs before and after is named by at least one decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.words import Bit, CpuidWord, Word, range_of


class Action(Enum):
    """What a rule did to the bits of a decision."""

    CLEARED = "cleared"
    SET = "set"
    COPIED = "copied"
    COMPUTED = "computed"


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason for which a party changes bits.

    `reason` is a sentence for a person, about the bits in question ("KVM emulates it in software"). `{cause}` in it stands for the
    feature that the decision names as its cause. `source` is the function and file that does it, in Linux or in QEMU. `remedy` is what
    a user can do about it, None where nothing helps. `since` and `until` are the first and the last release (of Linux or of QEMU,
    whichever party it is) known to have the rule; None where all that vcpuid knows have it.
    """

    id: str
    reason: str
    source: str
    remedy: str | None = None
    since: str | None = None
    until: str | None = None

    def __hash__(self) -> int:
        return hash(self.id)


class Decision(NamedTuple):
    """One rule's effect on one word: the bits of `mask` became those of `value`. `cause` is the other feature that the rule looked at."""

    word: Word
    mask: int
    value: int
    action: Action
    rule: Rule
    cause: Bit | None = None


class Ledger:
    """Applies rules to words and writes down what they changed; a rule that changes nothing leaves no decision.

    Every method takes the word's value before and returns its value after.
    """

    __slots__ = ("decisions",)

    def __init__(self) -> None:
        self.decisions: list[Decision] = []

    def clear(self, word: Word, before: int, mask: int, rule: Rule, cause: Bit | None = None) -> int:
        """Take the bits of `mask` away."""
        if hit := before & mask:
            self.decisions.append(Decision(word, hit, 0, Action.CLEARED, rule, cause))
        return before & ~mask

    def keep(self, word: Word, before: int, mask: int, rule: Rule, cause: Bit | None = None) -> int:
        """Take all bits but those of `mask` away."""
        if hit := before & ~mask:
            self.decisions.append(Decision(word, hit, 0, Action.CLEARED, rule, cause))
        return before & mask

    def set(self, word: Word, before: int, mask: int, rule: Rule, cause: Bit | None = None) -> int:
        """Turn the bits of `mask` on."""
        if hit := mask & ~before:
            self.decisions.append(Decision(word, hit, hit, Action.SET, rule, cause))
        return before | mask

    def compute(self, word: Word, before: int, after: int, rule: Rule, cause: Bit | None = None) -> int:
        """Replace the value by one that the rule works out from other things."""
        if hit := before ^ after:
            self.decisions.append(Decision(word, hit, after & hit, Action.COMPUTED, rule, cause))
        return after

    def copy(self, word: Word, before: int, after: int, rule: Rule, cause: Bit | None = None) -> int:
        """Replace the value by that of another word."""
        if hit := before ^ after:
            self.decisions.append(Decision(word, hit, after & hit, Action.COPIED, rule, cause))
        return after


@dataclass(frozen=True, slots=True)
class Result:
    """A table that a party hands on, and why it differs from the one it was given."""

    table: CpuidTable
    decisions: tuple[Decision, ...] = ()


def replay(before: Mapping[Word, int], decisions: Iterable[Decision]) -> dict[Word, int]:
    """Apply decisions to words; a word that is not given counts as 0."""
    words = dict(before)
    for word, mask, value, _, _, _ in decisions:
        words[word] = words.get(word, 0) & ~mask | value
    return words


class Basis(Enum):
    """How a step's outcome is known."""

    OBSERVED = "observed"
    MODELLED = "modelled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Step:
    """One party's part of the path, as words.

    Where the machine itself told what the party answers, `basis` is OBSERVED, `after` is what it told, and `modelled` is what the rules
    say, so that the two can be held side by side; the decisions are always those of the rules, over `before`. `whole` says that the
    party answers for all of CPUID: a word that is not in `after` then reads 0, while otherwise the party does not look at it.
    """

    party: str
    title: str
    before: Mapping[Word, int]
    after: Mapping[Word, int]
    decisions: Sequence[Decision] = ()
    basis: Basis = Basis.MODELLED
    modelled: Mapping[Word, int] | None = None
    whole: bool = True

    def value(self, bit: Bit) -> bool | None:
        """Whether the party hands the bit on; None where it does not look at it or nobody knows."""
        return None if self.basis is Basis.UNKNOWN else read_bit(self.after, bit, self.whole)

    def modelled_value(self, bit: Bit) -> bool | None:
        """What the rules say of the bit, where the machine's own answer stands in `after`; None where nothing was modelled."""
        return None if self.modelled is None else read_bit(self.modelled, bit, self.whole)

    def about(self, bit: Bit) -> tuple[Decision, ...]:
        """Give the decisions that touched the bit, oldest first."""
        return tuple(d for d in self.decisions if d.mask & bit.mask and d.word == bit.word)


def read_bit(words: Mapping[Word, int], bit: Bit, whole: bool = True) -> bool | None:
    """Tell whether a bit is on; None where the words do not say. `whole` words are all of CPUID: what they lack is off.

    Past the last leaf of its range CPUID may answer with another leaf's bits, which stand for no feature: there a bit is off.
    """
    value = words.get(bit.word)
    if not (whole and isinstance(bit.word, CpuidWord)):
        return None if value is None else bool(value & bit.mask)
    if not value:
        return False
    return bit.word.function <= words.get(CpuidWord(range_of(bit.word.function), 0, "eax"), 0) and bool(value & bit.mask)


@dataclass(frozen=True, slots=True)
class Trace:
    """The whole path, from the silicon to the guest."""

    steps: tuple[Step, ...]

    def step(self, party: str) -> Step:
        """Return a party's step; KeyError where the path has none of that name."""
        for step in self.steps:
            if step.party == party:
                return step
        raise KeyError(party)
