"""A path held against those on the other hosts that its own could be: which bits these leave open, and by which facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_
from typing import NamedTuple

from vcpuid.cpuid import Bit, MsrWord, Word
from vcpuid.cpuid.words import positions
from vcpuid.reasons import Trace
from vcpuid.told.doubt import NO_ANSWER, behind, compared
from vcpuid.told.facts import Fact
from vcpuid.told.hosts import Batched, Completion
from vcpuid.told.tried import Tried

_EVERY = -1
"""All bits of a word, however long that is."""
_LOOKS = 1 << MsrWord(0).width
"""Stands above the bits of a word, however long, where a party looks at it."""


class _Column(NamedTuple):
    """A word after a step, on the path and on the other hosts; None is one at which the party does not look.

    `open` are the bits in which some other host's differs from the path's, as a mask. `changes` are those completions that change bits of
    it, each with these, and `parts` the facts of batches, likewise. `looked` tells whether the party looks at it on each of the hosts, or
    on none; None is on some.
    """

    looked: bool | None
    own: int | None
    others: list[int | None]
    open: int
    changes: list[tuple[Completion, int]]
    parts: list[tuple[Fact, int]]


class Beside:
    """What the parties hand on of a path's CPU on the other hosts that its own could be, beside what they do on the path.

    A word is read of each once, whichever of its bits is asked for.
    """

    def __init__(self, trace: Trace, others: Tried[Trace | None]) -> None:
        self._trace, self._others = trace, others
        self._read: dict[tuple[int, Word], _Column] = {}

    def open(self, position: int, word: Word) -> int:
        """Return the bits of a word in which some other host's is another after the step at this position, as a mask."""
        return self._column(position, word).open

    def changing(self, position: int, bits: Sequence[Bit]) -> tuple[Fact, ...]:
        """Return the facts that change the first of some bits that the party at this position looks at; none where nothing does.

        Where it looks at none, as at an MSR that is not told, that is as good as off.
        """
        given = ((self._column(position, bit.word), bit) for bit in bits)
        places = [(column, bit) for column, bit in given if column.looked is not False]
        if not any(column.open & bit.mask for column, bit in places):
            return ()
        column, bit = places[0]
        if len(places) == 1 or column.looked:
            changing = (completion for completion, changed in column.changes if changed & bit.mask)
            return behind(changing, (fact for fact, changed in column.parts if changed & bit.mask))

        masks = [bit.mask for _, bit in places]
        rows = zip(self._others.answers, zip(*(column.others for column, _ in places), strict=True), strict=True)
        found = [NO_ANSWER if trace is None else _first(row, masks) for trace, row in rows]

        def alone(against: int, fact: Fact) -> object:
            trace = self._others.of(against, fact)
            return NO_ANSWER if trace is None else _first([trace.steps[position].word(bit.word) for _, bit in places], masks)

        own = _first((column.own for column, _ in places), masks)
        return compared(own, Tried(self._others.completions, found, alone))

    def _column(self, position: int, word: Word) -> _Column:
        if (known := self._read.get((position, word))) is None:
            known = self._read[position, word] = self._compare(position, word)
        return known

    def _given(self, position: int, word: Word) -> list[int | None]:
        """Read a word of each other host; of those that share what the party hands on, once."""
        seen: dict[int, int | None] = {}
        found: list[int | None] = []
        for _, trace in self._others:
            if trace is None:
                found.append(None)
                continue
            step = trace.steps[position]
            if (shared := id(step.after)) not in seen:
                seen[shared] = step.word(word)
            found.append(seen[shared])
        return found

    def _compare(self, position: int, word: Word) -> _Column:
        own, given = self._trace.steps[position].word(word), self._given(position, word)
        open_, base, looks = 0, own or 0, {own is not None}
        values: list[int] = []
        changes: list[tuple[Completion, int]] = []
        for (completion, trace), told in zip(self._others, given, strict=True):
            other = base if completion.against is None else values[completion.against]
            value = other if trace is None else told or 0
            values.append(value)
            if trace is not None:
                looks.add(told is not None)
            if completion.is_batch:
                continue
            if value != other:
                changes.append((completion, value ^ other))
            if trace is not None and told != own:
                open_ |= _EVERY if told is None or own is None else told ^ own
        parts = [part for batched in self._others.completions.batched for part in self._parts(position, word, batched, given, values)]
        for _, changed in parts:
            open_ |= _EVERY if changed & _LOOKS else changed
        return _Column(None if len(looks) > 1 else own is not None, own, given, open_, changes, parts)

    def _parts(
        self, position: int, word: Word, batched: Batched, given: Sequence[int | None], values: Sequence[int]
    ) -> Iterable[tuple[Fact, int]]:
        """Return the facts of batches that change bits of a word, each with these; whether the party looks at it counts as one.

        `values` are the words with which others are compared.
        """
        (together, places, against), traces = batched, self._others.answers
        base = _marked(values[against] if traces[against] is None else given[against])
        flips = [0 if traces[place] is None else _marked(given[place]) ^ base for place in places]
        unknown = sum(1 << number for number, place in enumerate(places) if traces[place] is None)
        bits = positions(reduce(or_, flips))
        changed = {bit: sum(1 << number for number, flip in enumerate(flips) if flip >> bit & 1) for bit in bits}

        def alone(fact: Fact) -> list[int]:
            trace = self._others.of(against, fact)
            return [] if trace is None else list(positions(_marked(trace.steps[position].word(word)) ^ base))

        return [(fact, 1 << bit) for fact, bit in together.behind_each(changed, unknown, alone)]


def _marked(value: int | None) -> int:
    return 0 if value is None else value | _LOOKS


def _first(values: Iterable[int | None], masks: Iterable[int]) -> bool:
    """Read the first bit at which the party looks; where it looks at none, that is as good as off."""
    return next((bool(value & mask) for value, mask in zip(values, masks, strict=True) if value is not None), False)
