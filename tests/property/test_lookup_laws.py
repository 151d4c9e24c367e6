"""Laws of the vCPU's table and of the guest's look-up, for any table; the last ones hold them to the KVM of this machine."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpuid.cpuid import SIGNIFICANT_INDEX, CpuidTable, Entry, Registers, Snapshot
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.kvm.cr4 import refusal as cr4_refusal
from vcpuid.kvm.lookup import find, lookup, lookup_entry, seen
from vcpuid.kvm.vcpu import get_cpuid, set_again, set_cpuid
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.live import tiny_guest as guest
from vcpuid.reasons import replay
from vcpuid.releases import KERNELS, linux

WORD = st.integers(0, 0xFFFFFFFF)
VENDORS = (b"GenuineIntel", b"AuthenticAMD", b"AMDisbetter!", b"HygonGenuine", b"CentaurHauls", bytes(12))
FUNCTIONS = st.sampled_from(
    [0, 1, 2, 4, 7, 0xB, 0xD, 0x12, 0x14, 0x1F, 0x20, 0x40000000, 0x40000001, 0x40000003, 0x40000100, 0x40000101, 0x80000000, 0x80000001,
     0x80000007, 0x80000008, 0x8000001D, 0xC0000000, 0xC0000001]
)  # fmt: skip
INDICES = st.integers(0, 4)
SIGNATURE = st.sampled_from([(0x4B4D564B, 0x564B4D56, 0x4D), (0x566E6558, 0x65584D4D, 0x4D4D566E)])
HOST = Snapshot(supported=CpuidTable([Entry(0xD, 0, 1, 0xE7, 0, 0, 0), Entry(0xD, 2, 1, 0x100, 0x240, 0, 0)]))
STATES = st.builds(
    VcpuState,
    xcr0=st.sampled_from([1, 3, 7, 0x207, 0xE7]),
    xss=st.sampled_from([0, 0x800, 0x1800]),
    mwait_enabled=st.booleans(),
    tsx_ctrl=st.integers(0, 3),
    invtsc_control=st.integers(0, 1),
    tsc_khz=st.none() | st.integers(1, 5_000_000),
    xen_enabled=st.booleans(),
    constant_tsc=st.booleans(),
    hlt_in_guest=st.booleans(),
    mwait_quirk=st.booleans(),
)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    function, flags = draw(FUNCTIONS | WORD), draw(st.integers(0, 1))
    registers = draw(st.tuples(WORD, WORD, WORD, WORD))
    if function == 0:
        vendor = draw(st.sampled_from(VENDORS))
        ebx, edx, ecx = (int.from_bytes(vendor[n : n + 4], "little") for n in (0, 4, 8))
        registers = (draw(FUNCTIONS), ebx, ecx, edx)
    elif function in (0x80000000, 0xC0000000):
        registers = (function + draw(st.integers(0, 0x20)), *registers[1:])
    elif function in (0x40000000, 0x40000100):
        registers = (function + draw(st.integers(0, 4)), *draw(SIGNATURE))
    elif function == 0x80000008:
        registers = (0x3030, *registers[1:])
    elif function == 0xD:
        registers = (registers[0] & ~(1 << 18), *registers[1:])
    return Entry(function, draw(INDICES), flags, *registers)


TABLES = st.lists(entries(), max_size=30).map(CpuidTable)


def places(table: CpuidTable) -> list[tuple[int, int]]:
    """The table's own places and their neighbours, and the ends of every class of leaves."""
    own = {(entry.function, entry.index) for entry in table}
    near = {((function + step) & 0xFFFFFFFF, index + 1) for function, index in own for step in (-1, 0, 1)}
    ends = {(0, 0), (0x3FFFFFFF, 0), (0x4FFFFFFF, 1), (0x50000000, 2), (0x7FFFFFFF, 0), (0xBFFFFFFF, 0), (0xFFFFFFFF, 0xFFFFFFFF)}
    return sorted(own | near | ends)


@given(TABLES, st.sampled_from(KERNELS), STATES, st.sampled_from([0, 0x40000, 0x440000]), st.booleans())
def test_the_decisions_replay(table: CpuidTable, kernel: str, state: VcpuState, cr4: int, apic: bool) -> None:
    if cr4_refusal(cr4, table, None, linux(kernel).number):
        cr4 = 0
    kept = set_cpuid(table, kernel=kernel, state=state, cr4=cr4, apic=apic)
    assert replay(table.words(), kept.decisions) == kept.table.words()
    assert [entry[:3] for entry in kept.table] == [entry[:3] for entry in table]
    read = seen(kept.table, kernel=kernel, state=state)
    assert replay(kept.table.words(), read.decisions) == read.table.words()
    for entry in read.table:
        assert entry.registers == lookup(kept.table, entry.function, entry.index, kernel=kernel, state=state)


