"""Caches: which ones a guest sees, and how each leaf spells them."""

from __future__ import annotations

import pytest

from support.qemu_captures import qemu_host
from vcpuid import qemu
from vcpuid.cpuid.registers import CpuidTable, Entry
from vcpuid.errors import QemuError
from vcpuid.qemu.caches import CacheInfo, Shown
from vcpuid.qemu.leaves import LEAVES, RealizedCpu
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.topology import GuestTopology
from vcpuid.setup import Setup, Stack

OFF: dict[str, object] = {
    "legacy-cache": True,
    "l3-cache": True,
    "min-level": 0xD,
    "x-vendor-cpuid-only": True,
    "x-l1-cache-per-thread": True,
}
MODERN: dict[str, object] = {**OFF, "x-vendor-cpuid-only-v2": True, "x-consistent-cache": True}


def cpu(
    release: str, props: dict[str, object], vendor: str = "GenuineIntel", smp: GuestTopology | None = None, raw: tuple[Entry, ...] = ()
) -> RealizedCpu:
    state = CpuState(release, f"pc-q35-{release}", "test-v1", vendor=vendor, props=dict(props))
    return RealizedCpu(state, smp or GuestTopology(), CpuidTable(raw), CpuidTable())


def test_legacy_caches_contradict_each_other_up_to_10_0() -> None:
    old = cpu("10.0", OFF)
    assert LEAVES[2](old, 0) == (1, 0, 0x4D, 0x002C307D)  # an L2 of 2 MiB
    assert LEAVES[4](old, 2)[2] + 1 == 4096  # of 4 MiB
    assert LEAVES[0x80000006](old, 0)[2] >> 16 == 512  # of 512 KiB


def test_consistent_caches_refer_to_leaf_4_where_there_is_one() -> None:
    assert LEAVES[2](cpu("11.1", MODERN), 0) == (1, 0, 0, 0xFF)
    assert LEAVES[2](cpu("11.1", {**MODERN, "min-level": 2}), 0) == (1, 0, 0x4D, 0x002C3049)


def test_amds_have_no_intel_leaves_and_intels_no_amd_ones() -> None:
    amd, intel = cpu("11.1", MODERN, "AuthenticAMD"), cpu("11.1", MODERN)
    assert LEAVES[2](amd, 0) == LEAVES[4](amd, 0) == (0, 0, 0, 0)
    assert LEAVES[0x80000005](intel, 0) == (0, 0, 0, 0)
    assert LEAVES[0x80000006](intel, 0)[3] == 0


def test_without_an_l3_leaf_8000001d_shows_one_still() -> None:
    found = cpu("11.1", {**MODERN, "l3-cache": False}, "AuthenticAMD")
    assert LEAVES[0x80000006](found, 0)[3] == 0
    assert LEAVES[0x8000001D](found, 3)[0] & 0xFF == 0x63
    assert LEAVES[4](cpu("11.1", {**MODERN, "l3-cache": False}), 3) == (0, 0, 0, 0)


@pytest.mark.parametrize(("release", "sharing"), [("7.2", [0, 0, 1, 7]), ("10.0", [1, 1, 1, 7])])
def test_threads_of_a_core_share_l1_since_10_0(release: str, sharing: list[int]) -> None:
    found = cpu(release, OFF, smp=GuestTopology(cpus=6, max_cpus=6, cores=3, threads=2))
    assert [LEAVES[4](found, index)[0] >> 14 & 0xFFF for index in range(4)] == sharing


def test_the_hosts_caches_are_fitted_to_the_guests_topology() -> None:
    raw = (Entry(0, 0, 0, 4, 0, 0, 0), Entry(4, 0, 0, 0xFC000163 | 63 << 14, 1, 2, 3), Entry(4, 1, 0, 0xFC000121 | 1 << 14, 1, 2, 3))
    found = cpu("11.1", {**MODERN, "host-cache-info": True}, smp=GuestTopology(cpus=4, max_cpus=4, cores=4), raw=raw)
    assert LEAVES[4](found, 0) == (0x163 | 3 << 26 | 3 << 14, 1, 2, 3)
    assert LEAVES[4](found, 1) == (0x121 | 3 << 26 | 1 << 14, 1, 2, 3)
    assert LEAVES[4](found, 2) == (0, 0, 0, 0)
    assert LEAVES[0x8000001D](found, 0) == (0, 0, 0, 0), "the host has no such leaf"


def test_a_cache_of_unknown_shape_has_leaf_2_refer_to_leaf_4() -> None:
    found = cpu("10.0", OFF)
    odd = CacheInfo(3, 2, 3 << 20, 64, 3, 1, 16384, 1, 0, 0, 0, 0, "core")
    l1d, l1i, _, l3 = found.caches.leaf_2
    found.caches = Shown((l1d, l1i, odd, l3), *found.caches[1:])
    assert LEAVES[2](found, 0)[3] & 0xFF == 0xFF


@pytest.mark.parametrize(
    ("release", "said"), [("8.0", "CPU model 'max'"), ("8.1", "Segmentation"), ("10.0", "CPU model 'max'"), ("10.2", "Segmentation")]
)
def test_a_model_without_caches_of_its_own_crashes_qemu_where_it_is_not_asked_for(release: str, said: str) -> None:
    with pytest.raises(QemuError, match=said):
        qemu.realize("max,legacy-cache=off", Setup.of(qemu_host("bochs/corei7_skylake_x@6.12"), Stack(qemu=release)))
