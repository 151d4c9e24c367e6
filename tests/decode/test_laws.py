"""Laws of decoding: nothing of a register is lost, and nothing is told twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from vcpuid import data, decode
from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.decode.layout import layout

WHO = ("", "intel", "amd", "hygon", "centaur", "zhaoxin", "transmeta", "cyrix", "kvm", "hyperv", "xen", "vmware")
PLACES = sorted({(int(word.split(".")[0], 16), int(word.split(".")[1].split("-")[0], 16)) for word, *_ in data.load("fields")["rows"]})

u32 = st.integers(0, (1 << 32) - 1)
places = st.one_of(st.sampled_from(PLACES), st.tuples(u32, st.integers(0, 70)))
entries = st.builds(lambda place, *registers: Entry(*place, 0, *registers), places, u32, u32, u32, u32)


@given(entries, st.sampled_from(WHO))
def test_the_fields_of_a_leaf_give_back_its_registers(entry: Entry, who: str) -> None:
    leaf = decode.leaf(entry, who)
    assert decode.encode(leaf) == entry.registers
    for value in leaf.values():
        assert 0 <= value.raw < 1 << value.field.width


@given(entries, st.sampled_from(WHO))
def test_every_value_can_be_read(entry: Entry, who: str) -> None:
    for value in decode.leaf(entry, who).values():
        assert isinstance(value.reading.value, int | str)
        assert str(value.reading) or value.field.meaning is not None


def test_fields_partition_every_register() -> None:
    for who in WHO:
        for function, index in [*PLACES, (0x7FFFFFFF, 0)]:
            for word in layout(function, index, who):
                position = 0
                for field in word.fields:
                    assert field.low == position, (hex(function), index, who, field)
                    position += field.width
                assert position == 32


def test_names_in_a_register_differ() -> None:
    for who in WHO:
        for function, index in PLACES:
            for word in layout(function, index, who):
                names = [field.name for field in word.fields if field.name != "reserved"]
                assert len(names) == len(set(names)), (hex(function), index, who)


tables = st.lists(entries, max_size=12).map(CpuidTable)


@given(tables)
def test_a_table_does_not_differ_from_itself(table: CpuidTable) -> None:
    assert decode.diff(table, table) == []


@given(tables, tables)
def test_a_difference_turned_round_is_the_same_difference(a: CpuidTable, b: CpuidTable) -> None:
    there = [(c.place, c.field, c.before, c.after) for c in decode.diff(a, b)]
    back = [(c.place, c.field, c.after, c.before) for c in decode.diff(b, a)]
    assert there == back


@given(entries, entries.map(lambda entry: entry[3:]))
def test_the_changes_are_all_the_bits_that_differ(entry: Entry, other: tuple[int, ...]) -> None:
    second = Entry(*entry[:3], *other)
    changed = {"eax": 0, "ebx": 0, "ecx": 0, "edx": 0}
    for change in decode.diff(CpuidTable([entry]), CpuidTable([second]), ignore=()):
        if change.before is not None and change.after is not None:
            changed[change.register] |= (change.before ^ change.after) << change.field.low
    if decode.parties(CpuidTable([entry])) == decode.parties(CpuidTable([second])):
        assert changed == {
            register: a ^ b for register, a, b in zip(("eax", "ebx", "ecx", "edx"), entry.registers, second.registers, strict=True)
        }


@settings(deadline=None)  # the first example reads the tables
@given(tables)
def test_whatever_a_table_holds_it_can_be_summed_up_and_drawn(table: CpuidTable) -> None:
    decode.identity(table)
    decode.tlbs(table)
    decode.facts(table)
    assert decode.draw_topology(decode.topology(table))
    decode.draw_xsave(decode.xsave(table))
