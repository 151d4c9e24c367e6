"""Laws of KVM_GET_SUPPORTED_CPUID, for hosts with any bits: made of captured ones by turning bits over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import captures
from vcpuid import kvm
from vcpuid import reasons as decisions
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.errors import KvmError
from vcpuid.releases import KERNELS

NAMES = ["kvm-amd.EPYC-Turin-v1@7.3", "kvm-intel.sapphire_rapids-dmr@7.3", "kvm-intel.core2_penryn_t9600@6.1"]
NO_LIMITS = {(0x14, 0), (0x1D, 0)}
"""Leaves whose EAX tells KVM how many sub-leaves to copy: any bits there and it runs out of room."""


@st.composite
def hosts(draw: st.DrawFn) -> Snapshot:
    host = captures.host(draw(st.sampled_from(NAMES)))
    entries = list(host.raw)
    for _ in range(draw(st.integers(0, 24))):
        position = draw(st.integers(0, len(entries) - 1))
        function, index, flags, *registers = entries[position]
        if function not in (0, 0x80000000) and (function, index) not in NO_LIMITS:
            registers[draw(st.integers(0, 3))] ^= draw(st.integers(0, 0xFFFFFFFF))
            entries[position] = Entry(function, index, flags, *registers)
    return replace(host, raw=CpuidTable(entries))


pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
"""Parameters of the other vendor's module are given too: they have no effect, and the answer says so."""

parameters = st.dictionaries(
    st.sampled_from(["nested", "ept", "npt", "enable_pmu", "pmu", "amx_permission", "sgx", "sev", "vgif", "pebs_ept"]), st.integers(0, 1)
)


@pytest.mark.long
@settings(max_examples=150, deadline=None)
@given(hosts(), st.sampled_from(KERNELS), parameters)
def test_replaying_the_decisions_gives_the_table(host: Snapshot, kernel: str, params: dict[str, int | str | bool]) -> None:
    result = kvm.supported(host, kernel, params)
    replayed = decisions.replay(in_64_bit_mode(host).raw.words(), result.decisions)
    words = result.table.words()
    assert {word: value for word, value in replayed.items() if value} == {word: value for word, value in words.items() if value}


@settings(max_examples=150, deadline=None)
@given(hosts(), st.sampled_from(KERNELS), parameters)
def test_entries_are_well_formed(host: Snapshot, kernel: str, params: dict[str, int | str | bool]) -> None:
    table = kvm.supported(host, kernel, params).table
    places = [entry[:2] for entry in table]
    assert len(places) == len(set(places))
    assert all(0 <= value <= 0xFFFFFFFF for entry in table for value in entry[3:])
    assert all(entry.flags in (0, 1) and (entry.flags or not entry.index) for entry in table)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(hosts(), st.sampled_from(KERNELS))
def test_kvm_offers_no_more_on_a_host_without_nesting(host: Snapshot, kernel: str) -> None:
    nested, plain = kvm.caps(host, kernel, {"nested": 1}), kvm.caps(host, kernel, {"nested": 0})
    assert all(not plain.words[name] & ~value for name, value in nested.words.items())


def test_more_sub_leaves_than_kvm_has_room_for() -> None:
    host = captures.host("kvm-intel.sapphire_rapids-xfd@7.3")
    entries = [entry._replace(eax=0xFFFFFFFF) if entry[:2] == (0x1D, 0) else entry for entry in host.raw]
    with pytest.raises(KvmError, match="E2BIG"):
        kvm.supported(replace(host, raw=CpuidTable(entries)), "7.3")
