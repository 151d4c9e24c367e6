"""Every field of CPUID has a policy, no policy is of a field that is not there, and meeting tables is a lattice."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import host
from support.fleets import HOSTS
from vcpuid import data
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, MsrWord, vendors
from vcpuid.cpuid.names import by_bit, by_word
from vcpuid.cpuid.registers import SIGNIFICANT_INDEX
from vcpuid.cpuid.words import REGISTERS
from vcpuid.decode.layout import RESERVED, Field, layout, titles
from vcpuid.fleet.policies import POLICIES, Met, known, meet, met_msr, policy

ROWS = data.load("fleet-policies")["leaves"]
VENDORS = ("", *sorted({*vendors.KINDS.values(), *vendors.HYPERVISORS.values()}))
SUBLEAVES = (*range(8), 0x1F)


@cache
def fields(function: int) -> tuple[Field, ...]:
    words = (word for who in VENDORS for index in SUBLEAVES for word in layout(function, index, who))
    return tuple(field for word in words for field in word.fields if field.name != RESERVED)


@pytest.mark.long
def test_every_leaf_that_has_fields_has_policies() -> None:
    assert [f"{function:x}" for function in titles() if not known(function)] == []
    assert all(set(row) <= {"flags", "numbers", "fields"} and {row["flags"], row["numbers"]} <= set(POLICIES) for row in ROWS.values())
    count = {(function, field.name): policy(function, field) for function in titles() for field in fields(function)}
    assert len(count) > 900
    assert set(count.values()) == set(POLICIES)


@pytest.mark.long
def test_a_policy_of_its_own_is_that_of_a_field_that_is_there() -> None:
    for leaf, row in ROWS.items():
        names = {field.name for field in fields(int(leaf, 16))}
        own = row.get("fields", {})
        assert names, leaf
        assert set(own) <= names, leaf
        assert set(own.values()) <= set(POLICIES), leaf


def test_a_defect_that_an_msr_tells_of_holds_for_all() -> None:
    """RDCL_NO (bit 0) is a feature, RSBA (bit 2) says that the return stack may be empty."""
    assert met_msr(0x10A, [0b101, 0b001, 0b000]) == 0b100
    assert met_msr(0xCF, [0b11, 0b10]) == 0b10


def test_policies_of_msrs_are_of_bits_that_have_the_name() -> None:
    for index, row in data.load("fleet-policies")["msrs"].items():
        found = (by_bit(Bit(MsrWord(int(index, 16)), position)) for position in range(64))
        names = {feature.name for feature in found if feature is not None}
        assert names
        assert set(row.get("fields", {})) <= names


def tables(*names: str) -> list[CpuidTable]:
    return [host(name).supported or CpuidTable() for name in names]


members = st.lists(st.sampled_from(HOSTS), min_size=3, max_size=3)


def table(words: Mapping[CpuidWord, int]) -> CpuidTable:
    places = dict.fromkeys((word.function, word.index) for word in words)
    rows = ([words.get(CpuidWord(*place, register), 0) for register in REGISTERS] for place in places)
    return CpuidTable(Entry(*place, SIGNIFICANT_INDEX, *row) for place, row in zip(places, rows, strict=True))


def applied(met: dict[CpuidWord, Met], over: CpuidTable) -> CpuidTable:
    """A processor that is what was met, and another one where no policy says what."""
    return table({word: over.word(word) & ~one.mask | one.value for word, one in met.items()})


@given(names=members)
@settings(max_examples=15, deadline=None)
def test_meeting_tables_does_not_hang_on_order_or_number(names: list[str]) -> None:
    one, other, third = tables(*names)
    assert meet([one, other]) == meet([other, one]) == meet([one, other, one])
    all_ = meet([one, other, third])
    assert all_ == meet([third, other, one])
    vendor = {host(name).vendor for name in names}
    if len(vendor) == 1:  # what was met of two vendors has neither's fields
        assert meet([applied(meet([one, other]), one), third]) == all_


@given(names=members)
@settings(max_examples=15, deadline=None)
def test_another_table_never_adds_a_feature(names: list[str]) -> None:
    one, other, third = tables(*names)
    fewer, all_ = meet([one, other]), meet([one, other, third])
    features = {
        (word, feature.bit.position)
        for word in all_
        for feature in by_word(word)
        if feature.bit is not None and policy(word.function, Field(feature.name, feature.bit.position, 1)) == "and"
    }
    assert features
    assert all(not all_[word].value >> at & 1 or fewer[word].value >> at & 1 for word, at in features)


def test_each_policy_does_what_it_says() -> None:
    def of(leaf: int, index: int, register: str, *values: int) -> Met:
        word = CpuidWord(leaf, index, register)  # type: ignore[arg-type]
        return meet([table({word: value}) for value in values])[word]

    assert of(7, 0, "ebx", 0x20, 0x220).value == 0x20, "and: avx2 stays, erms goes"
    assert of(7, 0, "ebx", 0x2000, 0x0).value == 0x2000, "or: FCS and FDS are gone on one of them"
    assert of(0, 0, "eax", 0x16, 0xD, 0x20).value == 0xD, "min"
    assert (of(0xD, 5, "ebx", 0x440, 0x340).value, of(0xD, 5, "ebx", 0x440, 0x440).value) == (0, 0x440), "equal"
    assert of(1, 0, "eax", 0x50654, 0x806F8).mask & 0xFFF == 0, "chosen"
    assert not of(1, 0, "ecx", 1 << 27, 0).mask >> 27 & 1, "ignored: OSXSAVE follows CR4"
