"""What the dumps of CPUID have in common: one answer a line, CPUs under headings, and sub-leaves that some do not number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from struct import Struct
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, Entry, Registers, Snapshot
from vcpuid.cpuid.walk import SUBLEAVES
from vcpuid.errors import InputError
from vcpuid.formats.lines import CPU_LIMIT, ENTRY_LIMIT
from vcpuid.formats.mixed import refuse_mixed

_HEXADECIMAL = re.compile("[0-9A-Fa-f]")
_AVX = (0x100, 0x240)
"""Size and place of AVX's state in every XSAVE area (Intel SDM vol. 1, 13.4.3), so that its sub-leaf of leaf 0xD is known by sight."""

_WORDS = Struct(">5I")
"""Leaf and registers, as a line spells them."""


class AnswerLine(NamedTuple):
    """A line that tells what CPUID answered; `numbered` is whether it tells the sub-leaf too, which is 0 otherwise."""

    place: tuple[int, int]
    entry: Entry
    numbered: bool


def answer(function: int, index: int | None, registers: Sequence[int]) -> AnswerLine:
    """Make an answer of a line's numbers; `index` is None where it does not tell the sub-leaf."""
    entry = tuple.__new__(Entry, (function, index or 0, 0, *registers))  # Entry's own __new__ takes twice as long
    return AnswerLine((function, index or 0), entry, index is not None)


def words(texts: Iterable[str]) -> list[int]:
    """Read hexadecimal numbers of at most eight digits each, as a pattern has found them."""
    return [int.from_bytes(bytes.fromhex(text.zfill(8))) for text in texts]


def damaged(source: str, line: int) -> InputError:
    """Return the refusal of a dump whose line looks like an answer and is none."""
    return InputError("an answer of CPUID that is cut or damaged", source=source, line=line)


class Heading:
    """A line that begins a CPU."""


HEADING = Heading()
Line = AnswerLine | Heading | None
"""What a line of a dump says, None for what is of no matter."""


class Form(NamedTuple):
    """How a dump with one answer a line spells it.

    `answer` finds one in a line, as groups of hexadecimal digits: leaf, sub-leaf (may be missing), the four registers, or the sub-leaf
    last where `number_last` says so. `begins` finds what looks like one that is cut or damaged; `like` is an example, by which the
    beginning of one is known at the end of a file. `pasted` is whether people paste parts of such dumps: then a last line that is cut is
    left out, and a note says so.
    """

    heading: Callable[[str], re.Match[str] | None]
    answer: Callable[[str], re.Match[str] | None]
    begins: Callable[[str], re.Match[str] | None]
    like: str
    number_last: bool = False
    pasted: bool = False


