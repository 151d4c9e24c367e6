"""What the kernel's own kcpuid prints with -r (tools/arch/x86/kcpuid in Linux' source).

    0x00000006: EAX=0x00000004, EBX=0x00000000, ECX=0x00000000, EDX=0x00000000
    0x00000007: subleafs:
      0: EAX=0x00000001, EBX=0xf1bf07ab, ECX=0x00405fc6, EDX=0x00000010

Sub-leaf numbers are decimal. It tells of one CPU, leaves out what is all zero, and never asks for hypervisors' leaves.
"""

from __future__ import annotations

import re

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.dump import AnswerLine, answer, damaged, gather
from vcpuid.formats.form import Format, line_begins
from vcpuid.formats.mixed import refuse_mixed

_REGISTERS = r" EAX=0x([0-9a-f]{8}), EBX=0x([0-9a-f]{8}), ECX=0x([0-9a-f]{8}), EDX=0x([0-9a-f]{8})$"
_LEAF = re.compile(r"0x([0-9a-f]{8}):" + _REGISTERS)
_GROUP = re.compile(r"0x([0-9a-f]{8}): subleafs:$")
_SUBLEAF = re.compile(r" *([0-9]{1,3}):" + _REGISTERS)
_BEGINS = re.compile(r"EAX=0x|^0x[0-9a-f]|^ *[0-9]+: E")
_SIGN = r"(?:0x[0-9a-f]{8}| *[0-9]+): EAX=0x[0-9a-f]"


def read(text: str, source: str) -> list[Snapshot]:
    """Read the one CPU; raises InputError for a line that is cut or damaged, and for a sub-leaf that follows no leaf."""
    said: list[AnswerLine | None] = []
    group: int | None = None
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        said.append(None)
        if found := _LEAF.match(line):
            group = None
            said[-1] = answer(int(found[1], 16), 0, _registers(found))
        elif found := _GROUP.match(line):
            group = int(found[1], 16)
        elif found := _SUBLEAF.match(line):
            if group is None:
                raise InputError("a sub-leaf under no leaf", source=source, line=number)
            said[-1] = answer(group, int(found[1]), _registers(found))
        elif _BEGINS.search(line):
            raise damaged(source, number)
    refuse_mixed((line for line, what in zip(text.split("\n"), said, strict=True) if what is None), source)
    return gather(said, source)


def _registers(found: re.Match[str]) -> list[int]:
    return [int(found[group], 16) for group in range(2, 6)]


FORMAT = Format("kcpuid", "the kernel's kcpuid -r", line_begins(_SIGN), read)
