"""Classes: the same for hosts that no rule tells apart, another for what any rule reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.captures import host
from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError
from vcpuid.fleet.classes import HostClass, normal

HOLDS = "6e8821756b8444d0"
SKYLAKE = host("kvm-intel.corei7_skylake_x@6.12")
MILAN = host("kvm-amd.EPYC-Milan-v2@6.12")


def of(snapshot: Snapshot) -> int:
    return HostClass.of(snapshot).id


def changed(table: CpuidTable, function: int, **registers: int) -> CpuidTable:
    return CpuidTable(entry._replace(**registers) if entry.function == function else entry for entry in table)


def test_a_class_is_the_same_for_ever() -> None:
    """Stores hold it: where this fails, `classes.NORMAL` must change too."""
    assert HostClass.of(SKYLAKE).name == HOLDS


def test_which_cpu_was_read_makes_no_class() -> None:
    leaf1 = SKYLAKE.raw.registers(1)
    other = changed(SKYLAKE.raw, 1, ebx=leaf1.ebx ^ 0x37000000)
    other = changed(other, 0xB, edx=37)
    assert of(replace(SKYLAKE, raw=other)) == of(SKYLAKE)
    there = changed(changed(MILAN.raw, 0x8000001E, eax=37, ebx=MILAN.raw.registers(0x8000001E).ebx ^ 0x12), 1, ebx=0x11000800)
    assert of(replace(MILAN, raw=there)) == of(replace(MILAN, raw=changed(MILAN.raw, 1, ebx=0x800)))


def test_notes_names_times_and_patch_levels_make_no_class() -> None:
    other = replace(
        SKYLAKE, notes=("taken on a Monday",), cpu="somebody's", kernel="6.12.3-other", kept=None,
        raw=CpuidTable(reversed(tuple(SKYLAKE.raw))), cpuinfo={**SKYLAKE.cpuinfo, "model name": "x", "cpu MHz": "1"},
    )  # fmt: skip
    assert of(other) == of(SKYLAKE)


def test_what_a_rule_reads_makes_another_class() -> None:
    assert of(replace(SKYLAKE, kernel="6.18.1")) != of(SKYLAKE)
    assert of(replace(SKYLAKE, params={**SKYLAKE.params, "kvm_intel.nested": "0"})) != of(SKYLAKE)
    assert of(replace(SKYLAKE, cpuinfo={**SKYLAKE.cpuinfo, "microcode": "0x1"})) != of(SKYLAKE)
    assert of(replace(SKYLAKE, msrs=MsrTable({**SKYLAKE.msrs, 0x10A: 1}))) != of(SKYLAKE)


OWN = {
    (0x1, "ebx"): 0xFF000000,
    (0x3, "ecx"): 0xFFFFFFFF,
    (0x3, "edx"): 0xFFFFFFFF,
    (0x6, "edx"): 0xFFFF0000,
    (0xB, "edx"): 0xFFFFFFFF,
    (0x1F, "edx"): 0xFFFFFFFF,
}


@given(st.data())
def test_every_bit_of_kvms_answer_counts_but_for_the_cpus_own(data: st.DataObject) -> None:
    table = SKYLAKE.supported
    assert table is not None
    at = data.draw(st.integers(0, len(table) - 1))
    register = data.draw(st.sampled_from(("eax", "ebx", "ecx", "edx")))
    bit = 1 << data.draw(st.integers(0, 31))
    entries = list(table)
    entry: Entry = entries[at]
    entries[at] = entry._replace(**{register: getattr(entry, register) ^ bit})
    own = OWN.get((entry.function, register), 0) & bit
    assert (of(replace(SKYLAKE, supported=CpuidTable(entries))) == of(SKYLAKE)) is bool(own)


def test_a_class_of_its_own_facts_is_itself() -> None:
    for snapshot in (SKYLAKE, MILAN):
        assert normal(normal(snapshot)) == normal(snapshot)


def test_a_guests_table_is_no_host() -> None:
    with pytest.raises(InputError, match="made for a guest"):
        HostClass.of(replace(SKYLAKE, table=SKYLAKE.supported))
