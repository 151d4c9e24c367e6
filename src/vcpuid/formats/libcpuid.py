"""libcpuid's raw data, which `cpuid_tool --save` writes (cpuid_serialize_raw_data, libcpuid/cpuid_main.c), also of every logical CPU.

    _________________ Logical CPU #0 _________________
    basic_cpuid[7]=00000002 f2bf67eb 00405f4e bc000410
    intel_fn4[1]=1c004122 01c0003f 0000003f 00000000

Numbers in brackets are decimal: the leaf, or of a leaf that has its own array the sub-leaf. Arrays have places for leaves beyond the last
one of their range; these are left out, as are the places of an array behind the first empty one.
"""

from __future__ import annotations

import re
from dataclasses import replace

from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.cpuid.words import range_of
from vcpuid.formats.dump import HEADING, AnswerLine, Line, answer, damaged, gather, words
from vcpuid.formats.form import Format, line_begins
from vcpuid.formats.mixed import refuse_mixed
from vcpuid.numbers import decimal

_ARRAYS = {
    "basic_cpuid": None, "ext_cpuid": None, "intel_fn4": 0x4, "intel_fn11": 0xB, "intel_fn12h": 0x12, "intel_fn14h": 0x14,
    "amd_fn8000001dh": 0x8000001D, "amd_fn80000026h": 0x80000026,
}  # fmt: skip
"""The arrays, each with the leaf whose sub-leaves it has."""

_NAMES = "|".join(_ARRAYS)
_ANSWER = re.compile(rf"({_NAMES})\[([0-9]{{1,3}})\]=([0-9a-f]{{8}}) ([0-9a-f]{{8}}) ([0-9a-f]{{8}}) ([0-9a-f]{{8}})\s*$")
_HEADING = re.compile(r"_+ Logical CPU #[0-9]+ _+\s*$")
_BEGINS = re.compile(rf"(?:{_NAMES})\[")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the answers of every CPU; raises InputError for a line that is cut or damaged."""
    said: list[Line] = []
    ended: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        said.append(None)
        if found := _ANSWER.match(line):
            array, registers = found[1], words(found.groups()[2:])
            if _ARRAYS[array] is not None and (array in ended or not any(registers)):
                ended.add(array)
            else:
                said[-1] = _answer(array, decimal(found[2]) or 0, registers)
        elif _HEADING.match(line):
            said[-1] = HEADING
            ended.clear()
        elif _BEGINS.match(line):
            raise damaged(source, number)
    refuse_mixed((line for line, what in zip(text.split("\n"), said, strict=True) if what is None and not _BEGINS.match(line)), source)
    return [replace(cpu, raw=_within(cpu.raw)) for cpu in gather(said, source)]


def _answer(array: str, number: int, registers: list[int]) -> AnswerLine:
    leaf = _ARRAYS[array]
    if leaf is not None:
        return answer(leaf, number, registers)
    return answer(number + (0x80000000 if array == "ext_cpuid" else 0), 0, registers)


def _within(raw: CpuidTable) -> CpuidTable:
    """Leave out what is beyond the last leaf of its range."""
    last = {entry.function: entry.eax for entry in raw if entry.index == 0 and entry.function in (0, 0x80000000)}
    return CpuidTable(entry for entry in raw if entry.function <= last.get(range_of(entry.function), entry.function))


FORMAT = Format("libcpuid", "libcpuid's raw data", line_begins(r"(?:basic|ext)_cpuid\[[0-9]+\]="), read, several=True)
