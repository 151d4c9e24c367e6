"""Which of a host's answers depend on what the host does not tell."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from vcpuid.setup import Setup
from vcpuid.told.completions import Completion, completions, nameless
from vcpuid.told.facts import Fact

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
    made = completions(setup)
    return weighed(answer(setup) or {}, ((completion, answer(completion.setup)) for completion in made)) if made else {}


def weighed(base: Mapping[K, object], given: Iterable[tuple[Completion, Mapping[K, object] | None]]) -> dict[K, tuple[Fact, ...]]:
    """Return those answers of `base` that are otherwise somewhere in `given`, each with the facts that change it.

    None is a host on which there is nothing to answer, and says nothing.
    """
    seen: dict[K, None] = {}
    changing: dict[K, list[Completion]] = {}
    whole: list[Mapping[K, object]] = []
    for completion, answers in given:
        other = base if completion.against is None else whole[completion.against]
        whole.append(other if answers is None else answers)
        if answers is None:
            continue
        if answers != base:
            seen.update(dict.fromkeys((*base, *answers)))
        if answers != other:
            for key in {**other, **answers}:
                if other.get(key, _ABSENT) != answers.get(key, _ABSENT):
                    changing.setdefault(key, []).append(completion)
    return {key: behind(changing[key]) for key in seen if key in changing}


def compared(base: object, given: Iterable[tuple[Completion, object]]) -> tuple[Fact, ...]:
    """Return the facts that change an answer, which is `base` where nothing is made up; none where nothing changes it.

    `given` are the answers where something is, the first where all is; NO_ANSWER says nothing. Where all together change it and no part of
    them does, all are returned.
    """
    values: list[object] = []
    changing: list[Completion] = []
    for completion, value in given:
        other = base if completion.against is None else values[completion.against]
        if value is NO_ANSWER:
            value = other
        if value != other:
            changing.append(completion)
        values.append(value)
    return behind(changing)


def behind(changing: Iterable[Completion]) -> tuple[Fact, ...]:
    """Return the facts behind those completions that change an answer, where any does: all of them where no part of them changes it."""
    found: list[Fact] = []
    everything: tuple[Fact, ...] = ()
    for completion in changing:
        if completion.full:
            everything += completion.facts
        else:
            found += completion.facts
    return _narrowed(found or everything)


def _narrowed(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """Leave out leaves and MSRs of which single bits are named."""
    given = tuple(dict.fromkeys(facts))
    parts = {fact.whole for fact in given if fact.position is not None}
    return tuple(fact for fact in given if fact not in parts)
