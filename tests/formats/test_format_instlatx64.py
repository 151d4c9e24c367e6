"""Every dump of the InstLatx64 collection is read, each leaf as a deliberately simple count finds it; the old forms, one by one."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from support.peers import INSTLATX64, members
from vcpuid.cpuid import MsrTable
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.writing import write

FORMATS = Path(__file__).parents[2] / "docs" / "formats.md"
HEX = "([0-9A-Fa-f]{8})"
LINE = re.compile(rf"CPUID {HEX}\W+{HEX}\W{HEX}\W{HEX}\W{HEX}")


NAMES = sorted(members(INSTLATX64))
needs_the_collection = pytest.mark.skipif(not NAMES, reason="the InstLatx64 collection is not there")


def count(text: str) -> Counter[tuple[int, ...]]:
    """Leaf, sub-leaf where the line has one (else -1) and registers of each line; a line that repeats the one above counts once."""
    found: Counter[tuple[int, ...]] = Counter()
    for line, _ in itertools.groupby(text.splitlines()):
        if match := LINE.match(line):
            index = re.findall(r"\[SL (\w+)\]", line)
            found[(int(match[1], 16), int(index[0], 16) if index else -1, *(int(register, 16) for register in match.groups()[1:]))] += 1
    return found


def origin(name: str) -> dict[str, str | None]:
    return {"kernel": None, "qemu": None, "vendor": parse(members(INSTLATX64)[name], name)[0].vendor}


@needs_the_collection
def test_the_collection_is_whole() -> None:
    assert len(NAMES) == 449
    cpus = sum(len(re.findall(r"^CPUID 00000000\W", text, re.MULTILINE)) for text in members(INSTLATX64).values())
    assert f"The {len(NAMES)} dumps of the InstLatx64 collection ({cpus:,} CPUs)" in FORMATS.read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.conformance("InstLatx64 dumps", origin)
@pytest.mark.parametrize("name", NAMES)
def test_every_dump_is_read_leaf_by_leaf(name: str) -> None:
    text = members(INSTLATX64)[name]
    wanted = count(text)
    cpus = parse(text, name)
    assert len(cpus) == len(re.findall(r"^CPUID 00000000\W", text, re.MULTILINE))
    numbered = {(function, index) for function, index, *_ in wanted if index >= 0}
    got = Counter(
        (entry.function, entry.index if (entry.function, entry.index) in numbered else -1, *entry.registers)
        for cpu in cpus
        for entry in cpu.raw
    )
    assert got == wanted
    assert all(cpu.raw[0].function == 0 for cpu in cpus)


@pytest.mark.parametrize("name", NAMES[::25])
@pytest.mark.parametrize("form", ["instlatx64", "cpuid", "tycho"])
def test_a_dump_comes_back_from_every_form(name: str, form: str) -> None:
    cpus = parse(members(INSTLATX64)[name], name)
    again = parse("".join(line + "\n" for line in write(cpus, form)), "again")
    assert [cpu.raw for cpu in again] == [cpu.raw for cpu in cpus]


@pytest.mark.skipif(shutil.which("cpuid") is None, reason="Todd Allen's cpuid is not installed")
@pytest.mark.parametrize("name", NAMES[::25])
def test_cpuid_itself_reads_what_we_write_of_a_dump(name: str, tmp_path: Path) -> None:
    text = "".join(line + "\n" for line in write(parse(members(INSTLATX64)[name], name), "cpuid"))
    file = tmp_path / "dump.txt"
    file.write_text(text, encoding="utf-8")
    assert subprocess.run(["cpuid", "-r", "-f", str(file)], capture_output=True, text=True, check=True).stdout == text


ANSWER = "00000001-756E6547-6C65746E-49656E69"


@pytest.mark.parametrize(
    ("heading", "line"),
    [
        ("------[ CPUID Registers / Logical CPU #{} ]------", "CPUID 00000000: {}"),
        ("------[ Logical CPU #{} ]------", "CPUID 00000000: {} [GenuineIntel]"),
        ("CPU#00{} AffMask: 0x0000000000000001 ", "CPUID 00000000: {} "),
        ("CPUID Registers (CPU #{}):", "CPUID 00000000  \t{}"),
        ("CPUID Registers (CPU #{} Virtual):", "CPUID 00000000 {}"),
        ("CPU {}:", "CPUID 00000000 :{}"),
        ("", "CPUID 00000000 : {}"),
    ],
)
@pytest.mark.parametrize("separator", ["-", " "])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_twenty_years_of_forms(heading: str, line: str, separator: str, case: type[str]) -> None:
    answer = case(ANSWER).replace("-", separator)
    text = "".join(f"{heading.format(number)}\n\n{line.format(answer)}\n" for number in range(3))
    cpus = parse(text, "dump.txt")
    assert [[str(entry) for entry in cpu.raw] for cpu in cpus] == [["00000000.0 f0 00000001 756e6547 6c65746e 49656e69"]] * 3


@pytest.mark.parametrize(
    ("answers", "indexes"),
    [
        (["00000004 1c004121 0 0 0", "00000004 1c004122 0 0 0", "00000004 1c03c163 0 0 0"], [0, 1, 2]),
        (["00000010 00000000 0000000a 0 0", "00000010 0a 600 4 f", "00000010 59 0 4 7"], [0, 1, 3]),  # EBX tells which there are
        (["0000000d 7 340 3c0 40000000", "0000000d 100 240 0 0"], [0, 2]),  # sub-leaf 1 is all zero, and AVX's known by sight
        (["0000000d 7 340 340 40000000", "0000000d 1 0 0 0", "0000000d 100 240 0 0", "0000000d 80 340 0 0"], [0, 1, 2, 62]),
        (["0000000d 3 240 240 0", "0000000d f 2c0 100 0", "0000000d 80 0 1 0"], [0, 1, 8]),  # XSS, in sub-leaf 1
        (["00000018 2 0 0 0", "00000018 0 80001 20 4022", "00000018 0 80006 4 4022"], [0, 1, 2]),
        (["00000006 1 0 0 0", "00000006 1 0 0 0"], [0]),  # one answer, twice
    ],
)
def test_subleaves_without_numbers_are_those_that_the_leaf_tells_of(answers: list[str], indexes: list[int]) -> None:
    lines = ["CPUID {}: {}-{}-{}-{}".format(*(word.rjust(8, "0") for word in answer.split())) for answer in answers]
    (cpu,) = parse("\n".join(["CPUID 00000000: 0000001F-0-0-0".replace("-0", "-00000000"), *lines, ""]), "dump.txt")
    assert [entry.index for entry in cpu.raw[1:]] == indexes
    assert any("does not number" in note for note in cpu.notes) == (max(indexes) > 0)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("CPUID 00000001: 000806F8-00010800-7FFEF3BF", "cut or damaged"),
        ("CPUID 00000001: 000806F8-00010800-7FFEF3BF-AFEBFBF", "cut or damaged"),
        ("CPUID 00000001: 000806F8-00010800-7FFEF3BF-AFEBFBFF0", "cut or damaged"),
        ("CPUID 00000001:", "cut or damaged"),
        ("CPUID 00000000: 00000002-756E6547-6C65746E-49656E69 [SL 01]\nCPUID 00000000: 00000003-0-0-0 [SL 01]", "cut or damaged"),
        ("CPUID 00000007: 00000002-00000000-00000000-00000000 [SL 00]\n" * 1 + f"CPUID 00000007: {ANSWER} [SL 00]", "a second, different"),
        (f"CPUID 00000006: {ANSWER}\nCPUID 00000006: {ANSWER.replace('6', '7')}", "more answers of CPUID 6"),
        ("------[ Logical CPU #1 ]------", "behind the heading of a CPU"),
    ],
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_wrong_line_is_named(line: str, cause: str, end: str) -> None:
    text = f"------[ Logical CPU #0 ]------\nCPUID 00000000: {ANSWER}\n{line}{end}"
    with pytest.raises(InputError, match=cause) as caught:
        parse(text, "dump.txt")
    assert caught.value.source == "dump.txt"
    assert caught.value.line == 3 + line.count("\n")


@pytest.mark.parametrize("length", range(1, len(f"CPUID 00000001: {ANSWER}")))
def test_a_file_that_ends_within_a_line_is_refused(length: int) -> None:
    with pytest.raises(InputError, match=r"^dump.txt:2: an answer of CPUID that is cut"):
        parse(f"CPUID 00000000: {ANSWER}\n" + f"CPUID 00000001: {ANSWER}"[:length], "dump.txt")


CPU = "CPUID 00000000: 00000001-756E6547-6C65746E-49656E69\nCPUID 00000001: 00050657-00000000-00000000-00000000\n"
MSRS = """
------[ MSR Registers{} ]------

