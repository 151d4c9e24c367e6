"""Laws of every form: what is written reads back, what does not is told of, and a cut or damaged dump is refused or invents nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.cpuid.words import INDEXED_FUNCTIONS
from vcpuid.errors import InputError
from vcpuid.formats import FORMATS, parse
from vcpuid.formats.form import EVERYTHING
from vcpuid.formats.writing import TABLES, WRITABLE, losses, write

pytestmark = pytest.mark.long

DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
BOTH_WAYS = [form.name for form in FORMATS if form.read is not None and form.write is not None and form.holds[0] != "named"]
SEVERAL = [name for name in BOTH_WAYS if WRITABLE[name].several]

u32 = st.integers(0, 2**32 - 1)
functions = st.sampled_from([0, 1, 4, 7, 0xD, 0x40000000, 0x80000001, 0xFFFFFFFF]) | u32
indexes = st.integers(0, 3) | u32
registers = st.tuples(u32, u32, u32, u32) | st.just((0, 0, 0, 0))
raws = st.dictionaries(st.tuples(functions, indexes), registers, min_size=1, max_size=8).map(
    lambda answers: CpuidTable([Entry(0, 0, 0, 1, 0, 0, 0), *(Entry(*key, 0, *answer) for key, answer in answers.items() if key != (0, 0))])
)
tables = st.lists(st.builds(Entry, functions, indexes, st.integers(0, 7), u32, u32, u32, u32), max_size=8).map(CpuidTable)
words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
snapshots = st.builds(
    Snapshot,
    raw=raws,
    supported=st.none() | tables,
    emulated=st.none() | tables,
    hyperv=st.none() | tables,
    table=st.none() | tables,
    kept=st.none() | tables,
    msrs=st.dictionaries(u32, st.integers(0, 2**64 - 1), max_size=3).map(MsrTable),
    cpuinfo=st.dictionaries(words, words, max_size=2),
    params=st.dictionaries(words, words, max_size=2),
    named=st.dictionaries(words, st.booleans(), max_size=2),
    set_result=st.none() | st.integers(-100, 100),
    cpu=st.none() | words,
    kernel=st.none() | words,
    notes=st.lists(words.map("a note on {}".format), max_size=2).map(tuple),
)
anything = snapshots | raws.map(lambda raw: Snapshot(raw=raw))


def usual(cpu: Snapshot) -> Snapshot:
    """Without sub-leaves that lack sub-leaf 0: AIDA64 numbers them behind the registers, and nobody misses a first number that is cut."""
    leaves = {entry.function for entry in cpu.raw if entry.index == 0}
    ordered = sorted(entry for entry in cpu.raw if entry.function in leaves)
    return replace(cpu, raw=CpuidTable(entry for entry in ordered if not entry.index or entry.function in INDEXED_FUNCTIONS))


def text_of(cpus: list[Snapshot], form: str, part: str | None = None) -> str:
    return "".join(line + "\n" for line in write(cpus, form, part))


@pytest.mark.parametrize("form", BOTH_WAYS)
@settings(deadline=None, max_examples=50)
@given(cpu=anything)
def test_what_is_not_told_of_as_lost_comes_back(form: str, cpu: Snapshot) -> None:
    lost = losses([cpu], form)
    (again,) = parse(text_of([cpu], form), "again")
    assert again == cpu if not lost else again != cpu
    for part in WRITABLE[form].holds:
        if part != "table" or (cpu.table and len({entry[:2] for entry in cpu.table}) == len(cpu.table)):
            assert getattr(again, part) == getattr(cpu, part)


@pytest.mark.parametrize("form", ["snapshot", "json"])
@given(cpu=snapshots)
@settings(deadline=None, max_examples=50)
def test_our_own_forms_lose_nothing(form: str, cpu: Snapshot) -> None:
    assert losses([cpu], form) == []
    assert WRITABLE[form].holds == EVERYTHING
    assert parse(text_of([cpu], form), "again") == [cpu]


@pytest.mark.parametrize("form", SEVERAL)
@given(cpus=st.lists(anything, min_size=1, max_size=4))
@settings(deadline=None, max_examples=50)
def test_cpus_stay_apart(form: str, cpus: list[Snapshot]) -> None:
    before, last = ([entry[:2] for entry in cpu.raw] for cpu in (cpus[-2:] * 2)[:2])
    assume(len(last) >= len(before) or last != before[: len(last)])  # else it is taken for cut
    assert [cpu.raw for cpu in parse(text_of(cpus, form), "again")] == [cpu.raw for cpu in cpus]


@pytest.mark.parametrize("form", sorted(set(WRITABLE) - set(SEVERAL)))
def test_further_cpus_are_told_of(form: str) -> None:
    raw = CpuidTable([Entry(0, 0, 0, 1, 0, 0, 0)])
    assert "2 of 3 CPUs: this form holds one" in losses([Snapshot(raw=raw)] * 3, form)


@pytest.mark.parametrize("form", [name for name in BOTH_WAYS if WRITABLE[name].holds != EVERYTHING])
@pytest.mark.parametrize("part", TABLES)
@given(table=tables.filter(bool))
@settings(deadline=None, max_examples=30)
def test_any_table_can_be_written(form: str, part: str, table: CpuidTable) -> None:
    parts: Any = {part: table}
    cpu = Snapshot(**parts)
    native = WRITABLE[form].holds[0]
    if table[0].function == 0 and len({entry[:2] for entry in table}) == len(table):
        (again,) = parse(text_of([cpu], form, part), "again")
        assert [(entry[:2], entry[3:]) for entry in getattr(again, native)] == [(entry[:2], entry[3:]) for entry in table]
    told = losses([cpu], form, part)
    assert any("they read back as" in lost for lost in told) == (part != native)
    assert ("the entries' flags" in told) == (native == "raw" and any(entry.flags for entry in table))
    assert any("behind another" in lost for lost in told) == (len({entry[:2] for entry in table}) < len(table))


@pytest.mark.parametrize("form", BOTH_WAYS)
@given(cpu=anything.map(usual), data=st.data())
@settings(deadline=None, max_examples=50)
def test_a_cut_dump_is_refused_or_invents_nothing(form: str, cpu: Snapshot, data: st.DataObject) -> None:
    whole = text_of([cpu], form)
    native = WRITABLE[form].holds[0]
    had = getattr(parse(whole, "whole")[0], native)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    refusal: InputError | None = None
    has: tuple[Entry, ...] = ()
    try:
        has = tuple(entry for found in parse(cut, "dump.txt") for entry in getattr(found, native) or ())
    except InputError as error:
        refusal = error
    assert refusal is None or str(refusal).startswith("dump.txt")
    assert has == tuple(had)[: len(has)]


@pytest.mark.parametrize("form", BOTH_WAYS)
@given(cpu=anything, data=st.data())
@settings(deadline=None, max_examples=50)
def test_whatever_becomes_of_a_dump_it_is_read_or_refused(form: str, cpu: Snapshot, data: st.DataObject) -> None:
    text = text_of([cpu], form)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(text)))
        text = text[:place] + data.draw(st.text(max_size=6)) + text[place + data.draw(st.integers(0, 30)) :]
    refusal: InputError | None = None
    found: list[Snapshot] = []
    try:
        found = parse(text, "dump.txt")
    except InputError as error:
        refusal = error
    assert bool(found) != (refusal is not None)
    assert refusal is None or (str(refusal).startswith("dump.txt") and len(str(refusal)) < 400)


@pytest.mark.parametrize(
    ("cpu", "form", "part", "cause"),
    [
        (Snapshot(cpuinfo={"flags": "fpu"}), "cpuid", None, "nothing that Todd Allen's cpuid -r holds"),
        (Snapshot(supported=CpuidTable()), "cpuid", None, "nothing that"),
        (Snapshot(raw=CpuidTable([Entry(0, 0, 0, 0, 0, 0, 0)])), "tycho", "kept", "the snapshot has not the table that KVM kept"),
        (Snapshot(), "kcpuid", None, "'kcpuid' is not a format that can be written; these can: snapshot, json"),
        (Snapshot(), "cpuid", "all", "'all' is not one of raw, table"),
        (Snapshot(), "json", "raw", "json holds all tables"),
    ],
)
def test_what_cannot_be_written_is_refused(cpu: Snapshot, form: str, part: str | None, cause: str) -> None:
    for function in (lambda *args: list(write(*args)), losses):
        with pytest.raises(InputError, match=cause):
            function([cpu], form, part)


def test_every_name_of_a_form_is_its_own() -> None:
    assert len({form.name for form in FORMATS}) == len(FORMATS)


def test_every_form_is_documented() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|[^|]*\| (yes|no) \| (yes|no) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    told = {form.name: (form.read is not None, form.write is not None) for form in FORMATS}
    assert {name: (reads == "yes", writes == "yes") for name, reads, writes in rows} == told
