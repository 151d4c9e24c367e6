"""A host with facts made up, and all of those that a setup's could be, some with features turned in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, NoReturn

from vcpuid.setup import Setup
from vcpuid.told.facts import Fact
from vcpuid.told.together import Together


def in_no_batch(against: int, fact: Fact) -> NoReturn:
    """Raise LookupError: `Completions.turned` where there are no batches."""
    raise LookupError(f"{fact} is in no batch")


class Completion(NamedTuple):
    """A host with facts made up. `facts` are those in which it differs from the host that it is to be compared with.

    That is the one in which nothing is made up, or the completion whose place in the sequence is `against`. In the `full` one all is.
    Where it is `jointly` that they change an answer, they are behind it all together, if no other completion with some of them does.
    """

    facts: tuple[Fact, ...]
    setup: Setup
    against: int | None = None
    full: bool = False
    jointly: bool = False

    @property
    def is_batch(self) -> bool:
        """Whether it has features turned round together, and by itself tells of none of them."""
        return len(self.facts) > 1 and not self.jointly


class Batched(NamedTuple):
    """The places of the batches in which facts of one completion are turned, in the order in which `together` counts them, and its own."""

    together: Together
    places: tuple[int, ...]
    against: int


@dataclass(frozen=True, eq=False)
class Completions:
    """The hosts that a setup's could be; the first has everything made up, and differs in all facts.

    `turned` gives the setup in which one fact that is in batches is turned by itself, of the completion at a place.
    """

    made: tuple[Completion, ...] = ()
    turned: Callable[[int, Fact], Setup] = in_no_batch

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Iterator[Completion]:
        return iter(self.made)

    @cached_property
    def batched(self) -> tuple[Batched, ...]:
        """The batches among them."""
        places: dict[int, list[int]] = {}
        for place, completion in enumerate(self.made):
            if completion.is_batch and completion.against is not None:
                places.setdefault(completion.against, []).append(place)
        return tuple(Batched(Together(self.made[place].facts for place in of), tuple(of), against) for against, of in places.items())
