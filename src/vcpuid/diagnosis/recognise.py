"""Finds in a paste every message that the table has."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Self

from vcpuid.cpuid.names import meant
from vcpuid.diagnosis.messages import MessageForm, messages
from vcpuid.diagnosis.text import Text, plain, unwrapped
from vcpuid.errors import InputError

LIMIT = 1 << 20
"""Characters of a paste."""

_LISTS = frozenset(("features", "extra", "flags"))
"""Groups that hold a list of features."""

_GAP = 200
"""Characters between a colon and its list that are looked at."""

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

    @property
    def emulated(self) -> bool:
        """Whether it speaks of QEMU's own emulator, to which it is all the same what the host has."""
        return self.groups.get("who", "").upper() == "TCG"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        row = self.message
        return {
            "message": row.id, "program": row.program, "layer": row.layer, "start": self.start, "end": self.end, "text": self.text,
            "groups": self.groups, "meaning": row.meaning, "source": row.source, "evidence": row.evidence,
        }  # fmt: skip


def recognise(paste: str) -> tuple[Recognised, ...]:
    """Find the messages in a paste, in its order: those that stand in their lines, and those that a window's edge broke.

    What is nowhere as it is printed may be there in letters of the other case. Of two that overlap and come from the same layer the longer
    is given, which holds the other. Raises InputError for a paste of more than `LIMIT` characters.
    """
    if len(paste) > LIMIT:
        raise InputError(f"the paste has more than {LIMIT} characters: leave out what is no message")
    lines = plain(paste)
    whole = _Searched.of(unwrapped(lines), messages())
    texts = _Searched.of(lines, whole.possible), whole  # what is looked for has no two blanks in a row: the whole has it if a line has
    found = _in_both(texts, paste, lambda message: message.compiled)
    printed = {match.message.id for match in found}
    retyped = _in_both(texts, paste, lambda message: None if message.id in printed else message.in_any_case)
    found += _themselves(retyped, [*found, *retyped])
    return tuple(sorted(_outermost(found), key=lambda match: (match.start, -match.end)))


class _Searched(NamedTuple):
    """A text, and the messages of which something that is in every one of them stands in it."""

    text: Text
    possible: tuple[MessageForm, ...]

    @classmethod
    def of(cls, text: Text, among: Iterable[MessageForm]) -> Self:
        """Look for what they all have in them: that is quick, and leaves few."""
        lowered = text.text.lower()
        return cls(text, tuple(message for message in among if any(probe in lowered for probe in message.probes)))


_Pattern = Callable[[MessageForm], re.Pattern[str] | None]
"""How a message is looked for; None for one that is not."""


def _in_both(texts: tuple[_Searched, _Searched], paste: str, pattern: _Pattern) -> list[Recognised]:
    """Find messages in the lines, and in the text without line ends those that are not the same ones again."""
    lines, whole = texts
    found = list(_found(lines, paste, pattern))
    known: dict[str, list[tuple[int, int]]] = {}
    for match in found:
        known.setdefault(match.message.id, []).append((match.start, match.end))
    return found + [match for match in _found(whole, paste, pattern) if not _overlaps(match, known.get(match.message.id, []))]


def _found(searched: _Searched, paste: str, pattern: _Pattern) -> Iterator[Recognised]:
    text = searched.text
    for message in searched.possible:
        if (wanted := pattern(message)) is None:
            continue
        for found in islice(wanted.finditer(text.text), _EACH):
            begin, end = found.span()
            groups = {name: value for name, value in found.groupdict().items() if value is not None}
            for name in _LISTS & groups.keys():
                if (behind := _before_other_words(text, paste, found.start(name), groups[name])) is not None:
                    del groups[name]
                    end = min(end, behind)
            start, stop = text.span(begin, end)
            yield Recognised(message, start, stop, text.text[begin:end].strip(), groups)


def _before_other_words(text: Text, paste: str, start: int, listed: str) -> int | None:
    """Tell where a message ends whose list is empty, so that the next line's words were taken for it; None where it is a list.

    A window's edge can put a list into the next line, behind no empty one; then some of its names are known.
    """
    behind = len(text.text[max(0, start - _GAP) : start].rstrip()) + max(0, start - _GAP)
    if behind == 0:
        return None
    lines = paste.count("\n", text.origin(behind - 1), text.origin(start))
    if lines == 0 or (lines == 1 and any(meant(name) for name in re.findall(r"[\w.-]+", listed))):
        return None
    return behind


def _overlaps(match: Recognised, places: list[tuple[int, int]]) -> bool:
    """Tell whether a match overlaps one of these places, which are in order and apart from each other."""
    after = bisect_left(places, (match.end, 0))
    return after > 0 and places[after - 1][1] > match.start


def _themselves(found: Iterable[Recognised], everything: list[Recognised]) -> Iterator[Recognised]:
    """Leave out what stands within a message of another layer that is not about it: these are words of that message's own."""
    reach: dict[frozenset[str], tuple[list[int], list[int]]] = {}
    for match in sorted(everything, key=lambda match: match.start):
        starts, ends = reach.setdefault(frozenset((match.message.layer, *match.message.wraps)), ([], []))
        starts.append(match.start)
        ends.append(max(match.end, ends[-1] if ends else 0))
    for match in found:
        others = (reach[layers] for layers in reach if match.message.layer not in layers)
        if not any((before := bisect_right(starts, match.start)) and ends[before - 1] >= match.end for starts, ends in others):
            yield match


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
