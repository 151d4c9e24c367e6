"""What tycho's cpuid prints with -d, and reads with -f.

    CPU 0:
    CPUID 00000007:00 = 00000001 219c07ab 1840073c ac004410 | .......!<.@..D..

Behind the bar are the registers' bytes, where they are printable ASCII. Its old versions wrote
`CPUID 00000001, results = …` and `CPUID 00000004, index 1 = …`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.text import characters
from vcpuid.formats.dump import Form, read_lines
from vcpuid.formats.form import Format, line_begins

_HEADING = re.compile(r"CPU [0-9]+:\s*$")
_ANSWER = re.compile(
    r"[ \t]*CPUID ([0-9a-f]{8})(?:(?::|, index )([0-9a-f]{1,8})|, results) ="
    r" ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8}) ([0-9a-f]{8})(?![0-9a-f])"
)
_BEGINS = re.compile(r"[ \t]*CPUID [0-9a-f]{8}")
_SIGN = r"[ \t]*CPUID [0-9a-f]{8}(?:(?::|, index )[0-9a-f]{1,8}|, results) = [0-9a-f]"
_FORM = Form(_HEADING.match, _ANSWER.match, _BEGINS.match, "CPUID 00000000:00 = 00000000 00000000 00000000 00000000 | ")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the answers of every CPU; raises InputError for a line that is cut or damaged."""
    return read_lines(text, source, _FORM)


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the lines that cpuid -d would print."""
    for number, snapshot in enumerate(snapshots):
        yield f"CPU {number}:"
        for function, index, _, *registers in snapshot.raw:
            shown = "".join(character if " " <= character < "\x7f" else "." for character in characters(*registers))
            yield "CPUID {:08x}:{:02x} = {:08x} {:08x} {:08x} {:08x} | ".format(function, index, *registers) + shown


FORMAT = Format("tycho", "tycho's cpuid -d", line_begins(_SIGN), read, write, several=True)
