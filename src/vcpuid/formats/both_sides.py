"""Logs of VMMs that tell both sides: what a guest is told of CPUID, and what the host's processor answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.dump import damaged
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.formats.mixed import refuse_mixed

_Place = tuple[int, int]


class SideAnswer(NamedTuple):
    """One line's answer: of the host or of the guest, at which leaf and sub-leaf, EAX to EDX."""

    of_host: bool
    place: _Place
    registers: tuple[int, ...]


@dataclass(frozen=True)
class LoggedSides:
    """What such a log told of each side."""

    host: dict[_Place, Entry] = field(default_factory=dict)
    guest: dict[_Place, Entry] = field(default_factory=dict)

    def snapshot(self, host: Mapping[_Place, Entry] | None = None) -> Snapshot:
        """Return the host as RAW, of `host` where that is given, with the guest's table as TAB where there is one."""
        raw = CpuidTable((self.host if host is None else host).values())
        return Snapshot(raw=raw, table=CpuidTable(self.guest.values()) if self.guest else None)


def read_sides(
    text: str, source: str, line: re.Pattern[str], begins: re.Pattern[str], answer: Callable[[re.Match[str]], SideAnswer | str]
) -> LoggedSides:
    """Collect the answers of a log.

    `line` finds one in its line, of which `begins` finds the beginning; `answer` makes of it an answer, or says what is wrong with it.
    Raises InputError for a line that is cut or damaged, or wrong, for a second, different answer, and for another form's answers beside.
    """
    sides = LoggedSides()
    others: list[str] = []
    for number, row in enumerate(text.split("\n"), 1):
        found = line.search(row)
        if found is None:
            if begins.search(row):
                raise damaged(source, number)
            others.append(row)
            continue
        read = answer(found)
        if isinstance(read, str):
            raise InputError(read, source=source, line=number)
        entry = Entry(*read.place, 0, *read.registers)
        told = sides.host if read.of_host else sides.guest
        if told.setdefault(read.place, entry) != entry:
            function, index = read.place
            raise InputError(f"a second, different answer of CPUID {function:x}.{index:x}", source=source, line=number)
        if len(told) > ENTRY_LIMIT:
            raise InputError(f"a CPU with more than {ENTRY_LIMIT} answers", source=source, line=number)
    refuse_mixed(others, source)
    return sides
