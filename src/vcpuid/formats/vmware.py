"""VMware's log of a guest, vmware.log: what the host's processor answers, and what the guest is told.

    vmx| I125: hostCPUID level 0000000d, 1: 0x00000001 0x00000000 0x00000000 0x00000000
    vmx| I005: guest vs. host CPUID guest level 00000001,  0: 0x000906ea 0x00040800 0xf7fa3203 0x1f8bfbff
    vmx| I005: guest vs. host CPUID *host level 00000001,  0: 0x000906ea 0x00100800 0xfefaf387 0xbfebfbff

A sub-leaf is hexadecimal. In the second form the host is told only where it differs from the guest. What is read is the host (RAW) with the
guest's table (TAB) where the log has both.
"""

from __future__ import annotations

import re

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.dump import damaged, words
from vcpuid.formats.form import Format
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.formats.mixed import refuse_mixed

_REGISTERS = r"0x([0-9a-f]{8}) 0x([0-9a-f]{8}) 0x([0-9a-f]{8}) 0x([0-9a-f]{8})(?![0-9a-f])"
_WHO = r"(hostCPUID|guestCPUID|CPUID guest|CPUID \*host)"
_LINE = re.compile(rf"{_WHO} level ([0-9a-f]{{8}}), {{1,4}}([0-9a-f]{{1,8}}): {_REGISTERS}")
_BEGINS = re.compile(rf"{_WHO} level [0-9a-f]")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the one guest and its host; raises InputError for a line that is cut or damaged, and for a second, different answer."""
    guest: dict[tuple[int, int], Entry] = {}
    host: dict[tuple[int, int], Entry] = {}
    beside = False
    others: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        found = _LINE.search(line)
        if found is None:
            if _BEGINS.search(line):
                raise damaged(source, number)
            others.append(line)
            continue
        function, index, *registers = words(found.groups()[1:])
        place = function, index
        entry = Entry(function, index, 0, *registers)
        beside = beside or found[1].startswith("CPUID")
        told = host if "host" in found[1] else guest
        if told.setdefault(place, entry) != entry:
            raise InputError(f"a second, different answer of CPUID {place[0]:x}.{place[1]:x}", source=source, line=number)
        if len(told) > ENTRY_LIMIT:
            raise InputError(f"a CPU with more than {ENTRY_LIMIT} answers", source=source, line=number)
    refuse_mixed(others, source)
    if beside:
        host = {place: host.get(place, entry) for place, entry in guest.items()} | host
    return [Snapshot(raw=CpuidTable(host.values()), table=CpuidTable(guest.values()) if guest else None)]


FORMAT = Format("vmware", "VMware's log", lambda text: "CPUID" in text and bool(_LINE.search(text)), read, holds=("raw", "table"))
