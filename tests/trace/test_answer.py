"""Exits are put together by what is asked, and what nobody told is None."""

from __future__ import annotations

import pytest

from support.command import vcpuid
from support.traces import COST, EXITS, MACHINE, TABLE, program_trace, traced
from vcpuid.cli.trace import _held
from vcpuid.trace.answer import PARTS, Traced, back_trace, place
from vcpuid.trace.counting import Counting
from vcpuid.trace.program_answer import ProgramAnswer
from vcpuid.trace.symbols import Symbols
from vcpuid.trace.tables import GivenTables


def told(*by: str) -> Traced:
    return traced(Counting(by=by))


@pytest.mark.parametrize("by", [(), *((part,) for part in PARTS), PARTS], ids=str)
def test_no_exit_is_in_two_rows_or_in_none(by: tuple[str, ...]) -> None:
    rows = told(*by).rows()
    assert sum(row["count"] for row in rows) == sum(EXITS.values())  # type: ignore[misc]
    assert [row["count"] for row in rows] == sorted((row["count"] for row in rows), reverse=True)  # type: ignore[type-var]
    assert len(rows) == {0: 1, 1: len(rows), 5: len(EXITS)}[len(by)]


def test_rows_by_guest_and_vcpu() -> None:
    rows = [(row["vm"], row["vcpu"], row["thread"], row["count"]) for row in told("vcpu").rows()]
    assert rows == [("web1", 0, 101, 60), ("web1", 1, 102, 40), ("\x1b[31mfc_vcpu", None, 7, 1)]


def test_addresses_have_their_place_and_the_guests_symbol() -> None:
    rows = {(row["rip"], row["place"], row["symbol"]) for row in told("rip").rows()}
    assert ("ffffffff8100005b", "kernel half", "native_cpuid+0x1b") in rows
    assert ("f0000", "first MiB", None) in rows
    assert (None, None, None) in rows


def test_back_traces_have_the_hosts_symbols() -> None:
    assert told("stack").rows()[0]["stack"] == ["kvm_emulate_cpuid+0x10", "vmx_handle_exit+0x20"]
    assert told("stack").rows()[1]["stack"] is None


def test_a_back_trace_begins_at_kvms_look_up_and_not_within_the_tracer() -> None:
    symbols = Symbols([(0x1000, "bpf_trace_run8"), (0x2000, "kvm_cpuid.part.0"), (0x3000, "kvm_emulate_cpuid")])
    assert back_trace([0x1008, 0x2004, 0x3002], symbols) == ["kvm_cpuid.part.0+0x4", "kvm_emulate_cpuid+0x2"]
    assert back_trace([0x1008, 0x3002], symbols) == ["bpf_trace_run8+0x8", "kvm_emulate_cpuid+0x2"]
    assert back_trace([0x2004], None) == ["2004"]


@pytest.mark.parametrize(("rip", "where"), [(0, "first MiB"), (0xFFFFF, "first MiB"), (1 << 20, "user half"), (1 << 63, "kernel half")])
def test_where_an_address_lies(rip: int, where: str) -> None:
    assert place(rip) == where


def test_the_summary_says_what_was_not_counted() -> None:
    assert told().summary() == (
        "104 CPUIDs in 2.0 s, 52 a second, counted by BPF, which lost 2 more; 3 of them are in no row: there are too many kinds"
    )


def test_rates_of_now_are_those_of_the_last_interval_and_what_is_frequent_now_stands_first() -> None:
    first = list(EXITS)[3]
    found = told("leaf")
    now = Traced(found.machine, found.way, 10.0, found.tally, found.by, found.guests, before={**EXITS, first: 0}, interval=0.5)
    assert [(row["function"], row["rate"]) for row in now.rows()][:2] == [("00000007", 20.0), ("00000000", 0.0)]


def test_of_several_guests_each_difference_says_whose_it_is() -> None:
    found = traced(Counting(tables=GivenTables([TABLE])))
    assert found.checked is not None
    assert "vm" in _held(found, found.checked).columns


@pytest.mark.parametrize(("ns", "said"), [(10.0, "0 µs"), (1000.0, "20 µs"), (100_000.0, "2.0 ms")])
def test_what_a_program_costs_is_told_in_a_unit_that_shows_it(ns: float, said: str) -> None:
    answer = ProgramAnswer(MACHINE, program_trace(["true"]), COST._replace(ns=ns))
    assert f"In a guest each is an exit: {said} at {ns:.0f} ns" in answer.summary()[1]


def test_an_empty_list_is_no_default() -> None:
    status, _, err = vcpuid("trace", "--by", "", "--seconds", "0.1")
    assert (status, "--by: '' is none of vm, vcpu, leaf, rip, stack" in err) == (2, True)
