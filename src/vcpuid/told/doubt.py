"""Which of a host's answers depend on what the host does not tell."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from vcpuid.cpuid import MsrWord
from vcpuid.setup import Setup
from vcpuid.told.completions import nameless
from vcpuid.told.facts import HOST, Fact
from vcpuid.told.hosts import Completion
from vcpuid.told.tried import Tried, on_each

K = TypeVar("K", bound=Hashable)
_ABSENT = object()
NO_ANSWER = object()
"""The answer of a host on which there is nothing to answer: QEMU or KVM refuse."""


def doubts(setup: Setup, answer: Callable[[Setup], Mapping[K, object] | None]) -> dict[K, tuple[Fact, ...]]:
    """Return the answers that are not told, each with the facts on which it depends; none where the host tells all.

    `answer` gives all answers of a setup, by what they are about; one that it leaves out is an answer too. None is a setup of which there
    is nothing to say.
    """
    if blind := nameless(setup.host):
        return dict.fromkeys(answer(setup) or (), blind)
    given = on_each(setup, answer)
    return weighed(answer(setup) or {}, given) if given else {}


def weighed(base: Mapping[K, object], given: Tried[Mapping[K, object] | None]) -> dict[K, tuple[Fact, ...]]:
    """Return those answers of `base` that are otherwise somewhere in `given`, each with the facts that change it.

    None is a host on which there is nothing to answer, and says nothing.
    """
    seen: dict[K, None] = {}
    changing: dict[K, list[Completion]] = {}
    whole: list[Mapping[K, object]] = []
    for completion, answers in given:
        other = base if completion.against is None else whole[completion.against]
        whole.append(other if answers is None else answers)
        if answers is None or completion.is_batch:
            continue
        if answers != base:
            seen.update(dict.fromkeys((*base, *answers)))
        for key in _differing(other, answers):
            changing.setdefault(key, []).append(completion)
    if parts := _in_batches(whole, given):
        seen.update(dict.fromkeys((*base, *parts)))
    return {key: behind(changing.get(key, ()), parts.get(key, ())) for key in seen if key in changing or key in parts}


def _in_batches(whole: Sequence[Mapping[K, object]], given: Tried[Mapping[K, object] | None]) -> dict[K, list[Fact]]:
    """Return the facts of batches that change answers, by what these are about; a batch without an answer says nothing of its facts.

    `whole` are the answers with which others are compared, each at its completion's place.
    """
    found: dict[K, list[Fact]] = {}
    for together, places, against in given.completions.batched:
        base, unknown, changed = whole[against], 0, dict[K, int]()
        for number, place in enumerate(places):
            if (answers := given.answers[place]) is None:
                unknown |= 1 << number
            else:
                for key in _differing(base, answers):
                    changed[key] = changed.get(key, 0) | 1 << number
        alone = _Alone(given, against, base)
        for fact, key in (*together.behind_each(changed, unknown, alone), *alone.asked()):
            found.setdefault(key, []).append(fact)
    return found


class _Alone(Generic[K]):
    """Tells which answers are others than on the host at a place where one fact is turned there."""

    def __init__(self, given: Tried[Mapping[K, object] | None], against: int, base: Mapping[K, object]) -> None:
        self._given, self._against, self._base = given, against, base
        self._known: dict[Fact, dict[K, None]] = {}

    def __call__(self, fact: Fact) -> dict[K, None]:
        if fact not in self._known:
            answers = self._given.of(self._against, fact)
            self._known[fact] = {} if answers is None else dict.fromkeys(_differing(self._base, answers))
        return self._known[fact]

    def asked(self) -> Iterator[tuple[Fact, K]]:
        """Give what those tell who were asked: each may change more than it was asked for."""
        for fact, keys in self._known.items():
            yield from ((fact, key) for key in keys)


def _differing(one: Mapping[K, object], other: Mapping[K, object]) -> Iterator[K]:
    if one != other:
        yield from (key for key in {**one, **other} if one.get(key, _ABSENT) != other.get(key, _ABSENT))


def compared(base: object, given: Tried[object]) -> tuple[Fact, ...]:
    """Return the facts that change an answer, which is `base` where nothing is made up; none where nothing changes it.

    `given` are the answers where something is, the first where all is; NO_ANSWER says nothing. Where all together change it and no part of
    them does, all are returned.
    """
    return weighed({None: base}, given.map(lambda answer: None if answer is NO_ANSWER else {None: answer})).get(None, ())


def behind(changing: Iterable[Completion], parts: Iterable[Fact] = ()) -> tuple[Fact, ...]:
    """Return the facts behind those completions that change an answer, and the `parts` of batches that do, in the order of their places.

    Where facts change it together, and no part of them does, it is all of them.
    """
    found: list[Fact] = list(parts)
    everything: tuple[Fact, ...] = ()
    for completion in changing:
        if completion.jointly:
            everything += completion.facts
        else:
            found += completion.facts
    return _narrowed(found or everything)


def _narrowed(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Leave out leaves and MSRs of which single bits are named; these come last, in order."""
    given = tuple(dict.fromkeys(facts))
    if not (bits := [fact for fact in given if fact.position is not None]):
        return given
    parts = {fact.whole for fact in bits}
    wholes = (fact for fact in given if fact.position is None and fact not in parts)
    return (*wholes, *sorted(bits, key=lambda fact: (fact.of == HOST, isinstance(fact.place, MsrWord), fact)))
