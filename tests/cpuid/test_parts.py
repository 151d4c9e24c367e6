"""Which of a snapshot's tables is taken."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.parts import TABLE_KINDS, TABLES, for_guest, pick
from vcpuid.errors import InputError
from vcpuid.formats.lines import format_snapshot

ALL: dict[str, Any] = {name: CpuidTable([Entry(number, 0, 0, 0, 0, 0, 0)]) for number, name in enumerate(TABLES)}
NEITHER = "neither the table for KVM_SET_CPUID2 nor KVM_GET_SUPPORTED_CPUID nor the CPUID instruction's answers"


def test_the_first_is_taken_that_is_not_empty() -> None:
    left = dict(ALL)
    for name in TABLES:
        assert pick(Snapshot(**left), None) == (name, ALL[name])
        left[name] = CpuidTable()
    with pytest.raises(InputError, match=r"^the snapshot has no CPUID entries$"):
        pick(Snapshot(**left), None)


def test_every_table_of_a_snapshot_has_a_name_and_a_word() -> None:
    assert set(TABLES) == {field.name for field in dataclasses.fields(Snapshot) if "CpuidTable" in str(field.type)}
    for kind, name in TABLE_KINDS.items():
        assert [line.split()[0] for line in format_snapshot(Snapshot(**{name: ALL[name]}))] == [kind]


@pytest.mark.parametrize("name", TABLES)
def test_one_that_is_wanted_or_at_home(name: str) -> None:
    assert pick(Snapshot(**ALL), name, native="kept") == (name, ALL[name])
    assert pick(Snapshot(**ALL), None, native=name) == (name, ALL[name])
    others = {**ALL, name: CpuidTable()}
    assert pick(Snapshot(**others), None, native=name)[0] == ("table" if name == "raw" else "raw")
    with pytest.raises(InputError, match=f"^host.txt: it has not {TABLES[name]}$"):
        pick(Snapshot(**others), name, "host.txt")


def test_a_guest_gets_what_was_made_for_it() -> None:
    left = dict(ALL)
    for name in ("table", "supported", "raw"):
        assert for_guest(Snapshot(**left)) == ALL[name]
        left[name] = CpuidTable()
    with pytest.raises(InputError, match=f"^the snapshot has {NEITHER}$"):
        for_guest(Snapshot(**left))
    with pytest.raises(InputError, match=f"^host.txt: it has {NEITHER}$"):
        for_guest(Snapshot(**left), "host.txt")
