"""Drafts and patches: the laws of decisions hold for any changes, and a patch changes its bits alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.answers.fate import NO_HARDWARE
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, bits
from vcpuid.cpuid.words import REGISTERS
from vcpuid.reasons import Ledger, replay
from vcpuid.vmm.patching import MissingLeaf, Patch, TableDraft, VcpuPlace, bit, leaf

RULE = NO_HARDWARE  # any will do: one made here would be in the book of rules
PLACES = [(0, 0), (7, 0), (7, 1), (0xB, 0), (0x80000001, 0)]
values = st.integers(0, 2**32 - 1)
tables = st.lists(st.sampled_from(PLACES), unique=True, min_size=1).flatmap(
    lambda places: st.tuples(
        *(st.builds(Entry, *map(st.just, place), st.integers(0, 7), values, values, values, values) for place in places)
    )
)
words = st.builds(lambda place, register: CpuidWord(*place, register), st.sampled_from(PLACES), st.sampled_from(REGISTERS))
ranges = st.tuples(st.integers(0, 31), st.integers(0, 31)).map(sorted)
patches = st.builds(lambda word, bits, value: Patch(word, *bits, value % (1 << bits[1] - bits[0] + 1), RULE), words, ranges, values)
copies = st.tuples(st.sampled_from(PLACES), st.tuples(values, values, values, values))
steps = st.lists(st.one_of(patches, copies), max_size=12)


@pytest.mark.long
@given(tables, steps)
def test_the_decisions_lead_from_the_table_given_to_the_table_made(entries: tuple[Entry, ...], script: list[object]) -> None:
    table, ledger = CpuidTable(entries), Ledger()
    draft = TableDraft(table, ledger)
    for step in script:
        if not isinstance(step, Patch):
            (place, registers) = step  # type: ignore[misc]
            draft.insert(*place, 1)
            draft.copy(*place, registers, RULE)
        elif step.word[:2] in draft:
            draft.apply([step], VcpuPlace())
    made = draft.table()
    assert [entry[:2] for entry in made] == sorted(entry[:2] for entry in made)
    replayed = replay(dict(table.words()), ledger.decisions)
    assert {word: value for word, value in replayed.items() if value} == {word: value for word, value in made.words().items() if value}


@pytest.mark.long
@given(tables, patches)
def test_a_patch_changes_its_bits_alone(entries: tuple[Entry, ...], patch: Patch) -> None:
    draft, table = TableDraft(CpuidTable(entries), Ledger()), CpuidTable(entries)
    if (patch.word.function, patch.word.index) not in draft:
        with pytest.raises(MissingLeaf):
            draft.apply([patch], VcpuPlace())
        return
    draft.apply([patch], VcpuPlace())
    assert isinstance(patch.value, int)
    before, after = table.words(), draft.table().words()
    assert after.pop(patch.word) == before.pop(patch.word) & ~patch.mask | patch.value << patch.low
    assert after == before


def test_a_patch_is_worked_out_for_its_vcpu() -> None:
    draft = TableDraft(CpuidTable([Entry(1, 0, 0, 0, 0xFFFFFFFF, 0, 0)]), Ledger())
    draft.apply([Patch(CpuidWord(1, 0, "ebx"), 24, 31, lambda vcpu: vcpu.number, RULE), bit(bits.HYPERVISOR, 1, RULE)], VcpuPlace(5, 8, 2))
    assert draft.registers(1) == (0, 0x05FFFFFF, 0x80000000, 0)


def test_subleaves_end_at_the_first_that_is_missing() -> None:
    draft = TableDraft(CpuidTable([Entry(4, index, 1, 1, 0, 0, 0) for index in (0, 1, 3)]), Ledger())
    assert list(draft.subleaves(4)) == [0, 1]
    assert list(draft.subleaves(5)) == []


def test_an_entry_that_is_inserted_is_empty_and_leaves_no_decision() -> None:
    ledger = Ledger()
    draft = TableDraft(CpuidTable(), ledger)
    draft.insert(0xB, 1, 1)
    assert draft.table() == CpuidTable([Entry(0xB, 1, 1, 0, 0, 0, 0)])
    assert not ledger.decisions
    assert [draft.word(word) for word in leaf(0xB, 1)] == [0, 0, 0, 0]
