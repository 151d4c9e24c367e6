"""What is answered on each host that a setup's could be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NoReturn, TypeVar

from vcpuid.setup import Setup
from vcpuid.told.completions import completions
from vcpuid.told.facts import Fact
from vcpuid.told.hosts import Completion, Completions, in_no_batch

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)


class Tried(Generic[T_co]):
    """The completions of a setup, and what is answered in each, at the same place.

    `ask` answers where a fact that is in batches is turned alone, of the completion at a place, and is asked once for it.
    """

    def __init__(self, completions: Completions, answers: Sequence[T_co], ask: Callable[[int, Fact], T_co]) -> None:
        self.completions, self.answers, self._ask = completions, answers, ask
        self._alone: dict[tuple[int, Fact], T_co] = {}

    def __iter__(self) -> Iterator[tuple[Completion, T_co]]:
        return zip(self.completions, self.answers, strict=True)

    def __len__(self) -> int:
        return len(self.completions)

    def of(self, against: int, fact: Fact) -> T_co:
        """Return what is answered where a fact that is in batches is turned alone."""
        if (against, fact) not in self._alone:
            self._alone[against, fact] = self._ask(against, fact)
        return self._alone[against, fact]

    def map(self, of: Callable[[T_co], U]) -> Tried[U]:
        """Answer something else, out of what is answered here."""
        return Tried(self.completions, [of(answer) for answer in self.answers], lambda against, fact: of(self.of(against, fact)))


def on_each(setup: Setup, ask: Callable[[Setup], T]) -> Tried[T]:
    """Ask each host that a setup's could be; none where the host tells all."""
    made = completions(setup)
    return Tried(made, [ask(completion.setup) for completion in made], lambda against, fact: ask(made.turned(against, fact)))


NOWHERE = Tried[NoReturn](Completions(), (), in_no_batch)
"""What is answered of a host that tells all: it could be no other."""
