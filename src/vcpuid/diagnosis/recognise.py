"""Finds in a paste every message that the table has."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from vcpuid.diagnosis.messages import MessageForm, messages
from vcpuid.diagnosis.text import Text, plain, unwrapped
from vcpuid.errors import InputError

LIMIT = 1 << 20
"""Characters of a paste."""

_EACH = 1000
"""Occurrences of one message that are looked at: a log repeats itself."""


@dataclass(frozen=True)
class Recognised:
    """A message in a paste, at `start` to `end` of it; `groups` are what its pattern's groups hold, made plain, and `text` all of it."""

    message: MessageForm
    start: int
    end: int
    text: str
    groups: dict[str, str] = field(hash=False)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        row = self.message
        return {
            "message": row.id, "program": row.program, "layer": row.layer, "start": self.start, "end": self.end, "text": self.text,
            "groups": self.groups, "meaning": row.meaning, "source": row.source, "evidence": row.evidence,
        }  # fmt: skip


def recognise(paste: str) -> tuple[Recognised, ...]:
    """Find the messages in a paste, in its order: those that stand in their lines, and those that a window's edge broke.

    Of two that overlap and come from the same layer the longer is given, which holds the other. Raises InputError for a paste of more
    than `LIMIT` characters.
    """
    if len(paste) > LIMIT:
        raise InputError(f"the paste has more than {LIMIT} characters: leave out what is no message")
    lines = plain(paste)
    found = list(_found(lines))
    known: dict[str, list[tuple[int, int]]] = {}
    for match in found:
        known.setdefault(match.message.id, []).append((match.start, match.end))
    found += [match for match in _found(unwrapped(lines)) if not _overlaps(match, known.get(match.message.id, []))]
    return tuple(sorted(_outermost(found), key=lambda match: (match.start, -match.end)))


def _found(text: Text) -> Iterator[Recognised]:
    lowered = text.text.lower()
    for message in messages():
        if not any(probe in lowered for probe in message.probes):
            continue
        for count, found in enumerate(message.compiled.finditer(text.text)):
            if count == _EACH:
                break
            start, end = text.span(*found.span())
            yield Recognised(
                message, start, end, found[0].strip(), {name: value for name, value in found.groupdict().items() if value is not None}
            )


def _overlaps(match: Recognised, places: list[tuple[int, int]]) -> bool:
    """Tell whether a match overlaps one of these places, which are in order and apart from each other."""
    after = bisect_left(places, (match.end, 0))
    return after > 0 and places[after - 1][1] > match.start


def _outermost(found: list[Recognised]) -> Iterator[Recognised]:
    """Leave out what stands within another match of the same layer; of two of the same stretch the one that the table has first."""
    by_layer: dict[str, list[Recognised]] = {}
    for match in found:
        by_layer.setdefault(match.message.layer, []).append(match)
    for matches in by_layer.values():
        end = -1
        for match in sorted(matches, key=lambda match: (match.start, -match.end)):
            if match.end > end:
                yield match
                end = match.end
