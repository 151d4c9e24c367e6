"""What an input costs grows as its length does: work is counted, never timed."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

import vcpuid
from support.captures import host
from vcpuid import Setup, Stack
from vcpuid.answers import attempt
from vcpuid.answers.verdict import verdict
from vcpuid.cli import layout
from vcpuid.cpuid import CpuidTable, Entry, Snapshot, names
from vcpuid.errors import InputError, QemuError
from vcpuid.formats import json_snapshot, libvirt_cpu, lines, parse, strace
from vcpuid.path.pipeline import resolve
from vcpuid.qemu import machine_option, properties, unknown
from vcpuid.qemu.catalog import catalog
from vcpuid.told.completions import completions

parser: Any = importlib.import_module("re._parser")
pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"


class Counted(int):
    """A number that counts how often it is compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return int(self) == other

    __hash__ = int.__hash__


def test_a_refused_msr_is_not_compared_with_all_before(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = lines._hex
    monkeypatch.setattr(lines, "_hex", lambda text, what, bits=32: Counted(plain(text, what, bits)))
    Counted.compared = 0
    text = ["RAW 0.0 1 2 3 4", *(f"MSR {number:x} 0 0" for number in range(500))]
    assert len(lines.parse_snapshot(text).msrs.refused) == 500
    assert Counted.compared < 5_000
    with pytest.raises(InputError, match="a second value of MSR 1f3"):
        lines.parse_snapshot([*text, "MSR 1f3 0 0"])


def test_objects_of_json_beyond_the_limit_of_cpus_are_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    monkeypatch.setattr(json_snapshot, "_snapshot", read.append)
    with pytest.raises(InputError, match="more than 8192 CPUs"):
        parse('{"named":{"a":true}}' * 8193, "many")
    assert not read


class Piece(str):
    """A line of which is counted how much text is put before a part of it."""

    copied = 0
    __slots__ = ()

    def split(self, *_: object) -> list[str]:  # type: ignore[override]
        return [Piece(line) for line in str(self).split("\n")]

    def partition(self, separator: str) -> tuple[str, str, str]:
        begun, found, rest = str.partition(self, separator)
        return begun, found, Piece(rest)

    def __radd__(self, other: str) -> str:
        Piece.copied += len(other)
        return other + str(self)


def test_a_call_that_is_interrupted_over_and_over_is_put_together_once() -> None:
    resumed = "<... ioctl resumed> <unfinished ...>\n" * 1000
    text = f"ioctl(9, KVM_SET_CPUID2, {{nent=0, entries=[ <unfinished ...>\n{resumed}<... ioctl resumed>]}}) = 0\n"
    with pytest.raises(InputError, match="is not an entry of CPUID"):
        strace.read(text.replace("resumed> ", "resumed>xxxx "), "trace")
    Piece.copied = 0
    list(strace._calls(Piece(text), "trace"))
    assert Piece.copied < 10_000


def test_names_that_nobody_has_are_looked_up_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(names, "near", lambda text: asked.append(text) or ())
    snapshot = Snapshot(named={f"nosuch{number}": True for number in range(100)} | {"avx2": True})
    assert any("'avx2'" in line for line in libvirt_cpu.write([snapshot]))
    assert not asked


def test_a_guess_is_made_of_the_first_unknown_properties(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[object] = []
    near = difflib.get_close_matches
    monkeypatch.setattr(difflib, "get_close_matches", lambda *args, **more: compared.append(args) or near(*args, **more))  # type: ignore[arg-type]
    cpu = "host,+avx2x" + "".join(f",+x{number}" for number in range(1000))
    found = unknown.guesses(cpu, "11.1")
    assert (found[0].said, found[0].meant[0]) == ("avx2x", "avx2")
    assert len(compared) <= unknown._ANSWERED


def test_a_property_that_is_said_over_and_over_counts_once() -> None:
    option = properties.parse("Haswell" + ",+avx2,-avx,level=13,level=7" * 1000, (11, 1))
    assert (option.plus, option.minus) == (("avx2",), ("avx",))
    assert [value for _, value in option.settings][-1] == "7"
    assert len(option.settings) <= 4


def test_a_cpu_of_many_settings_is_not_tried_with_each(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    tell = attempt.Attempt.tell
    monkeypatch.setattr(attempt.Attempt, "tell", lambda self, cpu: tried.append(cpu) or tell(self, cpu))  # type: ignore[func-returns-value]
    cpu = "Haswell" + "".join(f",+{flag}" for flag in catalog("11.1").flags)
    found = verdict(cpu, Setup.of(host(SKYLAKE), Stack("6.12", "11.1")))
    assert found.proposal is not None
    left_out = [amendment for amendment in found.amendments if amendment.kind == "left-out"]
    assert len(left_out) > 200
    assert len(tried) < 150


def test_a_key_of_many_parts_takes_room_for_each_part_once() -> None:
    text = "q35,a" + ".a" * 5000 + "=1"
    tracemalloc.start()
    machine_option.split(text, machine_option.KEYVAL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000


@pytest.mark.parametrize(
    ("text", "key"),
    [("q35,a.b.c=1,a.b=2", "a.b"), ("q35,a.b=1,a.b.c=2", "a.b"), ("type=q35,type.a=1", "type"), ("q35,type.a=1", "type")],
)
def test_a_name_with_a_value_has_no_names_below(text: str, key: str) -> None:
    with pytest.raises(QemuError) as refused:
        machine_option.split(text, machine_option.KEYVAL)
    assert key in str(refused.value).replace(".*'", "'").split("'")


def test_hosts_that_are_made_up_share_what_they_have_in_common() -> None:
    first = [Entry(0, 0, 0, 0x16, 0x756E6547, 0x6C65746E, 0x49656E69), Entry(1, 0, 0, 0x50654, 0x800, 0x7FFEFBFF, 0xBFEBFBFF)]
    many = CpuidTable([*first, *(Entry(0x50000000 + number, 0, 0, 1, 2, 3, 4) for number in range(3900))])
    for completion in completions(Setup.of(Snapshot(raw=many), Stack("6.12", "11.1"))).made[:3]:
        resolve("host", host=completion.setup)
        with pytest.raises(AttributeError):  # never put together; hasattr() would do that
            CpuidTable._entries.__get__(completion.setup.host.raw)  # type: ignore[attr-defined]


def test_a_long_table_is_laid_out_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    plain = layout.columns_of

    def columns_of(text: str) -> int:
        measured.append(len(text))
        return plain(text)

    monkeypatch.setattr(layout, "columns_of", columns_of)

    def cost(count: int) -> int:
        measured.clear()
        lines = list(
            layout.Table(["leaf", "field"], [[f"{number:x}", "reserved " * 20] for number in range(count)], {}).lines(80, colours=False)
        )
        assert len(lines) == 3 * count + 2
        return sum(measured)

    assert cost(2000) < 2.2 * cost(1000)


# Regular expressions: two parts that repeat without end and match the same, one right behind the other, take quadratic time to fail.


def patterns() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Every pattern that a module of the package has compiled."""
    for module in pkgutil.walk_packages(vcpuid.__path__, "vcpuid."):
        if not module.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(module.name)).items():
                found = getattr(value, "__self__", value)
                if isinstance(found, re.Pattern) and isinstance(found.pattern, str):
                    yield f"{module.name}.{name}", found


def ambiguous(tree: Any) -> bool:
    """Whether somewhere in a parsed pattern two endless repetitions that can match the same character meet."""
    open_: list[str] = []
    for number, (operation, argument) in enumerate(tree):
        kind = str(operation)
        if any(ambiguous(part) for part in _inside(kind, argument)):
            return True
        width = tree[number : number + 1].getwidth()[0]
        if kind in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] == parser.MAXREPEAT and len(argument[2]) == 1:
            own = _characters(argument[2])
            if any(set(own) & set(before) for before in open_):
                return True
            open_ = [*([] if width else open_), own]
        elif width:
            open_ = []
    return False


def _inside(kind: str, argument: Any) -> list[Any]:
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return [argument[2]]
    if kind == "SUBPATTERN":
        return [argument[3]]
    if kind == "BRANCH":
        return list(argument[1])
    return []


def _characters(tree: Any) -> str:
    """Spell the ASCII characters that a pattern of one item matches."""
    (kind, argument), *_ = tree
    return "".join(char for char in map(chr, range(9, 127)) if _matches(str(kind), argument, char))


def _matches(kind: str, argument: Any, char: str) -> bool:
    if kind == "IN":
        negated = str(argument[0][0]) == "NEGATE"
        return any(_matches(str(part), value, char) for part, value in argument if str(part) != "NEGATE") != negated
    if kind == "RANGE":
        return bool(argument[0] <= ord(char) <= argument[1])
    if kind in ("LITERAL", "NOT_LITERAL"):
        return (argument == ord(char)) == (kind == "LITERAL")
    if kind == "ANY":
        return char != "\n"
    if kind == "CATEGORY":
        signs = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}
        sign = signs[str(argument).rpartition("_")[2]]
        return bool(re.match(sign, char)) != ("NOT" in str(argument))
    return True


@pytest.mark.parametrize(("pattern", "bad"), [(r"[ \t]*:?[ \t]*x", True), (r"[ \t]*(?::[ \t]*)?x", False), (r"\d+\s*\d", False)])
def test_ambiguity_is_found(pattern: str, bad: bool) -> None:
    assert ambiguous(parser.parse(pattern)) is bad


def test_no_pattern_can_match_blanks_in_two_ways() -> None:
    found = dict(patterns())
    assert len(found) > 30
    assert not [name for name, pattern in found.items() if ambiguous(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))]
