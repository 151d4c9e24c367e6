"""Single leaves of a CPU made up for the purpose, and where releases differ."""

from __future__ import annotations

from typing import Any

import pytest

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.registers import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.words import CpuidWord
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.entries import Builder
from vcpuid.qemu.leaves import LEAVES, RealizedCpu
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.topology import GuestTopology

RELEASES = ("7.2", "10.0", "11.1")
XSAVE = 1 << 26


def cpu(
    release: str = "11.1",
    topology: GuestTopology | None = None,
    *,
    features: dict[str, int] | None = None,
    props: dict[str, Any] | None = None,
    supported: tuple[Entry, ...] = (),
    raw: tuple[Entry, ...] = (),
    **state: Any,
) -> RealizedCpu:
    given: dict[str, Any] = {"vendor": "GenuineIntel", "level": 0xD, "xlevel": 0x80000008, "family": 6, "model_number": 85, "stepping": 4}
    given |= state
    words = (row for row in catalog(release).words if isinstance(row.word, CpuidWord))
    given["supported"] = FrozenMap((row.name, CpuidTable(supported).word(row.word)) for row in words)
    modern = release == "11.1"
    settings = {
        "legacy-cache": True,
        "l3-cache": True,
        "kvm": True,
        "cpuid-0xb": True,
        "min-level": given["level"],
        "x-vendor-cpuid-only": True,
        "x-vendor-cpuid-only-v2": modern,
        "x-consistent-cache": modern,
        "x-l1-cache-per-thread": True,
        **(props or {}),
    }
    made = CpuState(release, f"pc-q35-{release}", "test-v1", features=FrozenMap(features or {}), props=FrozenMap(settings), **given)
    host = Snapshot(raw=CpuidTable(raw))
    return RealizedCpu(made, topology or GuestTopology(), host.raw, CpuidTable(supported))


def lines(found: RealizedCpu, function: int) -> list[str]:
    return [str(entry) for entry in Builder(found).table(0) if entry.function == function]


def test_family_over_15_spills_into_the_extended_field() -> None:
    assert cpu(family=0x19, model_number=0x11, stepping=1).signature == 0x00A10F11
    assert cpu(family=6, model_number=0x8F, stepping=8).signature == 0x000806F8


def test_strings_are_spread_over_registers() -> None:
    found = cpu(model_id="x" * 60)
    assert LEAVES[0](found, 0)[1:] == (0x756E6547, 0x6C65746E, 0x49656E69)
    assert LEAVES[0x80000004](found, 0) == (0x78787878,) * 4


def test_a_package_of_intels_counts_apic_ids_and_one_of_amds_threads() -> None:
    six = GuestTopology(cpus=6, max_cpus=6, cores=3, threads=2)
    intel, amd = cpu(topology=six), cpu(topology=six, vendor="AuthenticAMD")
    assert LEAVES[1](intel, 0)[1] >> 16 & 0xFF == 8
    assert LEAVES[1](amd, 0)[1] >> 16 & 0xFF == 6
    assert LEAVES[1](cpu("7.2", six), 0)[1] >> 16 & 0xFF == 6


def test_old_qemu_counts_a_die_where_new_ones_count_a_package() -> None:
    dies = GuestTopology(cpus=8, max_cpus=8, dies=2, cores=2, threads=2)
    assert [LEAVES[0xB](cpu(release, dies), 1)[1] for release in RELEASES] == [4, 8, 8]
    assert [LEAVES[0x80000008](cpu(release, dies, vendor="AuthenticAMD"), 0)[2] for release in RELEASES] == [0x3003, 0x3007, 0x3007]


def test_leaf_1f_has_a_sub_leaf_a_level_and_one_to_end_it() -> None:
    topology = GuestTopology(cpus=16, max_cpus=16, dies=2, modules=2, cores=2, threads=2)
    found = cpu(topology=topology, level=0x1F)
    assert lines(found, 0x1F) == [
        "0000001f.0 f1 00000001 00000002 00000100 00000000",
        "0000001f.1 f1 00000002 00000004 00000201 00000000",
        "0000001f.2 f1 00000003 00000008 00000302 00000000",
        "0000001f.3 f1 00000004 00000010 00000503 00000000",
        "0000001f.4 f1 00000000 00000000 00000004 00000000",
    ]
    assert not lines(cpu(level=0x1F), 0x1F)
    assert len(lines(cpu(level=0x1F, props={"x-force-cpuid-0x1f": True}), 0x1F)) == 3


