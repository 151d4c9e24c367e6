"""Code lies in the object that is mapped there; in memory that no file is behind, it is generated code."""

from __future__ import annotations

import os

import pytest

from vcpuid.trace.objects import GENERATED, CodePlace, locate, place

MAPS = """\
555500000000-555500001000 r--p 00000000 fe:00 12 /usr/bin/a program
555500001000-555500002000 r-xp 00001000 fe:00 12 /usr/bin/a program
7f0000000000-7f0000001000 rwxp 00000000 00:00 0
7f0000002000-7f0000003000 r-xs 00003000 00:01 99 /memfd:doublemapper (deleted)
7f0000004000-7f0000005000 r-xp 00002000 fe:00 13 /usr/lib/libgone.so.1 (deleted)
7f0000006000-7f0000007000 r-xp 00000000 00:00 0 [vdso]
7f0000008000-7f0000009000 r-xp 00000000 fe:00 14 /tmp/evil\\012\x1b[31m
7f000000a000-7f000000b000 rwxp 00000000 00:00 0 [heap]
"""


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        (0x555500001234, CodePlace("a program", 0x1234)),
        (0x7F0000000010, CodePlace(GENERATED, 0x10)),
        (0x7F0000002008, CodePlace(GENERATED, 0x8)),
        (0x7F0000004001, CodePlace("libgone.so.1", 0x2001)),
        (0x7F0000006000, CodePlace("[vdso]", 0)),
        (0x7F0000008000, CodePlace("evil\\012\x1b[31m", 0)),
        (0x7F000000A000, CodePlace(GENERATED, 0)),
        (0x1000, CodePlace("?", 0x1000)),
    ],
)
def test_an_address_in_a_process(address: int, wanted: CodePlace) -> None:
    assert locate(MAPS, address) == wanted


@pytest.mark.parametrize("text", ["", "garbage\n", "zz-yy r-xp 0 0 0\n", "1-2\n", "\0"])
def test_maps_that_are_none_tell_nothing(text: str) -> None:
    assert locate(text, 1) == CodePlace("?", 1)


def test_a_process_that_is_gone_tells_nothing() -> None:
    assert place(4_194_304, 16) == CodePlace("?", 16)
    assert place(os.getpid(), 16) == CodePlace("?", 16)