class _Lines(dict[str, Line]):
    """What each line says; the CPUs of a dump have most of their lines in common, and one is looked at once."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form
        self.damaged: set[str] = set()

    def __missing__(self, line: str) -> Line:
        self[line] = said = self._look(line)
        return said

    def _look(self, line: str) -> Line:
        if found := self._form.answer(line):
            if self._form.number_last:
                leaf, a, b, c, d, index = found.groups()
            else:
                leaf, index, a, b, c, d = found.groups()
            function, *registers = _WORDS.unpack(bytes.fromhex(leaf + a + b + c + d))
            return answer(function, None if index is None else int(index, 16), registers)
        if self._form.heading(line):
            return HEADING
        if self._form.begins(line):
            self.damaged.add(line)
        return None

    def numbered(self) -> set[int]:
        """Return the leaves of which some line tells the sub-leaf."""
        return {said.place[0] for said in self.values() if isinstance(said, AnswerLine) and said.numbered}


def read_lines(text: str, source: str, form: Form) -> list[Snapshot]:
    """Read every CPU of a dump that has one answer a line; raises InputError for a line that is cut or damaged, and as `gather` does."""
    lines, said = text.split("\n"), _Lines(form)
    answers = [*map(said.__getitem__, lines)]
    cut = _cut_line(lines, answers, said, form) if form.pasted else None
    left_out = set() if cut is None else {lines[cut]}
    last, end = lines[-1], answers[-1]
    if said.damaged - left_out or (end is None and last.strip() and _is_start(last, form.like) and cut is None):
        number = next((number for number, line in enumerate(lines, 1) if line in said.damaged), len(lines))
        raise damaged(source, number)
    if form.number_last and isinstance(end, AnswerLine) and not end.numbered and end.place[0] in said.numbered():
        raise InputError("the file ends where the sub-leaf should follow", source=source, line=len(lines))
    refuse_mixed((line for line, what in said.items() if what is None and line not in left_out), source)
    cpus = gather(answers, source)
    if cut is None:
        return cpus
    note = f"line {cut + 1} is cut: what the dump tells before it was read"
    return [*cpus[:-1], replace(cpus[-1], notes=(*cpus[-1].notes, note))]


def _cut_line(lines: Sequence[str], answers: Sequence[Line], said: _Lines, form: Form) -> int | None:
    """Number the line, from 0, that is the beginning of an answer and the last of a text that has whole ones before; None without one."""
    last = next((number for number in range(len(lines) - 1, 0, -1) if lines[number].strip()), 0)
    found = form.begins(lines[last])
    start = lines[last][found.start() if found else 0 :]
    if answers[last] is not None or not _is_start(start, form.like) or lines.index(lines[last]) != last:
        return None
    return last if any(isinstance(what, AnswerLine) for what in answers[:last]) else None


def gather(said: Sequence[Line], source: str) -> list[Snapshot]:
    """Make a snapshot of each CPU, in the dump's order; `said` is what its lines say.

    A heading begins a new CPU, and so does leaf 0 when the CPU has it already. Raises InputError, which names the dump by `source`, where
    a leaf has two answers, or the last CPU is cut.
    """
    heads = [place for place, what in enumerate(said) if what is HEADING]
    if heads and not any(said[heads[-1] + 1 :]):
        raise InputError("the dump ends behind the heading of a CPU", source=source, line=heads[-1] + 1)
    cpus = [cpu for head, end in pairwise([-1, *heads, len(said)]) for cpu in _cpus(said, head + 1, end)]
    if len(cpus) > CPU_LIMIT:
        raise InputError(f"more than {CPU_LIMIT} CPUs", source=source, line=cpus[CPU_LIMIT].start + 1)
    for cpu in cpus:
        if len(cpu.answers) > ENTRY_LIMIT:
            raise InputError(f"a CPU with more than {ENTRY_LIMIT} answers", source=source, line=cpu.end)
    if len(cpus) > 1:
        before, last = ([answer.place for answer in cpu.answers] for cpu in cpus[-2:])
        if len(last) < len(before) and last == before[: len(last)]:
            cause = "the dump is cut here: of the last CPU it lacks leaves that the one before has"
            raise InputError(cause, source=source, line=max(place for place, what in enumerate(said, 1) if what))
    return [_snapshot(cpu, said, source) for cpu in cpus]


class _Cpu(NamedTuple):
    """The lines of one CPU, `start` to `end`, their answers, and those by leaf and sub-leaf as if all were numbered."""

    start: int
    end: int
    answers: list[AnswerLine]
    entries: dict[tuple[int, int], Entry]


def _cpus(said: Sequence[Line], start: int, end: int) -> Iterator[_Cpu]:
    """Give the CPUs of lines that no heading divides, if there are any."""
    answers = [what for what in said[start:end] if isinstance(what, AnswerLine)]
    entries = {place: entry for place, entry, _ in answers}
    if len(entries) == len(answers):
        if answers:
            yield _Cpu(start, end, answers, entries)
        return
    firsts = [place for place in range(start, end) if isinstance(what := said[place], AnswerLine) and what.place == (0, 0)]
    if len(firsts) < 2:
        yield _Cpu(start, end, answers, entries)
        return
    for begin, stop in pairwise([start, *firsts[1:], end]):
        yield from _cpus(said, begin, stop)


def _snapshot(cpu: _Cpu, said: Sequence[Line], source: str) -> Snapshot:
    entries, notes = _numbered(cpu, said, source) if len(cpu.entries) < len(cpu.answers) else (cpu.entries, [])
    return Snapshot(raw=CpuidTable(entries.values()), notes=tuple(notes))


def _numbered(cpu: _Cpu, said: Sequence[Line], source: str) -> tuple[dict[tuple[int, int], Entry], list[str]]:
    """Number the sub-leaves that a dump lists without numbers, and say of which leaves; raises InputError for two answers of one."""
    leaves: dict[tuple[int, int | None], list[tuple[int, Entry]]] = {}
    for line, what in enumerate(said[cpu.start : cpu.end], cpu.start + 1):
        if isinstance(what, AnswerLine):
            function, index = what.place
            leaves.setdefault((function, index if what.numbered else None), []).append((line, what.entry))
    entries: dict[tuple[int, int], Entry] = {}
    counted: list[str] = []
    for (function, told), answers in leaves.items():
        indices = _indices(function, answers, source) if told is None else [told] * len(answers)
        if told is None and max(indices):
            counted.append(f"{function:x}")
        for index, (line, entry) in zip(indices, answers, strict=True):
            entry = entry._replace(index=index)
            if entries.setdefault((function, index), entry) != entry:
                raise InputError(f"a second, different answer of CPUID {function:x}.{index:x}", source=source, line=line)
    note = f"the dump does not number the sub-leaves of leaf {', '.join(counted)}: they are counted in its order"
    return entries, [note] if counted else []


def _indices(function: int, answers: Sequence[tuple[int, Entry]], source: str) -> list[int]:
    """Count the sub-leaves of a leaf; the same answer over and over is one."""
    registers = [entry.registers for _, entry in answers]
    indices = list(islice(_subleaves(function, registers), len(answers)))
    if len(indices) < len(answers):
        if len(set(registers)) == 1:
            return [0] * len(answers)
        cause = f"more answers of CPUID {function:x} than it has sub-leaves, and the dump does not number them"
        raise InputError(cause, source=source, line=answers[len(indices)][0])
    return indices


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


def _is_start(line: str, like: str) -> bool:
    """Whether a line is how `like` begins, whatever its digits."""
    return _HEXADECIMAL.sub("0", like).startswith(_HEXADECIMAL.sub("0", line.strip()))