def test_nodes_are_dies_for_old_machines() -> None:
    topology = GuestTopology(cpus=8, max_cpus=8, sockets=2, dies=2, cores=2)
    for old, node in ((False, 1), (True, 0x103)):
        found = cpu(topology=topology, vendor="AuthenticAMD", props={"legacy-multi-node": old})
        found.apic_id = topology.apic_id(7)
        assert LEAVES[0x8000001E](found, 0) == (7, 1, node, 0)


def test_a_slot_that_leaf_d_gives_back_keeps_its_index() -> None:
    features = {"FEAT_1_ECX": XSAVE, "FEAT_XSAVE_XCR0_LO": 3}
    old, new = (Builder(cpu(release, features=features)).table(0) for release in ("7.2", "10.0"))
    assert [entry[:2] for entry in old if entry.function in (0xD, 0x80000000)] == [(0xD, 0), (0xD, 63), (0x80000000, 0)]
    assert [entry[:2] for entry in new if entry.function in (0xD, 0x80000000)] == [(0xD, 0), (0x80000000, 63)]


def test_the_frequency_leaf_takes_index_and_flags_of_the_slot_that_it_gets() -> None:
    features = {"FEAT_1_ECX": XSAVE, "FEAT_XSAVE_XCR0_LO": 3}
    last = [Entry(0x40000010, 0, 0, 1, 2, 0, 0)]
    found = [Builder(cpu(features=features, level=level, xlevel=0), (), last).table(0)[-1][:3] for level in (0xC, 0xD, 0xE)]
    assert found == [(0x40000010, 0, 0), (0x40000010, 63, 1), (0x40000010, 63, 0)]


def test_only_old_qemu_calls_leaf_2_stateful() -> None:
    assert [lines(cpu(release), 2)[0].split()[1] for release in RELEASES] == ["f6", "f0", "f0"]


def test_vcpus_differ_in_apic_ids_alone() -> None:
    topology = GuestTopology(cpus=4, max_cpus=4, cores=2, threads=2)
    builder = Builder(cpu(topology=topology))
    first, last = builder.table(0), builder.table(3)
    assert {entry.function for entry, other in zip(first, last, strict=True) if entry != other} == {1, 0xB}


def test_state_components_take_the_hosts_offsets() -> None:
    raw = (Entry(0, 0, 0, 0xD, 0, 0, 0), Entry(0xD, 2, 0, 0x100, 0x240, 0, 0), Entry(0xD, 9, 0, 8, 0xA80, 0, 0))
    features = {"FEAT_1_ECX": XSAVE, "FEAT_XSAVE_XCR0_LO": 0x207, "FEAT_XSAVE": 0xF}
    assert lines(cpu("10.0", features=features, raw=raw), 0xD) == [
        "0000000d.0 f1 00000207 00000a88 00000a88 00000000",
        "0000000d.1 f1 0000000f 00000348 00000000 00000000",
        "0000000d.2 f1 00000100 00000240 00000000 00000000",
        "0000000d.9 f1 00000008 00000a80 00000000 00000000",
    ]


def test_new_qemu_shows_components_that_the_guest_may_not_use() -> None:
    raw = (Entry(0, 0, 0, 0xD, 0, 0, 0), Entry(0xD, 2, 0, 0x100, 0x240, 0, 0))
    supported = (Entry(0xD, 0, 1, 7, 0x340, 0x340, 0),)
    features = {"FEAT_1_ECX": XSAVE, "FEAT_XSAVE_XCR0_LO": 3}
    shown = [lines(cpu(release, features=features, raw=raw, supported=supported), 0xD) for release in ("10.0", "11.1")]
    assert [len(found) for found in shown] == [1, 2]


@pytest.mark.parametrize("release", RELEASES)
def test_the_pmu_is_kvms_or_none(release: str) -> None:
    supported = (Entry(0xA, 0, 0, 0x07300402, 0, 0, 0x8603),)
    assert lines(cpu(release, supported=supported, props={"pmu": True}), 0xA) == ["0000000a.0 f0 07300402 00000000 00000000 00008603"]
    assert not lines(cpu(release, supported=supported), 0xA)


def test_centaur_leaves_are_handed_over_even_where_zero() -> None:
    found = [entry.function for entry in Builder(cpu(xlevel2=0xC0000004)).table(0) if entry.function >= 0xC0000000]
    assert found == list(range(0xC0000000, 0xC0000005))
