"""The dumps of the InstLatx64 collection, made by AIDA64 and its forerunner EVEREST.

    ------[ CPUID Registers / Logical CPU #0 ]------
    CPUID 00000007: 00000001-219C07AB-1840073C-AC004410 [SL 00]

`[SL nn]` is the sub-leaf, hexadecimal. Of twenty years of such dumps, all forms are read: headings `------[ Logical CPU #0 ]------`,
`CPU#000 AffMask: 0x1`, `CPUID Registers (CPU #1):`, `CPU 0:` or none at all; answers with another separator or none; sub-leaves without
numbers.

    ------[ MSR Registers / Logical CPU #0 ]------
    MSR 0000010A: 0000-0000-0000-002B

Of MSRs as the host has them, those are kept that the rules ask for (`vcpuid.cpuid.hardware_msrs`); without a CPU's number they are every
CPU's. What could not be read (`< FAILED >`) is not told, and what else is in these texts is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from vcpuid.cpuid import MsrTable, Snapshot
from vcpuid.cpuid.hardware_msrs import KEPT
from vcpuid.cpuid.words import INDEXED_FUNCTIONS
from vcpuid.formats.dump import Form, read_lines
from vcpuid.formats.form import Format, line_begins

_HEADING = re.compile(
    r"-+\[ *(?:CPUID Registers / )?Logical CPU #[0-9]+|CPU#[0-9]+ +AffMask|CPUID Registers \(CPU #[0-9][^)]*\):|CPU [0-9]+:\s*$",
    re.IGNORECASE,
)
_PLACE = r"[ \t]*CPUID ([0-9A-Fa-f]{8})[ \t]*(?::[ \t]*)?"  # blanks can be matched in one way only
_ANSWER = re.compile(
    _PLACE + r"([0-9A-Fa-f]{8})[- ]([0-9A-Fa-f]{8})[- ]([0-9A-Fa-f]{8})[- ]([0-9A-Fa-f]{8})(?![0-9A-Fa-f-])"
    r"(?!.*\[(?:S(?:L(?: [0-9A-Fa-f]*)?)?)?$)"  # no sub-leaf that is cut
    r"(?:.*\[SL ([0-9A-Fa-f]{2,8})\])?"
)
_BEGINS = re.compile(_PLACE + r"(?:[0-9A-Fa-f]{8}[- ]|[0-9A-Fa-f]*$)")
_SIGN = _PLACE + r"[0-9A-Fa-f]{8}[- ]"
_FORM = Form(_HEADING.match, _ANSWER.match, _BEGINS.match, "CPUID 00000000: 00000000-00000000-00000000-00000000 [SL 00]", number_last=True)


_MSRS = re.compile(
    r"\n-+\[ *MSR Registers(?: / Logical CPU #([0-9]{1,6}))?|\nMSR (" + "|".join(f"{index:08X}" for index in sorted(KEPT)) + r"):[ \t]*"
    r"([0-9A-F]{4})-([0-9A-F]{4})-([0-9A-F]{4})-([0-9A-F]{4})(?![0-9A-Fa-f-])"
)


def read(text: str, source: str) -> list[Snapshot]:
    """Read the answers of every CPU; raises InputError for a line that is cut or damaged."""
    cpus = read_lines(text, source, _FORM)
    msrs = _msrs(text) if "MSR Registers" in text else {}
    if not msrs:
        return cpus
    of_all = msrs.get(None, {})
    return [replace(cpu, hardware_msrs=MsrTable({**of_all, **msrs.get(number, {})})) for number, cpu in enumerate(cpus)]


def _msrs(text: str) -> dict[int | None, dict[int, int]]:
    """Find the MSRs of each CPU, by its number, or of all; where a text reads one twice, the first time counts."""
    found: dict[int | None, dict[int, int]] = {}
    values: dict[int, int] = {}
    for line in _MSRS.finditer(text):
        number, index, *parts = line.groups()
        if index is None:
            values = found.setdefault(None if number is None else int(number), {})
        else:
            values.setdefault(int(index, 16), int("".join(parts), 16))
    return {number: values for number, values in found.items() if values}


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
