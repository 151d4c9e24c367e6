"""Answers about a -cpu as JSON, for the cache of `vcpuid.fleet.kept`, and read of it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vcpuid.cpuid import CpuidTable, Entry, MsrWord, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import CpuidWord
from vcpuid.fleet.outcome import CpuOutcome
from vcpuid.told.facts import Between, Fact, NotTold, WholeLeaf


def outcome(answer: CpuOutcome) -> object:
    """What became of a -cpu."""
    return {
        "runs": answer.runs, "why": answer.why, "known": answer.known, "refused": answer.refused, "stays": answer.stays,
        "not_told": [[one.what, list(map(fact, one.depends))] for one in answer.not_told],
        "untold": list(map(fact, answer.untold)),
        "cpuid": None if answer.cpuid is None else list(map(list, answer.cpuid)),
        "msrs": [[_place(word), value] for word, value in answer.msrs.items()],
        "features": dict(answer.features),
        "open": list(map(_place, answer.open)),
    }  # fmt: skip


def outcome_of(told: Any) -> CpuOutcome:
    """Read it."""
    return CpuOutcome(
        told["runs"], told["why"], told["known"], told["refused"], told["stays"],
        tuple(NotTold(what, tuple(map(fact_of, facts))) for what, facts in told["not_told"]),
        tuple(map(fact_of, told["untold"])),
        None if told["cpuid"] is None else CpuidTable(Entry(*entry) for entry in told["cpuid"]),
        FrozenMap({_word_of(place): value for place, value in told["msrs"]}),
        FrozenMap(told["features"]),
        frozenset(map(_word_of, told["open"])),
    )  # fmt: skip


def fact(one: Fact) -> list[Any]:
    """A fact that hosts may tell."""
    return [_place(one.place), one.position, one.of]


def fact_of(told: Sequence[Any]) -> Fact:
    """Read it."""
    place, position, of = told
    return Fact(_place_of(place), position, of)


def _place(place: WholeLeaf | Word | Between) -> list[Any]:
    return list(place)


def _place_of(told: Sequence[Any]) -> WholeLeaf | Word | Between:
    """Tell places apart by how many numbers they have; kernels are told by their names."""
    kind: type[Any] = Between if isinstance(told[0], str) else {1: MsrWord, 2: WholeLeaf, 3: CpuidWord}[len(told)]
    place: WholeLeaf | Word | Between = kind(*told)
    return place


def _word_of(told: Sequence[Any]) -> Word:
    place = _place_of(told)
    if isinstance(place, (WholeLeaf, Between)):
        raise ValueError
    return place
