"""Answers that guests got are held against the look-up in their vCPU's table, and each difference is foreseen by a rule or not."""

from __future__ import annotations

import pytest

from support.traces import TABLE, guests
from vcpuid.cpuid import CpuidTable, Registers, bits
from vcpuid.kvm import lookup
from vcpuid.trace.checking import Checked, check
from vcpuid.trace.exits import Exit
from vcpuid.trace.tables import GivenTables


def held(function: int, tables: tuple[CpuidTable, ...] = (TABLE,), vcpu: tuple[int, int] = (100, 101), **changed: int) -> Checked:
    """Hold one answer that is the model's but for some registers."""
    answer = lookup(TABLE, function, kernel="6.12")._replace(**changed)
    return check(
        {Exit(*vcpu, function, 0, answer): 5, Exit(*vcpu, 0, 0, lookup(TABLE, 0, kernel="6.12")): 1}, GivenTables(tables), guests(), "6.12"
    )


def test_the_models_own_answers_agree() -> None:
    found = held(7)
    assert (found.agrees, found.held, found.not_told, found.rows()) == (True, 6, 0, [])


@pytest.mark.parametrize("function", [0x1234, 0x80000010, 0xFFFFFFFF])
def test_leaves_out_of_range_are_looked_up_as_kvm_does(function: int) -> None:
    assert held(function).agrees


@pytest.mark.parametrize(
    ("function", "register", "mask", "rule"),
    [
        (1, "ecx", bits.OSXSAVE.mask, "kvm.vcpu.osxsave"),
        (1, "ecx", bits.MWAIT.mask, "kvm.vcpu.mwait"),
        (1, "edx", bits.APIC.mask, "kvm.vcpu.apic"),
        (7, "ecx", bits.OSPKE.mask, "kvm.vcpu.ospke"),
    ],
)
def test_bits_that_follow_the_guests_registers_may_differ(function: int, register: str, mask: int, rule: str) -> None:
    got = getattr(lookup(TABLE, function, kernel="6.12"), register) ^ mask
    found = held(function, **{register: got})
    assert found.agrees
    assert [(row["register"], row["rule"], row["count"]) for row in found.rows()] == [(register, rule, 5)]


def test_a_bit_that_nobody_gave_is_named_and_no_rule_excuses_it() -> None:
    found = held(7, ebx=0x20 | bits.RTM.mask)
    assert not found.agrees
    assert [(row["got"], row["modelled"], row["features"], row["rule"]) for row in found.rows()] == [
        ("00000820", "00000020", ["rtm"], None)
    ]


def test_tsx_may_be_hidden_by_the_guests_own_msr_and_only_as_a_whole() -> None:
    both = CpuidTable(entry._replace(ebx=entry.ebx | bits.RTM.mask | bits.HLE.mask) if entry.function == 7 else entry for entry in TABLE)
    assert held(7, (both,)).agrees
    assert not held(7, (both,), ebx=0x20 | bits.HLE.mask).agrees


def test_a_foreseen_and_an_unforeseen_bit_of_one_register_are_two_differences() -> None:
    got = lookup(TABLE, 1, kernel="6.12").ecx ^ bits.OSXSAVE.mask ^ bits.AVX.mask
    assert [row["features"] for row in held(1, ecx=got).rows()] == [["avx"], ["osxsave"]]


def test_each_vcpu_has_the_table_of_its_number() -> None:
    other = CpuidTable(entry._replace(ebx=0x01000800) if entry.function == 1 else entry for entry in TABLE)
    assert held(1, (other, TABLE), vcpu=(100, 102)).agrees
    assert not held(1, (TABLE, other), vcpu=(100, 102)).agrees


def test_a_thread_that_no_name_tells_of_has_the_table_that_fits() -> None:
    other = CpuidTable(entry._replace(ebx=0x01000800) if entry.function == 1 else entry for entry in TABLE)
    assert held(1, (other, TABLE), vcpu=(7, 7)).agrees


def test_answers_without_a_table_are_not_told() -> None:
    found = check({Exit(7, 7, 0, 0, Registers()): 3}, GivenTables(()), guests(), "6.12")
    assert (found.held, found.not_told, found.as_dict()["agrees"]) == (0, 3, None)


class Several(GivenTables):
    """Tables that vCPU 0 had one after the other."""

    def candidates(self, pid: int) -> list[tuple[int, CpuidTable]]:
        return [(0, table) for _, table in super().candidates(pid)]


def test_a_vcpu_that_had_several_tables_may_answer_by_any_and_what_fits_none_is_not_told() -> None:
    other = CpuidTable(entry._replace(ebx=entry.ebx ^ bits.RTM.mask) if entry.function == 7 else entry for entry in TABLE)
    answers = [lookup(table, 7, kernel="6.12") for table in (TABLE, other)]
    exits = {Exit(100, 101, 7, 0, answer): 5 for answer in answers} | {Exit(100, 101, 7, 0, Registers()): 3}
    found = check(exits, Several((TABLE, other)), guests(), "6.12")
    assert (found.agrees, found.held, found.not_told) == (True, 10, 3)


@pytest.mark.parametrize("got", ["now", "before", "neither"])
def test_a_table_at_several_moments_is_one_and_what_it_does_not_say_is_a_difference(got: str) -> None:
    later = CpuidTable(entry._replace(ecx=entry.ecx ^ bits.OSXSAVE.mask) if entry.function == 1 else entry for entry in TABLE)
    answer = lookup(later if got == "now" else TABLE, 1, kernel="6.12")
    if got == "neither":
        answer = answer._replace(ecx=answer.ecx ^ bits.AVX.mask)
    found = check({Exit(100, 101, 1, 0, answer): 5}, Several((TABLE, later)), guests(), "6.12")
    assert (found.held, found.not_told) == (5, 0)
    assert [row["features"] for row in found.rows()] == ([["avx"]] if got == "neither" else [])
