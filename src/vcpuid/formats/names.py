"""A CPU's features by the names that a party gives them, for the forms that have names alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Snapshot
from vcpuid.cpuid.by_name import meant

if TYPE_CHECKING:  # the table of names is read when a form needs it, not when any file is
    from vcpuid.cpuid.features import Feature

Spelling = Callable[["Feature"], str | None]
"""What a party calls a feature, None where it has no name for it."""


def features(snapshot: Snapshot, spelling: Spelling) -> dict[str, bool]:
    """Say which features that have a name the CPU has, and which not; nothing about words that the snapshot does not have.

    A snapshot without CPUID gives those that it was told by name.
    """
    found: dict[str, bool] = {}
    for feature, has in _told(snapshot):
        if name := spelling(feature):
            found[name] = found.get(name, False) or has
    return found


def nameless(snapshot: Snapshot, spelling: Spelling, party: str) -> list[str]:
    """Tell of the features that the CPU has and the party has no name for; AMD's copies of leaf 1 go by their originals' names."""
    lost = [feature.name for feature, has in _told(snapshot) if has and not spelling(feature.copy_of or feature)]
    return [f"features without a name in {party}: {' '.join(lost)}"] if lost else []


def told_as(bit: Bit) -> str:
    """Return the best text that means this bit alone: a name, or its place where no party has one for it, or has it for others too."""
    from vcpuid.cpuid.names import by_bit, short_place, spellings

    feature = by_bit(bit)
    return short_place(bit) if feature is None else next(text for text in spellings(feature) if meant(text) == (feature,))


@lru_cache(maxsize=2)
def _told(snapshot: Snapshot) -> tuple[tuple[Feature, bool], ...]:
    """Give what a snapshot tells of features; who writes it asks what it lacks as well."""
    if not snapshot.raw:
        return tuple((feature, has) for name, has in snapshot.named.items() for feature in meant(name))
    return tuple(_in_words(snapshot.raw))


def _in_words(raw: CpuidTable) -> Iterator[tuple[Feature, bool]]:
    from vcpuid.cpuid.names import all_features

    for feature in all_features():
        if feature.bit is not None and isinstance(word := feature.bit.word, CpuidWord):
            entry = raw.get(word.function, word.index)
            if entry is not None:
                yield feature, bool(getattr(entry, word.register) & feature.bit.mask)
