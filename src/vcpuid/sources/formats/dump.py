"""What the dumps of CPUID have in common: one answer a line, CPUs under headings, and sub-leaves that some do not number."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from vcpuid.cpuid import CpuidTable, Entry, Registers, Snapshot
from vcpuid.errors import InputError
from vcpuid.sources.walk import SUBLEAVES

_HEXADECIMAL = re.compile("[0-9A-Fa-f]")
_AVX = (0x100, 0x240)
"""Size and place of AVX's state in every XSAVE area (Intel SDM vol. 1, 13.4.3), so that its sub-leaf of leaf 0xD is known by sight."""


CPU_LIMIT = 8192
"""CPUs of a dump: as many as Linux can run on (NR_CPUS of x86)."""


class Cpus:
    """Gathers a dump's answers into one snapshot for each CPU.

    A heading begins a new CPU, and so does leaf 0 when the CPU has it already. `source` names the dump in errors.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._cpus: list[dict[tuple[int, int | None], list[tuple[int, Registers]]]] = []
        self._fresh = False
        self._line = 0

    def heading(self, line: int) -> None:
        """Begin a new CPU."""
        self._begin(line)
        self._fresh, self._line = True, line

    def answer(self, line: int, function: int, index: int | None, registers: Registers) -> None:
        """Take what CPUID answered; `index` is None where the dump does not tell the sub-leaf."""
        if not self._cpus or (function == 0 and not index and (0, index) in self._cpus[-1]):
            self._begin(line)
        self._fresh = False
        self._cpus[-1].setdefault((function, index), []).append((line, registers))

    def _begin(self, line: int) -> None:
        if len(self._cpus) == CPU_LIMIT:
            raise InputError(f"more than {CPU_LIMIT} CPUs", source=self._source, line=line)
        self._cpus.append({})

    def snapshots(self) -> list[Snapshot]:
        """Return the CPUs in the dump's order; raises InputError where a leaf has two answers, or the last CPU is cut."""
        if self._fresh:
            raise InputError("the dump ends behind the heading of a CPU", source=self._source, line=self._line)
        cpus = [cpu for cpu in self._cpus if cpu]
        if len(cpus) > 1:
            before, last = ([key for key, answers in cpu.items() for _ in answers] for cpu in cpus[-2:])
            if len(last) < len(before) and last == before[: len(last)]:
                line = max(line for answers in cpus[-1].values() for line, _ in answers)
                raise InputError(
                    "the dump is cut here: of the last CPU it lacks leaves that the one before has", source=self._source, line=line
                )
        return [self._snapshot(cpu) for cpu in cpus]

    def _snapshot(self, cpu: dict[tuple[int, int | None], list[tuple[int, Registers]]]) -> Snapshot:
        entries: dict[tuple[int, int], Entry] = {}
        counted: list[int] = []
        for (function, index), answers in cpu.items():
            if index is not None or len(answers) == 1:
                numbers = [index or 0] * len(answers)
            else:
                numbers = self._numbers(function, answers)
                counted += [function] if max(numbers) else []
            for number, (line, registers) in zip(numbers, answers, strict=True):
                entry = Entry(function, number, 0, *registers)
                if entries.setdefault(entry[:2], entry) != entry:
                    raise InputError(f"a second, different answer of CPUID {function:x}.{number:x}", source=self._source, line=line)
        notes = [f"the dump does not number the sub-leaves of leaf {function:x}: they are counted in its order" for function in counted]
        raw = CpuidTable(entries.values())
        return Snapshot(raw=raw, notes=(*part(raw), *notes))

    def _numbers(self, function: int, answers: Sequence[tuple[int, Registers]]) -> list[int]:
        numbers = list(islice(_subleaves(function, [registers for _, registers in answers]), len(answers)))
        if len(numbers) < len(answers):
            if len({registers for _, registers in answers}) == 1:
                return [0] * len(answers)
            cause = f"more answers of CPUID {function:x} than it has sub-leaves, and the dump does not number them"
            raise InputError(cause, source=self._source, line=answers[len(numbers)][0])
        return numbers


def _subleaves(function: int, answers: Sequence[Registers]) -> Iterator[int]:
    """Say which sub-leaves a dump lists that gives no numbers: those that the leaf itself tells of, in ascending order.

    Of leaf 0xD, whose sub-leaves have gaps, such dumps leave out what is all zero.
    """
    yield 0
    if function == 0xD:
        plain = Registers() if answers[1][:2] == _AVX else answers[1]
        yield from [1] if any(plain) else []
        components = (answers[0].edx | plain.edx) << 32 | answers[0].eax | plain.ecx
        yield from (number for number in range(2, 63) if components >> number & 1)
    elif function in SUBLEAVES:
        yield from (number for number in SUBLEAVES[function](lambda index: answers[min(index, len(answers) - 1)]) if number)


def part(raw: CpuidTable) -> list[str]:
    """Return a note for what lacks leaf 0, and so cannot be all that CPUID answers: an excerpt, or features as libvirt writes them."""
    return [] if raw.get(0) else ["leaf 0 is missing: this is a part of what CPUID answers"]


def read_lines(
    text: str,
    source: str,
    *,
    heading: re.Pattern[str],
    answer: re.Pattern[str],
    begins: re.Pattern[str],
    like: str,
    has_number_last: bool = False,
) -> list[Snapshot]:
    """Read a dump that has one answer a line.

    `answer` finds one in a line and has the groups f, i (may be missing), a, b, c, d, hexadecimal; `begins` finds what looks like one
    that is cut or damaged, which raises InputError; `like` is an example, by which the beginning of one is known at the end of a file;
    `has_number_last`: whether the sub-leaf stands behind the registers.
    """
    cpus = Cpus(source)
    lines = text.split("\n")
    numbered: set[int] = set()
    for number, line in enumerate(lines, 1):
        if found := answer.search(line):
            function, *registers = (int(digits, 16) for digits in found.group(*"fabcd"))
            index = None if found["i"] is None else int(found["i"], 16)
            if index is not None:
                numbered.add(function)
            elif number == len(lines) and has_number_last and function in numbered:
                raise InputError("the file ends where the sub-leaf should follow", source=source, line=number)
            cpus.answer(number, function, index, Registers(*registers))
        elif heading.match(line):
            cpus.heading(number)
        elif begins.search(line) or (number == len(lines) and line.strip() and _is_start(line, like)):
            raise InputError("an answer of CPUID that is cut or damaged", source=source, line=number)
    return cpus.snapshots()


def _is_start(line: str, like: str) -> bool:
    """Whether a line is how `like` begins, whatever its digits."""
    return _HEXADECIMAL.sub("0", like).startswith(_HEXADECIMAL.sub("0", line.strip()))
