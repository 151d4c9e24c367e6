"""The dumps of the InstLatx64 collection, made by AIDA64 and its forerunner EVEREST.

    ------[ CPUID Registers / Logical CPU #0 ]------
    CPUID 00000007: 00000001-219C07AB-1840073C-AC004410 [SL 00]

`[SL nn]` is the sub-leaf, hexadecimal. Of twenty years of such dumps, all forms are read: headings `------[ Logical CPU #0 ]------`,
`CPU#000 AffMask: 0x1`, `CPUID Registers (CPU #1):`, `CPU 0:` or none at all; answers with another separator or none; sub-leaves without
numbers. What else is in them, MSRs as the host has them among it, is no matter of CPUID and passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.words import INDEXED_FUNCTIONS
from vcpuid.formats.dump import Form, read_lines
from vcpuid.formats.form import Format, line_begins

_HEADING = re.compile(
    r"-+\[ *(?:CPUID Registers / )?Logical CPU #\d+|CPU#\d+ +AffMask|CPUID Registers \(CPU #\d+[^)]*\):|CPU \d+:\s*$", re.IGNORECASE
)
_PLACE = r"[ \t]*CPUID ([0-9A-Fa-f]{8})[ \t]*:?[ \t]*"
_ANSWER = re.compile(
    _PLACE + r"([0-9A-Fa-f]{8})[- ]([0-9A-Fa-f]{8})[- ]([0-9A-Fa-f]{8})[- ]([0-9A-Fa-f]{8})(?![0-9A-Fa-f-])"
    r"(?!.*\[(?:S(?:L(?: [0-9A-Fa-f]*)?)?)?$)"  # no sub-leaf that is cut
    r"(?:.*\[SL ([0-9A-Fa-f]{2,8})\])?"
)
_BEGINS = re.compile(_PLACE + r"(?:[0-9A-Fa-f]{8}[- ]|[0-9A-Fa-f]*$)")
_SIGN = _PLACE + r"[0-9A-Fa-f]{8}[- ]"
_FORM = Form(_HEADING.match, _ANSWER.match, _BEGINS.match, "CPUID 00000000: 00000000-00000000-00000000-00000000 [SL 00]", number_last=True)


def read(text: str, source: str) -> list[Snapshot]:
    """Read the answers of every CPU; raises InputError for a line that is cut or damaged."""
    return read_lines(text, source, _FORM)


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the lines of AIDA64's form, without those that are not about CPUID."""
    for number, snapshot in enumerate(snapshots):
        if number:
            yield ""
        yield f"------[ CPUID Registers / Logical CPU #{number} ]------"
        yield ""
        for function, index, _, *registers in snapshot.raw:
            line = "CPUID {:08X}: {:08X}-{:08X}-{:08X}-{:08X}".format(function, *registers)
            yield f"{line} [SL {index:02X}]" if index or function in INDEXED_FUNCTIONS else line


FORMAT = Format("instlatx64", "AIDA64's text, as in InstLatx64", line_begins(_SIGN), read, write, several=True)
