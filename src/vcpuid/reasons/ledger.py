"""Rules applied to words, and the decisions that they leave behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.words import Bit, Word
from vcpuid.reasons.rule import Action, Rule


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
    records = True
    """Whether decisions are written down."""

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


class Unrecorded(Ledger):
    """A ledger that writes nothing down, for those who want the outcome alone; a party's work is the same with either."""

    __slots__ = ()
    records = False

    def clear(self, word: Word, before: int, mask: int, rule: Rule, cause: Bit | None = None) -> int:
        """Take the bits of `mask` away."""
        return before & ~mask

    def keep(self, word: Word, before: int, mask: int, rule: Rule, cause: Bit | None = None) -> int:
        """Take all bits but those of `mask` away."""
        return before & mask

    def set(self, word: Word, before: int, mask: int, rule: Rule, cause: Bit | None = None) -> int:
        """Turn the bits of `mask` on."""
        return before | mask

    def compute(self, word: Word, before: int, after: int, rule: Rule, cause: Bit | None = None) -> int:
        """Replace the value by one that the rule works out from other things."""
        return after

    def copy(self, word: Word, before: int, after: int, rule: Rule, cause: Bit | None = None) -> int:
        """Replace the value by that of another word."""
        return after


@dataclass(frozen=True, slots=True)
class Result:
    """A table that a party hands on, and why it differs from the one it was given."""

    table: CpuidTable
    decisions: Sequence[Decision] = ()


def replay(before: Mapping[Word, int], decisions: Iterable[Decision]) -> dict[Word, int]:
    """Apply decisions to words; a word that is not given counts as 0."""
    words = dict(before)
    for word, mask, value, _, _, _ in decisions:
        words[word] = words.get(word, 0) & ~mask | value
    return words
