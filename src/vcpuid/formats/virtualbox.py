"""VirtualBox's log of a guest, VBox.log: CPUID as the guest is told it, and below each leaf what the host's processor answers.

    00:00:06.706596 Gst: 00000007/0000  00000000 00002401 00000000 30000400
    00:00:06.706597 Hst:                00000000 009c6fbb 00000000 bc000400

What is read is the host (RAW) with the guest's table (TAB), so that both are at hand: for `diff`, say.
"""

from __future__ import annotations

import re

from vcpuid.cpuid import Snapshot
from vcpuid.formats.both_sides import SideAnswer, read_sides
from vcpuid.formats.dump import words
from vcpuid.formats.form import Format

_REGISTERS = r"([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})(?![0-9a-f])"
_LINE = re.compile(rf"\b(Gst|Hst): (?:([0-9a-f]{{8}})/([0-9a-f]{{4}})|[ ]{{13}})[ *]{{1,4}}{_REGISTERS}")
_BEGINS = re.compile(r"\b(?:Gst|Hst): (?:[0-9a-f]{8}/|[ ]{13})")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the one guest and its host; raises InputError for a line that is cut, a host's line under none of the guest, a second answer."""
    place: tuple[int, int] | None = None

    def answer(found: re.Match[str]) -> SideAnswer | str:
        nonlocal place
        if found[2]:
            function, index = words([found[2], found[3]])
            place = function, index
        if place is None:
            return "what the host answers stands under no leaf"
        return SideAnswer(found[1] == "Hst", place, tuple(words(found.groups()[3:])))

    return [read_sides(text, source, _LINE, _BEGINS, answer).snapshot()]


FORMAT = Format("virtualbox", "VirtualBox's log", lambda text: "Gst: " in text and bool(_LINE.search(text)), read, holds=("table", "raw"))
