"""Features that are turned round many at once, and which of them is behind a change.

What one feature of many changes shows when several are turned together as well, as long as no rule reads two of them. Each is in one batch
for each digit of its number, and no other in the same ones: what changes in these and in no others is by that feature. What fits no single
feature, as where two of them do hang together, is found by turning those alone that could be behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import TypeVar

from vcpuid.told.facts import Fact

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
_DIGITS = 3


def batches(of: Sequence[T]) -> list[tuple[T, ...]]:
    """Spread things over batches; where these are not half as many, each is alone in one."""
    base = next(number for number in count(2) if number**_DIGITS >= len(of))
    if 2 * base * _DIGITS > len(of):
        return [(one,) for one in of]
    digits = ((place, digit) for place in range(_DIGITS) for digit in range(base))
    spread = (tuple(one for number, one in enumerate(of) if number // base**place % base == digit) for place, digit in digits)
    return [batch for batch in spread if batch]


class Together:
    """The batches that some facts are in. A set of batches is a mask, in which a bit stands for the batch at its place."""

    def __init__(self, made: Iterable[Iterable[Fact]]) -> None:
        self._codes: dict[Fact, int] = {}
        for number, batch in enumerate(made):
            for fact in batch:
                self._codes[fact] = self._codes.get(fact, 0) | 1 << number
        self._facts = {code: fact for fact, code in self._codes.items()}

    def within(self, mask: int) -> list[Fact]:
        """Name the facts that are in no other batches than these."""
        return [fact for fact, code in self._codes.items() if not code & ~mask]

    def behind(self, changed: int, unknown: int, changes: Callable[[Fact], bool]) -> list[Fact]:
        """Name the facts behind an answer that is another in the batches `changed`, and of which those in `unknown` say nothing.

        `changes` tells whether the answer is another with a fact alone; it is asked where the batches leave a doubt.
        """
        if not unknown and (only := self._facts.get(changed)) is not None:
            return [only]
        found = [fact for fact in self.within(changed | unknown) if changes(fact)]
        for fact in found:
            changed &= ~self._codes[fact]
        return [*found, *(fact for fact, code in self._codes.items() if code & changed and changes(fact))]

    def behind_each(self, changed: Mapping[K, int], unknown: int, alone: Callable[[Fact], Collection[K]]) -> Iterator[tuple[Fact, K]]:
        """Do the same for many answers, each with the batches in which it is another; `alone` tells which are with a fact alone.

        A fact is asked for that is in no other batches than those which say nothing, whatever it changes.
        """
        for key, mask in changed.items():
            for fact in self.behind(mask, unknown, lambda fact, key=key: key in alone(fact)):  # type: ignore[misc]
                yield fact, key
        for fact in self.within(unknown):
            for key in alone(fact):
                yield fact, key
