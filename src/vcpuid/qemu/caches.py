"""Which caches QEMU shows a guest: the model's own, or legacy ones (QEMU, target/i386/cpu.c, x86_cpu_realizefn and the cache tables)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from vcpuid import data
from vcpuid.qemu import catalog
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.machine_option import CACHES, check_caches
from vcpuid.qemu.state import CpuState
from vcpuid.releases import number


class CacheInfo(NamedTuple):
    """One cache, with QEMU's field names; `type` is 1 for data, 2 for instructions, 3 for both; `share_level` says whose it is."""

    type: int
    level: int
    size: int
    line_size: int
    associativity: int
    partitions: int
    sets: int
    lines_per_tag: int
    self_init: int
    no_invd_sharing: int
    inclusive: int
    complex_indexing: int
    share_level: str


Caches = tuple[CacheInfo, CacheInfo, CacheInfo, CacheInfo]
"""L1D, L1I, L2, L3."""


class Shown(NamedTuple):
    """Which caches each leaf shows."""

    leaf_2: Caches
    leaf_4: Caches
    leaf_80000005: Caches
    leaf_8000001d: Caches


@cache
def _legacy(name: str) -> Caches:
    """Return the caches of a CPU model that has none of its own."""
    l1d, l1i, l2, l3 = (CacheInfo(*row) for row in data.load("qemu-caches")["legacy"][name])
    return l1d, l1i, l2, l3


@cache
def _model(release: str, model: str) -> Caches | None:
    """Return a CPU model's own caches."""
    rows = catalog.caches(release, model)
    return None if rows is None else tuple(CacheInfo(*row) for row in rows)  # type: ignore[return-value]


@cache
def descriptors(release: tuple[int, int]) -> dict[tuple[int, int, int, int, int], int]:
    """Return leaf 2's code by type, level, size, ways and line size; of codes for the same cache the lowest."""
    found: dict[tuple[int, int, int, int, int], int] = {}
    for code, kind, level, size, ways, line, since in data.load("qemu-caches")["descriptors"]:
        if since is None or release >= number(since):
            found.setdefault((kind, level, size, ways, line), code)
    return found


def _shared(caches: Caches, levels: Mapping[str, str]) -> Caches:
    """Give caches the levels that smp-cache sets."""
    l1d, l1i, l2, l3 = (cache._replace(share_level=levels.get(name, cache.share_level)) for name, cache in zip(CACHES, caches, strict=True))
    return l1d, l1i, l2, l3


def check(model: str, draft: Draft) -> None:
    """Refuse the levels that smp-cache sets where a cache were shared by fewer than a cache nearer to the core is; raises QemuError."""
    own = None if draft.props["legacy-cache"] else _model(draft.catalog.release, model)
    # The CPU has two sets of legacy caches in QEMU 10.0, of which AMD's is looked at; both are shared on the same levels.
    check_caches(cache.share_level for cache in _shared(own or _legacy("amd"), dict(draft.machine.caches)))


def shown(state: CpuState) -> Shown:
    """Choose the caches of each leaf: the model's own, else legacy ones, in which leaves contradict each other up to QEMU 10.0.

    The option smp-cache changes of which level those are that the CPU holds: its own, or the legacy ones of its vendor; up to QEMU 10.0
    those of both.
    """
    props, release = state.props, number(state.release)
    levels = dict(state.shared) if state.shared else None
    own = None if props.get("legacy-cache") else _model(state.release, state.model)
    if own is not None:
        own = _shared(own, levels) if levels else own
        return Shown(own, own, own, own)
    intel, amd = _legacy("intel"), _legacy("amd")
    if levels:
        old = release < (10, 1)
        intel = _shared(intel, levels) if old or not state.is_amd else intel
        amd = _shared(amd, levels) if old or state.is_amd else amd
    by_vendor = amd if state.is_amd else intel
    consistent_vendor = props.get("x-vendor-cpuid-only-v2")
    leaf_2 = intel if not consistent_vendor else by_vendor
    if not props.get("x-consistent-cache"):
        leaf_2 = _legacy("intel-leaf2")
    return Shown(
        leaf_2,
        by_vendor if consistent_vendor else intel,
        by_vendor if consistent_vendor else amd,
        by_vendor if release >= (10, 1) else amd,
    )
