"""Dumps as people paste them, and files that are more or less than one dump."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.excerpt import missing
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.formats.writing import write
from vcpuid.sources import read, read_dump

RAW = CpuidTable(
    [
        Entry(0, 0, 0, 7, 0x756E6547, 0x6C65746E, 0x49656E69),
        Entry(1, 0, 0, 0x906EA, 0x100800, 0x7FFAFBBF, 0xBFEBFBFF),
        Entry(7, 0, 0, 0, 0x29C67AF, 0, 0),
    ]
)
CPU = Snapshot(raw=RAW)
FORMS = ("cpuid", "tycho", "instlatx64", "snapshot", "cpudata", "json")
PREFIXES = {
    "quoted": "> ",
    "quoted twice": "> > ",
    "a bar": "| ",
    "indented": "        ",
    "the kernel's log": "[    0.123456] ",
    "a build's log": "2026-01-31T10:20:30.1234567Z ",
    "syslog": "Jan  3 10:20:30 host probe[12]: ",
    "quoted log": "> [ 1234.567890] ",
    "a time": "10:20:30 ",
}


def text_of(form: str, cpus: list[Snapshot] | None = None) -> str:
    return "".join(f"{line}\n" for line in write(cpus or [CPU], form))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=list(PREFIXES))
def test_what_stands_before_each_line_is_taken_off(form: str, prefix: str) -> None:
    (cpu,) = parse(re.sub("^", prefix, text_of(form).rstrip("\n"), flags=re.MULTILINE), "report")
    assert cpu.raw == RAW


@pytest.mark.parametrize("form", [form for form in FORMS if form != "snapshot"])  # whose end is known by what follows
def test_prose_and_fences_around_are_passed_over(form: str) -> None:
    (cpu,) = parse(f"Hello,\n\nthis is what I see:\n\n```text\n{text_of(form)}```\n\nThanks!\n", "report")
    assert cpu.raw == RAW


def test_quoted_cpus_stay_apart() -> None:
    other = Snapshot(raw=CpuidTable([*RAW[:2], Entry(7, 0, 0, 0, 0, 0, 0)]))
    quoted = re.sub("^(?=.)", "> ", text_of("cpuid", [CPU, other]), flags=re.MULTILINE)
    assert [cpu.raw for cpu in parse(quoted, "report")] == [RAW, other.raw]


@pytest.mark.parametrize("said", ["here is the rest of CPU:", "What is wrong with this CPU:", "Output for CPU 1:"])
@pytest.mark.parametrize("place", [0, 3, -1])
def test_prose_is_no_heading(said: str, place: int) -> None:
    lines = list(write([CPU], "cpuid"))
    lines.insert(place % (len(lines) + 1), said)
    assert [cpu.raw for cpu in parse("\n".join(lines) + "\n", "report")] == [RAW]


@pytest.mark.parametrize("mark", ["", "> ", "| "])
@pytest.mark.parametrize("width", [60, 72, 80])
def test_lines_that_a_mailer_has_wrapped(mark: str, width: int) -> None:
    text = "".join(f"{mark}{line}\n" for line in write([CPU, CPU], "cpuid"))
    wrapped = re.sub(rf"(?m)^(.{{{width - 20},{width}}}) (?=e[bcd]x=)", rf"\1\n{mark}", text)
    assert wrapped.count("\n") > text.count("\n")
    assert [cpu.raw for cpu in parse(wrapped, "mail")] == [RAW, RAW]


def test_an_error_behind_wrapped_lines_names_its_line() -> None:
    text = text_of("cpuid").replace(" edx=", "\nedx=") + "   0x00000014 0x00: eax=0x0000\n"
    with pytest.raises(InputError, match=rf"^mail:{text.count(chr(10))}: an answer of CPUID that is cut or damaged"):
        parse(f"{text}regards\n", "mail")
    (cpu,) = parse(text, "mail")
    assert cpu.raw == RAW
    assert cpu.notes[-1] == f"line {text.count(chr(10))} is cut: what the dump tells before it was read"


def test_a_document_is_not_shortened_to_what_is_whole() -> None:
    text = text_of("json").strip()
    with pytest.raises(InputError, match="damaged or cut JSON"):
        parse(f"{text}\n{text[: len(text) // 2]}\n", "cut")


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("form", FORMS)
def test_utf_16_as_a_windows_shell_writes_it(form: str, order: str, tmp_path: Path) -> None:
    path = tmp_path / "dump.txt"
    path.write_bytes(("\ufeff" + text_of(form).replace("\n", "\r\n")).encode(order))
    assert read(path).raw == RAW
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="begins as UTF-16, and is none"):
        read(path)


@pytest.mark.parametrize("first", FORMS)
@pytest.mark.parametrize("second", FORMS)
def test_two_forms_in_one_file_are_refused(first: str, second: str) -> None:
    if first == second:
        return
    with pytest.raises(InputError):
        parse(text_of(first) + "\n" + text_of(second), "mixed")


@pytest.mark.parametrize(("first", "second"), [("cpuid", "tycho"), ("instlatx64", "cpudata"), ("cpuid", "cpudata")])
def test_the_other_form_is_named(first: str, second: str) -> None:
    with pytest.raises(InputError, match=r"it holds another form too, .*: split it"):
        parse(text_of(second) + "\n" + text_of(first), "mixed")


@pytest.mark.parametrize("form", ["cpuid", "tycho", "instlatx64"])
def test_a_cpu_with_more_answers_than_any_has(form: str) -> None:
    many = [Snapshot(raw=CpuidTable([RAW[0], *(Entry(0x10000 + n, 0, 0, n, 0, 0, 0) for n in range(ENTRY_LIMIT))]))]
    with pytest.raises(InputError, match=f"a CPU with more than {ENTRY_LIMIT} answers"):
        parse(text_of(form, many), "many")


@pytest.mark.parametrize("form", ["cpuid", "tycho", "instlatx64", "snapshot", "cpudata"])
@pytest.mark.parametrize(("leaves", "told"), [(1, "leaf 0x0 tells of leaves up to 0x7, 0x0 is the last"), (2, "0x1 is the last"), (3, "")])
def test_a_dump_that_is_cut_between_lines_is_told(form: str, leaves: int, told: str, tmp_path: Path) -> None:
    path = tmp_path / "dump.txt"
    path.write_text(text_of(form, [Snapshot(raw=CpuidTable(RAW[:leaves]))]), encoding="utf-8")
    remarks = read_dump(path).remarks()
    assert (told in "".join(remarks)) if told else not remarks


def test_the_extended_range_is_asked_too() -> None:
    extended = [Entry(0x80000000, 0, 0, 0x80000008, 0, 0, 0), Entry(0x80000004, 0, 0, 0, 0, 0, 0)]
    (said,) = missing(CpuidTable([*RAW, *extended]))
    assert said.startswith("leaf 0x80000000 tells of leaves up to 0x80000008, 0x80000004 is the last")
    assert missing(CpuidTable([*RAW, *extended, Entry(0x80000008, 0, 0, 0, 0, 0, 0)])) == []
