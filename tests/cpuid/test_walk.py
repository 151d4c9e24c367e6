"""The walk finds what a processor has, by what it tells, and ends whatever it is told."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import MACHINES, host
from vcpuid.cpuid import CpuidTable, Registers
from vcpuid.cpuid.walk import Cpuid, walk

BASES = {0, 0x20000000, 0x40000000, 0x80000000, 0x80860000, 0xC0000000}

Answers = dict[tuple[int, int], Registers]
Key = tuple[int, int]


def processor(answers: Answers) -> Cpuid:
    """A processor that has these leaves, and answers zeros elsewhere."""
    return lambda function, index: answers.get((function, index), Registers())


def found(answers: Answers) -> set[Key]:
    """What the walk finds beyond the first leaf of every range."""
    return {entry[:2] for entry in walk(processor(answers))} - {(base, 0) for base in BASES}


def leaf(function: int, *subleaves: Registers) -> Answers:
    """A basic processor whose highest leaf is this one."""
    return {(0, 0): Registers(function)} | {(function, index): registers for index, registers in enumerate(subleaves)}


def subleaves(answers: Answers) -> list[int]:
    """Which sub-leaves the walk finds of the highest basic leaf."""
    highest = answers[0, 0].eax
    return [entry.index for entry in walk(processor(answers)) if entry.function == highest]


def test_the_ranges() -> None:
    answers = {
        (0, 0): Registers(3),
        (0x20000000, 0): Registers(0x20000001),
        (0x80000000, 0): Registers(0x80000002),
        (0x80860000, 0): Registers(0x80860001),
        (0xC0000000, 0): Registers(0xC0000001),
    }
    expected = {1, 2, 3, 0x20000001, 0x80000001, 0x80000002, 0x80860001, 0xC0000001}
    assert found(answers) == {(function, 0) for function in expected}


def test_the_first_leaf_of_a_range_is_kept_where_there_is_no_such_range() -> None:
    highest = Registers(0x16, 1, 2, 3)  # what Intel's processors answer for a leaf that they do not have
    table = walk(lambda function, index: highest)
    assert {function for function, *_ in table if function > 0x16} == BASES - {0}
    assert all(table.registers(base) == highest for base in BASES)


def test_hypervisors_side_by_side() -> None:
    answers = {
        (0x40000000, 0): Registers(0x40000002, 0x7263694D, 0x666F736F, 0x76482074),
        (0x40000100, 0): Registers(0x40000101, 0x4B4D564B, 0x564B4D56, 0x4D),
        (0x4000FF00, 0): Registers(0x4000FF01),
        (0x40000200, 0): Registers(0x40000400),  # no range of that base
    }
    expected = {0x40000001, 0x40000002, 0x40000100, 0x40000101, 0x4000FF00, 0x4000FF01}
    assert found(answers) == {(function, 0) for function in expected}


def test_kvm_of_old_did_not_tell_its_last_leaf() -> None:
    answers = {(0x40000000, 0): Registers(0, 0x4B4D564B, 0x564B4D56, 0x4D), (0x40000001, 0): Registers(7)}
    assert found(answers) == {(0x40000001, 0)}


@pytest.mark.parametrize("function", [0x7, 0x14, 0x17, 0x18, 0x1D, 0x1E, 0x20, 0x24, 0x29])
def test_subleaves_counted_in_eax(function: int) -> None:
    assert subleaves(leaf(function, Registers(eax=3))) == [0, 1, 2, 3]
    assert subleaves(leaf(function, Registers(ebx=3))) == [0]


@pytest.mark.parametrize(("function", "register"), [(0xF, "edx"), (0x10, "ebx"), (0x23, "eax"), (0x27, "edx"), (0x28, "ebx")])
def test_subleaves_listed_as_bits(function: int, register: str) -> None:
    assert subleaves(leaf(function, Registers(**{register: 1 << 1 | 1 << 3 | 1 << 31}))) == [0, 1, 3, 31]
    assert subleaves(leaf(function, Registers(**{register: 1}))) == [0]


@pytest.mark.parametrize(("function", "valid"), [(0x4, Registers(eax=0x121)), (0xB, Registers(ecx=0x100)), (0x1B, Registers(eax=1))])
def test_subleaves_up_to_one_without_a_type(function: int, valid: Registers) -> None:
    assert subleaves(leaf(function)) == [0]
    assert subleaves(leaf(function, valid, valid, Registers(), valid)) == [0, 1, 2]


def test_enclave_sections_begin_at_two() -> None:
    none, section = Registers(), Registers(eax=0x70200001)
    assert subleaves(leaf(0x12, none, none, section, section, none)) == [0, 1, 2, 3, 4]
    assert subleaves(leaf(0x12, none, none, none)) == [0, 1, 2]


def test_xsave_components_of_xcr0_and_xss() -> None:
    answers = leaf(0xD, Registers(eax=0x207, edx=1 << 30), Registers(ecx=1 << 11, edx=1 << 1))
    assert subleaves(answers) == [0, 1, 2, 9, 11, 33, 62]
    assert subleaves(leaf(0xD)) == [0, 1]
    assert subleaves(leaf(0xD, *[Registers()] * 9, Registers(8, 0xA80))) == [0, 1, 9]


def test_extended_leaves_have_subleaves_too() -> None:
    cache, level = Registers(eax=0x121), Registers(ecx=0x100)
    answers = {(0x80000000, 0): Registers(0x80000026), (0x80000020, 0): Registers(ebx=0b1010)}
    answers |= {(0x8000001D, 0): cache, (0x8000001D, 1): cache, (0x80000026, 0): level}
    expected = {0x8000001D: [1, 2], 0x80000020: [1, 3], 0x80000026: [1]}
    assert {key for key in found(answers) if key[1]} == {(function, index) for function, some in expected.items() for index in some}


def is_what_it_answers(table: CpuidTable, cpuid: Cpuid) -> bool:
    keys = [entry[:2] for entry in table]
    return sorted(set(keys)) == keys and all(entry.registers == cpuid(entry.function, entry.index) and not entry.flags for entry in table)


@pytest.mark.parametrize("value", [0xFFFFFFFF, 0x7FFFFFFF, 0xFFFF, 0x40000150, 0x4000FFFF, 0x8000FFFF, 0x10000])
def test_a_liar_is_not_believed_for_long(value: int) -> None:
    asked: Counter[Key] = Counter()

    def liar(function: int, index: int) -> Registers:
        asked[function, index] += 1
        return Registers(value, value, value, value)

    table = walk(liar)
    assert asked.total() < 40_000
    assert is_what_it_answers(table, lambda function, index: Registers(value, value, value, value))


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False), st.sampled_from([0x3, 0x30, 0x3000, 0xFFFFFFFF]))
def test_the_walk_asks_and_reports(random: object, mask: int) -> None:
    seed = random.getrandbits(64)  # type: ignore[attr-defined]

    def noise(function: int, index: int) -> Registers:
        return Registers(*(hash((seed, function, index, register)) & mask for register in range(4)))

    assert is_what_it_answers(walk(noise), noise)


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_the_walk_misses_nothing_that_a_capture_has(name: str) -> None:
    """The captures asked for six sub-leaves of every leaf (twenty of 0xD), told or not: those that hold something are found."""
    answers = {entry[:2]: entry.registers for entry in host(name).raw}
    missed = {key for key, registers in answers.items() if any(registers)} - {entry[:2] for entry in walk(processor(answers))}
    assert not [key for key in missed if not is_told_to_be_none(key, answers)]


def is_told_to_be_none(key: Key, answers: Answers) -> bool:
    """Whether a processor answers something where, by what it tells, it has nothing."""
    function, index = key
    if function in (0xB, 0x1F):  # past the last level, only the number of the level comes back
        return not answers[function, index - 1].ecx & 0xFF00 and answers[key].ecx == index
    if function == 0x1E:  # Bochs describes the TMUL in a sub-leaf that it does not count
        return index > answers[function, 0].eax
    return function == 0x40000001 and answers[0x40000000, 0].eax < function  # Intel: the highest basic leaf, again
