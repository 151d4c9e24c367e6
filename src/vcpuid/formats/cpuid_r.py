"""What Todd Allen's cpuid prints with -r, and reads with -f.

    CPU 0:
       0x00000007 0x00: eax=0x00000001 ebx=0xf1bf07ab ecx=0x00405fc6 edx=0x00000010

With -1 the heading is `CPU:`. Old versions print no sub-leaf. The lines are found inside other text, too: cpuid prints the leaves that it
cannot decode the same way, and people paste them behind `> ` or a time of day, or as a mailer wrapped them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from vcpuid.cpuid import Snapshot
from vcpuid.formats.dump import Form, read_lines
from vcpuid.formats.form import Format
from vcpuid.formats.pasted import QUOTE

_HEADING = re.compile(rf"{QUOTE}CPU(?: [0-9]+)?:\s*$")
_ANSWER = re.compile(
    r"\b0x([0-9a-f]{8})(?: 0x([0-9a-f]{2,8}))?:"
    r" eax=0x([0-9a-f]{8}) ebx=0x([0-9a-f]{8}) ecx=0x([0-9a-f]{8}) edx=0x([0-9a-f]{8})\b"
)
_REST = rf"\n{QUOTE}e[bcd]x=0x[^\n]*"
_WRAPPED = re.compile(f"{_REST}(?:{_REST})*")
_BEGINS = re.compile(r"\beax=0x|\b0x[0-9a-f]{8} 0x[0-9a-f]{2,8}:|^ {0,3}0x[0-9a-f]{8}\b")
_SIGN = re.compile(r"\b0x[0-9a-f]{8}(?: 0x[0-9a-f]{2,8})?: eax=0x[0-9a-f]")
_LIKE = "0x00000000 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00000000"
_FORM = Form(_HEADING.match, _ANSWER.search, _BEGINS.search, _LIKE, pasted=True)


def read(text: str, source: str) -> list[Snapshot]:
    """Read the answers of every CPU; raises InputError for a line that is cut or damaged, but for the last of the text."""
    return read_lines(_WRAPPED.sub(_unwrap, text), source, _FORM)


def _unwrap(found: re.Match[str]) -> str:
    """Put a line together that a mailer has wrapped, its answer being longer than 80 columns; the lines behind keep their numbers."""
    rests = [line.lstrip("> |\t").rstrip() for line in found[0].split("\n")[1:]]
    return "".join(f" {rest}" for rest in rests) + "\n" * len(rests)


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the lines that cpuid -r would print."""
    for number, snapshot in enumerate(snapshots):
        yield f"CPU {number}:"
        for function, index, _, *registers in snapshot.raw:
            yield "   0x{:08x} 0x{:02x}: eax=0x{:08x} ebx=0x{:08x} ecx=0x{:08x} edx=0x{:08x}".format(function, index, *registers)


FORMAT = Format("cpuid", "Todd Allen's cpuid -r", lambda text: "eax=0x" in text and bool(_SIGN.search(text)), read, write, several=True)
