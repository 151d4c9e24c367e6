"""A path held against those on the other hosts that its own could be: which bits these leave open, and by which facts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vcpuid.cpuid import Bit, Word
from vcpuid.reasons import Trace
from vcpuid.told.completions import Completion
from vcpuid.told.doubt import NO_ANSWER, behind, compared
from vcpuid.told.facts import Fact


class _Column(NamedTuple):
    """A word after a step, on the path and on the other hosts; None is one at which the party does not look.

    `open` are the bits in which some other host's differs from the path's, as a mask, and `changes` those completions that change bits
    of it, each with these.
    """

    own: int | None
    others: list[int | None]
    open: int
    changes: list[tuple[Completion, int]]


class Beside:
    """What the parties hand on of a path's CPU on the other hosts that its own could be, beside what they do on the path.

    A word is read of each once, whichever of its bits is asked for.
    """

    def __init__(self, trace: Trace, others: Iterable[tuple[Completion, Trace | None]]) -> None:
        self._trace, made = trace, tuple(others)
        self._completions = [completion for completion, _ in made]
        self._traces = [other for _, other in made]
        self._read: dict[tuple[int, Word], _Column] = {}

    def open(self, position: int, word: Word) -> int:
        """Return the bits of a word in which some other host's is another after the step at this position, as a mask."""
        return self._column(position, word).open

    def changing(self, position: int, bits: Sequence[Bit]) -> tuple[Fact, ...]:
        """Return the facts that change the first of some bits that the party at this position looks at; none where nothing does.

        Where it looks at none, as at an MSR that is not told, that is as good as off.
        """
        columns = [self._column(position, bit.word) for bit in bits]
        if not any(column.open & bit.mask for column, bit in zip(columns, bits, strict=True)):
            return ()
        column, bit = columns[0], bits[0]
        if len(bits) == 1 or not self._lacks(column):
            return behind(completion for completion, changed in column.changes if changed & bit.mask)
        masks = [bit.mask for bit in bits]
        base = _first((column.own for column in columns), masks)
        rows = zip(*(column.others for column in columns), strict=True)
        found = (
            (completion, NO_ANSWER if trace is None else _first(row, masks))
            for completion, trace, row in zip(self._completions, self._traces, rows, strict=True)
        )
        return compared(base, found)

    def _lacks(self, column: _Column) -> bool:
        """Whether a party does not look at the word, here or on another host."""
        return column.own is None or any(v is None and trace is not None for v, trace in zip(column.others, self._traces, strict=True))

    def _column(self, position: int, word: Word) -> _Column:
        if (known := self._read.get((position, word))) is None:
            given = self._given(position, word)
            known = self._read[position, word] = self._compare(self._trace.steps[position].word(word), given)
        return known

    def _given(self, position: int, word: Word) -> list[int | None]:
        """Read a word of each other host; of those that share what the party hands on, once."""
        seen: dict[int, int | None] = {}
        found: list[int | None] = []
        for trace in self._traces:
            if trace is None:
                found.append(None)
                continue
            step = trace.steps[position]
            if (shared := id(step.after)) not in seen:
                seen[shared] = step.word(word)
            found.append(seen[shared])
        return found

    def _compare(self, own: int | None, given: list[int | None]) -> _Column:
        open_, base = 0, own or 0
        values: list[int] = []
        changes: list[tuple[Completion, int]] = []
        for completion, trace, told in zip(self._completions, self._traces, given, strict=True):
            other = base if completion.against is None else values[completion.against]
            value = other if trace is None else told or 0
            if value != other:
                changes.append((completion, value ^ other))
            if trace is not None and told != own:
                open_ |= _EVERY if told is None or own is None else told ^ own
            values.append(value)
        return _Column(own, given, open_, changes)


_EVERY = -1
"""All bits of a word, however long that is."""


def _first(values: Iterable[int | None], masks: Iterable[int]) -> bool:
    """Read the first bit at which the party looks; where it looks at none, that is as good as off."""
    return next((bool(value & mask) for value, mask in zip(values, masks, strict=True) if value is not None), False)