@given(TABLES, st.sampled_from(KERNELS), STATES)
def test_what_was_set_is_taken_again_and_changes_nothing_more(table: CpuidTable, kernel: str, state: VcpuState) -> None:
    kept = set_cpuid(table, host=HOST, kernel=kernel, state=state, apic=False).table
    assert set_cpuid(kept, host=HOST, kernel=kernel, state=state, apic=False).decisions == ()
    assert set_again(kept, table, host=HOST, kernel=kernel, state=state, apic=False).table == kept
    assert list(get_cpuid(kept, kernel=kernel))[: len(kept)] == list(kept)


@given(TABLES, FUNCTIONS | WORD, INDICES)
def test_the_first_fitting_entry_answers(table: CpuidTable, function: int, index: int) -> None:
    fitting = [e for e in table if e.function == function and (e.index == index or not e.flags & SIGNIFICANT_INDEX)]
    answer = lookup_entry(table, function, index, kernel="6.1")
    assert answer.exact == bool(fitting)
    assert find(table, function, index) == (fitting[0] if fitting else None)
    if fitting:
        assert answer.registers == fitting[0].registers
    elif answer.entry is not None:
        top = find(table, 0)
        assert top is not None
        assert answer.entry == find(table, top.eax, index)


@given(TABLES, st.sampled_from(VENDORS[1:4]), FUNCTIONS | WORD, INDICES)
def test_amd_and_hygon_answer_no_leaf_for_another(table: CpuidTable, vendor: bytes, function: int, index: int) -> None:
    ebx, edx, ecx = (int.from_bytes(vendor[n : n + 4], "little") for n in (0, 4, 8))
    of_vendor = CpuidTable([Entry(0, 0, 0, 0xD, ebx, ecx, edx), *table])
    answer = lookup_entry(of_vendor, function, index)
    assert answer.exact or answer.entry is None
    if answer.entry is None and function not in (0xB, 0x1F):
        assert answer.registers == Registers()


def real(table: CpuidTable, leaves: list[tuple[int, int]], mode: guest.Mode) -> guest.GuestReading | int:
    """What the KVM of this machine makes of a table, or the errno with which it refuses."""
    try:
        return guest.read_cpuid(table, leaves, mode)
    except KvmError as refusal:
        return refusal.errno
    except UnavailableError as lacking:
        pytest.skip(str(lacking))


STOCK = any(Path("/sys/module", module).exists() for module in ("kvm_intel", "kvm_amd"))
"""Other modules may rewrite the table that they are given (kvm_pvm does); these do as Linux does."""


@pytest.mark.kvm
@pytest.mark.parametrize("mode", [16, 32])
@settings(max_examples=60, deadline=None)
@given(table=TABLES)
def test_a_real_guest_reads_what_the_lookup_says(table: CpuidTable, mode: guest.Mode) -> None:
    leaves, kernel = places(table), platform.release()
    reading = real(table, leaves, mode)
    assert isinstance(reading, guest.GuestReading)
    assert reading.seen == {leaf: lookup(reading.kept, *leaf, kernel=kernel) for leaf in leaves}
    if STOCK:
        assert reading.kept == set_cpuid(table, kernel=kernel).table


@pytest.mark.kvm
@settings(max_examples=40, deadline=None)
@given(st.lists(entries(), max_size=4), st.integers(0, 0xFFFF), st.integers(0, 1 << 19))
def test_a_real_vcpu_refuses_what_the_model_refuses(others: list[Entry], widths: int, xcr0: int) -> None:
    table = CpuidTable([Entry(0x80000008, 0, 0, widths, 0, 0, 0), Entry(0xD, 0, 1, xcr0 & ~(1 << 18), 0, 0, 0), *others])
    modelled = 0
    try:
        set_cpuid(table, kernel=platform.release())
    except KvmError as refusal:
        modelled = refusal.errno
    reading = real(table, [], 32)
    assert (reading if isinstance(reading, int) else 0) == modelled
