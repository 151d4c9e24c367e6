"""VirtualBox's log of a guest, VBox.log: CPUID as the guest is told it, and below each leaf what the host's processor answers.

    00:00:06.706596 Gst: 00000007/0000  00000000 00002401 00000000 30000400
    00:00:06.706597 Hst:                00000000 009c6fbb 00000000 bc000400

What is read is the host (RAW) with the guest's table (TAB), so that both are at hand: for `diff`, say.
"""

from __future__ import annotations

import re

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.dump import damaged, words
from vcpuid.formats.form import Format
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.formats.mixed import refuse_mixed

_REGISTERS = r"([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})(?![0-9a-f])"
_LINE = re.compile(rf"\b(Gst|Hst): (?:([0-9a-f]{{8}})/([0-9a-f]{{4}})|[ ]{{13}})[ *]{{1,4}}{_REGISTERS}")
_BEGINS = re.compile(r"\b(?:Gst|Hst): (?:[0-9a-f]{8}/|[ ]{13})")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the one guest and its host; raises InputError for a line that is cut, a host's line under none of the guest, a second answer."""
    guest: dict[tuple[int, int], Entry] = {}
    host: dict[tuple[int, int], Entry] = {}
    place: tuple[int, int] | None = None
    others: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        found = _LINE.search(line)
        if found is None:
            if _BEGINS.search(line):
                raise damaged(source, number)
            others.append(line)
            continue
        if found[2]:
            function, index = words([found[2], found[3]])
            place = function, index
        if place is None:
            raise InputError("what the host answers stands under no leaf", source=source, line=number)
        entry = Entry(*place, 0, *words(found.groups()[3:]))
        told = guest if found[1] == "Gst" else host
        if told.setdefault(place, entry) != entry:
            raise InputError(f"a second, different answer of CPUID {place[0]:x}.{place[1]:x}", source=source, line=number)
        if len(told) > ENTRY_LIMIT:
            raise InputError(f"a CPU with more than {ENTRY_LIMIT} answers", source=source, line=number)
    refuse_mixed(others, source)
    return [Snapshot(raw=CpuidTable(host.values()), table=CpuidTable(guest.values()) if guest else None)]


FORMAT = Format("virtualbox", "VirtualBox's log", lambda text: "Gst: " in text and bool(_LINE.search(text)), read, holds=("table", "raw"))