MSR 00000017: 001C-0000-0000-0000 [PlatID = 7]
MSR 0000008B: < FAILED >
MSR 000000E7: 0000-346A-10AD-F39C [S200]
MSR 0000010A: 0000-0000-0000-{:04X}
MSR 0000010A: 0000-0000-0000-FFFF
MSR 00000480: 00DA-0400-0000-000
"""


def test_msrs_of_the_hardware_that_rules_ask_for_are_kept() -> None:
    """Not what others are, what could not be read, or what is cut; where one stands twice, the first time counts."""
    (cpu,) = parse(f"------[ Logical CPU #0 ]------\n\n{CPU}{MSRS.format('', 0x2B)}", "dump")
    assert cpu.hardware_msrs == MsrTable({0x17: 7 << 50, 0x10A: 0x2B})
    assert not cpu.msrs


def test_msrs_are_of_the_cpu_that_their_heading_numbers() -> None:
    cpus = "".join(f"------[ Logical CPU #{number} ]------\n\n{CPU}\n" for number in range(3))
    sections = MSRS.format(" / Logical CPU #0", 1) + MSRS.format(" / Logical CPU #2 Clock (TSC),3094 MHz", 3)
    assert [cpu.hardware_msrs.get(0x10A) for cpu in parse(cpus + sections, "dump")] == [1, None, 3]
    assert [cpu.hardware_msrs.get(0x10A) for cpu in parse(cpus + MSRS.format("", 7) + sections, "dump")] == [1, 7, 3]


@needs_the_collection
def test_many_dumps_of_the_collection_have_msrs() -> None:
    told = [parse(members(INSTLATX64)[name], name)[0].hardware_msrs for name in NAMES if "MSR 0000010A" in members(INSTLATX64)[name]]
    assert sum(0x10A in msrs for msrs in told) == 75
