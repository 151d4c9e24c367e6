"""Where in a process an address lies: the object that is mapped there, and the offset in its file."""

from __future__ import annotations

import re
from typing import NamedTuple

from vcpuid.numbers import U64, hexadecimal

GENERATED = "generated code"
"""What lies in memory that no file is behind: a just-in-time compiler's, or a program's own."""
_MAPPING = re.compile(r"([0-9a-f]{1,16})-([0-9a-f]{1,16}) \S{4} ([0-9a-f]{1,16}) \S+ \S+ *(.*)")
_DELETED = " (deleted)"


class CodePlace(NamedTuple):
    """An object's name without its folders, and the offset in its file, or in the mapping where there is no file."""

    object: str
    offset: int


def place(tid: int, address: int) -> CodePlace:
    """Find the object at an address in a thread's process."""
    try:
        with open(f"/proc/{tid}/maps", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return locate(file.read(), address)
    except OSError:
        return CodePlace("?", address)


def locate(maps: str, address: int) -> CodePlace:
    """Do the same, in the text of /proc/PID/maps."""
    for line in maps.split("\n"):
        found = _MAPPING.fullmatch(line)
        if found is None:
            continue
        start, end, offset = (hexadecimal(found[part], U64) or 0 for part in (1, 2, 3))
        if start <= address < end:
            path = found[4]
            if not path or path.startswith(("/memfd:", "//anon", "[anon", "[heap]", "[stack")):
                return CodePlace(GENERATED, address - start)
            return CodePlace(path.removesuffix(_DELETED).rpartition("/")[2], address - start + offset)
    return CodePlace("?", address)
