"""What became of a -cpu on many classes is kept: it comes back as it was, for what it was asked of alone, and only from this vcpuid."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from support.captures import host
from support.fleets import HOSTS, census
from vcpuid import Setup, Stack
from vcpuid.cpuid import MsrTable
from vcpuid.fleet import kept, packing
from vcpuid.fleet.dangers import HAZARDS, Found
from vcpuid.fleet.kept import Question
from vcpuid.fleet.outcome import CpuOutcome, outcome
from vcpuid.fleet.proof import OUTCOME
from vcpuid.fleet.software import settled
from vcpuid.kvm.effect import advised

SAPPHIRE = "kvm-intel.sapphire_rapids-xfd@6.12"
CPU = "Skylake-Server,+vmx,-pku"
SHARE = 4


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is asked of a few hosts already."""
    monkeypatch.setattr(kept, "SHARE", SHARE)


def _setups() -> list[Setup]:
    silent = replace(host(SAPPHIRE), msrs=MsrTable(), hardware_msrs=MsrTable(), cpuinfo={})
    return list(settled(census(HOSTS[:: len(HOSTS) // SHARE], [("silent", silent)]), Stack(qemu="10.0")))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vcpuid" / "fleet.sqlite"


def _noting(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Setup], Question[CpuOutcome]]:
    """The same question, which notes of which hosts the answer is worked out."""
    asked: list[Setup] = []

    def noted(cpu: str, setup: Setup) -> CpuOutcome:
        asked.append(setup)
        return outcome(cpu, setup)

    monkeypatch.setattr("vcpuid.fleet.hands._processors", lambda: 1)
    return asked, replace(OUTCOME, answer=noted)


@pytest.mark.long
def test_an_outcome_comes_back_as_it_was_also_where_something_is_not_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setups = _setups()
    first = OUTCOME.ask(CPU, setups)
    assert {True, False, None} >= {one.runs for one in first} >= {False}
    assert any(one.open for one in first)
    assert any(one.not_told for one in first)
    asked, question = _noting(monkeypatch)
    assert question.ask(CPU, setups) == first
    assert asked == []
    assert question.ask(CPU, setups[:-1]) == first[:-1]
    assert asked == []


def test_what_hangs_on_a_kernel_between_two_with_tables_comes_back_too() -> None:
    setup = Setup.of(host("kvm-intel.sapphire_rapids-dmr@7.3"), Stack(kernel="6.13", qemu="11.1"))
    answer = outcome("host,+sm4", setup)
    assert [[fact.of_kernel for fact in told.depends] for told in answer.not_told if told.what == "sm4"] == [[True]]
    assert any(fact.of_kernel for fact in answer.untold)
    assert packing.outcome_of(json.loads(json.dumps(packing.outcome(answer)))) == answer


def test_hazards_come_back_as_they_were_too(cache: Path) -> None:
    setups = _setups()
    first = HAZARDS.ask(CPU, setups)
    assert {bool(one.depends) for found in first for one in found} == {True, False}
    unasked: Question[tuple[Found, ...]] = replace(HAZARDS, answer=lambda cpu, setup: ())
    assert unasked.ask(CPU, setups) == first


def test_few_hosts_are_not_kept(cache: Path) -> None:
    OUTCOME.ask(CPU, _setups()[: SHARE - 1])
    assert not cache.exists()


@pytest.mark.long
def test_another_vcpuid_works_it_out_anew_and_takes_the_place(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setups = _setups()
    first = OUTCOME.ask(CPU, setups)
    asked, question = _noting(monkeypatch)
    monkeypatch.setattr(kept, "_this_vcpuid", lambda: b"another")
    assert question.ask(CPU, setups) == first
    assert len(asked) == len(setups)
    with closing(sqlite3.connect(cache)) as connection:
        assert connection.execute("select distinct vcpuid from outcome").fetchall() == [(b"another",)]


def test_each_byte_of_the_package_tells_it_from_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    table = tmp_path / "data" / "models.json"
    seen = set()
    for content in ("{}", "{} ", "[]"):
        table.write_text(content, encoding="utf-8")
        monkeypatch.setattr("vcpuid.data.FOLDER", tmp_path / "data")
        seen.add(kept._this_vcpuid.__wrapped__())
    assert len(seen) == 3


def test_an_outcome_hangs_on_the_cpu_the_class_and_all_software() -> None:
    one = Stack(kernel="6.12", qemu="10.0")
    others = (
        Stack(kernel="7.3", qemu="10.0"), Stack(kernel="6.12", qemu="10.1"), replace(one, machine="pc-i440fx-9.2"), replace(one, smp="4"),
        replace(one, params={"kvm_intel.nested": "N"}), replace(one, globals=("Skylake-Server-x86_64-cpu.avx=off",)),
    )  # fmt: skip
    first, second = host(SAPPHIRE), host("kvm-intel.corei7_skylake_x@6.12")
    setups = [advised(Setup.of(first, stack)) for stack in (one, *others)]
    keys = [
        *(kept._key("outcome", CPU, setup) for setup in setups),
        kept._key("outcome", "qemu64", setups[0]),
        kept._key("outcome", CPU, Setup.of(second, one)),
    ]
    keys.append(kept._key("hazards", CPU, setups[0]))
    assert None not in keys
    assert len(set(keys)) == len(keys)
    assert kept._key("outcome", CPU, advised(Setup.of(host(SAPPHIRE), one))) == keys[0]


@pytest.mark.long
def test_a_cache_that_is_damaged_costs_time_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setups = _setups()
    first = OUTCOME.ask(CPU, setups)
    with closing(sqlite3.connect(cache)) as connection, connection:
        connection.execute("update outcome set told = ? where rowid % 2", (b"no outcome",))
    asked, question = _noting(monkeypatch)
    assert question.ask(CPU, setups) == first
    assert 0 < len(asked) < len(setups)
    cache.write_bytes(b"no file of SQLite's" * 100)
    assert question.ask(CPU, setups) == first
    assert question.ask(CPU, setups) == first
    asked.clear()
    assert question.ask(CPU, setups) == first
    assert asked == [], "the damaged file went, and another is in its place"


@pytest.mark.long
def test_where_nothing_can_be_kept_it_is_worked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setups = _setups()
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    first = OUTCOME.ask(CPU, setups)
    assert first == [outcome(CPU, setup) for setup in setups]
