"""VMware's log of a guest, vmware.log: what the host's processor answers, and what the guest is told.

    vmx| I125: hostCPUID level 0000000d, 1: 0x00000001 0x00000000 0x00000000 0x00000000
    vmx| I005: guest vs. host CPUID guest level 00000001,  0: 0x000906ea 0x00040800 0xf7fa3203 0x1f8bfbff
    vmx| I005: guest vs. host CPUID *host level 00000001,  0: 0x000906ea 0x00100800 0xfefaf387 0xbfebfbff

A sub-leaf is hexadecimal. In the second form the host is told only where it differs from the guest. What is read is the host (RAW) with the
guest's table (TAB) where the log has both.
"""

from __future__ import annotations

import re

from vcpuid.cpuid import Snapshot
from vcpuid.formats.both_sides import SideAnswer, read_sides
from vcpuid.formats.dump import words
from vcpuid.formats.form import Format

_REGISTERS = r"0x([0-9a-f]{8}) 0x([0-9a-f]{8}) 0x([0-9a-f]{8}) 0x([0-9a-f]{8})(?![0-9a-f])"
_WHO = r"(hostCPUID|guestCPUID|CPUID guest|CPUID \*host)"
_LINE = re.compile(rf"{_WHO} level ([0-9a-f]{{8}}), {{1,4}}([0-9a-f]{{1,8}}): {_REGISTERS}")
_BEGINS = re.compile(rf"{_WHO} level [0-9a-f]")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the one guest and its host; raises InputError for a line that is cut or damaged, and for a second, different answer."""
    beside = False

    def answer(found: re.Match[str]) -> SideAnswer:
        nonlocal beside
        beside = beside or found[1].startswith("CPUID")
        function, index, *registers = words(found.groups()[1:])
        return SideAnswer("host" in found[1], (function, index), tuple(registers))

    sides = read_sides(text, source, _LINE, _BEGINS, answer)
    host = {place: sides.host.get(place, entry) for place, entry in sides.guest.items()} | sides.host if beside else None
    return [sides.snapshot(host)]


FORMAT = Format("vmware", "VMware's log", lambda text: "CPUID" in text and bool(_LINE.search(text)), read, holds=("raw", "table"))
