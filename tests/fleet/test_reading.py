"""Files of one class are known by their text: never where a rule would tell them apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.captures import host
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.reading import Reader, same
from vcpuid.formats.lines import format_snapshot, parse_snapshot

NAMES = ("kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@6.12")
LINES = {name: [line for line in format_snapshot(host(name)) if not line.startswith("CPU ")] for name in NAMES}


def text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def test_another_cpu_and_another_clock_are_not_read_again(tmp_path: Path) -> None:
    reader, parsed = Reader(), []
    for number in range(3):
        lines = [
            line.replace(" 00010800 ", f" {number:02x}010800 ") if line.startswith(("RAW 00000001.0", "SUP 00000001.0"))
            else line[:-8] + f"{number:08x}" if line.startswith(("RAW 0000000b.", "SUP 0000000b."))
            else line
            for line in LINES[NAMES[0]]
        ]  # fmt: skip
        (tmp_path / f"node{number}.txt").write_text(text([f"CPU node{number}", *lines, f"CPUINFO cpu_MHz {number}"]), encoding="utf-8")
        parsed.append(reader.read(tmp_path / f"node{number}.txt"))
    assert parsed[0] is parsed[1] is parsed[2]
    assert parsed[0] == HostClass.of(host(NAMES[0]))


@given(st.sampled_from(NAMES), st.data())
def test_what_is_the_same_text_is_the_same_class(name: str, data: st.DataObject) -> None:
    """A digit of any line is another: where the texts count as the same, the classes are."""
    lines = LINES[name]
    place = data.draw(st.sampled_from([n for n, line in enumerate(lines) if line.startswith(("RAW", "SUP", "MSR", "CPU", "PARAM"))]))
    line = lines[place]
    at = data.draw(st.integers(line.index(" ") + 1, len(line) - 1))
    other = data.draw(st.sampled_from("0123456789abcdef"))
    changed = [*lines[:place], line[:at] + other + line[at + 1 :], *lines[place + 1 :]]
    if same(text(lines)) == same(text(changed)):
        assert HostClass.of(parse_snapshot(changed, "it")) == HostClass.of(parse_snapshot(lines, "it"))


def test_other_programs_dumps_are_the_same_where_they_are_equal() -> None:
    """Their headings look like lines that no class has."""
    one = "CPU 0:\n   0x00000000 0x00: eax=0x1 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
    assert same(one) == same(one)
    assert same(one) != same(one.replace("CPU 0", "CPU 1"))


@pytest.mark.parametrize("name", NAMES)
def test_each_bit_of_one_cpu_alone_is_left_out(name: str) -> None:
    lines = LINES[name]
    place = next(n for n, line in enumerate(lines) if line.startswith("RAW 00000001.0"))
    words = lines[place].split()
    words[3] = f"{int(words[3], 16) ^ 0xFF000000:08x}"
    assert same(text([*lines[:place], " ".join(words), *lines[place + 1 :]])) == same(text(lines))
