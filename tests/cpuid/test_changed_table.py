"""A table with some entries changed is the one that would be made of all entries, and takes no more room than the changes."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry
from vcpuid.cpuid.changed import changed

PLACES = st.tuples(st.sampled_from([0, 1, 4, 7, 0xD, 0x80000000, 0x80000008]), st.integers(0, 3))
ENTRIES = st.dictionaries(PLACES, st.integers(0, 0xFFFFFFFF), max_size=9)


def entries(of: dict[tuple[int, int], int]) -> list[Entry]:
    return [Entry(*place, 0, value, value ^ 1, 2, 3) for place, value in of.items()]


@example({(4, 1): 0, (4, 0): 0}, {}, False)
@given(ENTRIES, ENTRIES, st.booleans())
def test_a_changed_table_is_what_all_entries_together_are(
    before: dict[tuple[int, int], int], over: dict[tuple[int, int], int], in_order: bool
) -> None:
    base = CpuidTable(sorted(entries(before)) if in_order else entries(before))
    made, whole = changed(base, entries(over)), CpuidTable(sorted(entries(before | over), key=lambda entry: entry[:2]))
    assert made.packed() == whole.packed()
    for place in [*before, *over, (5, 0), (5, 3)]:
        assert made.get(*place) == whole.get(*place)
        assert made.registers(*place) == whole.registers(*place)
        assert made.word(CpuidWord(*place, "ebx")) == whole.word(CpuidWord(*place, "ebx"))
        assert made.leaf(place[0]) == whole.leaf(place[0])
    assert bool(made) == bool(whole)
    assert made == whole
    assert made.by_key() == whole.by_key()


def test_looking_a_leaf_up_does_not_put_the_whole_table_together() -> None:
    base = CpuidTable(Entry(0x50000000 + number, 0, 0, 1, 2, 3, 4) for number in range(4000))
    made = changed(base, [Entry(7, 0, 0, 1, 2, 3, 4)])
    assert made.registers(7).eax == 1
    assert made.get(0x50000001)
    assert made.leaf(7)
    assert made
    made.packed()
    for slot in (CpuidTable._entries, CpuidTable._by_key, CpuidTable._by_function):  # empty so far; hasattr() would fill them
        with pytest.raises(AttributeError):
            slot.__get__(made)  # type: ignore[attr-defined]
