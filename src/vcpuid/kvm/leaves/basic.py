"""The basic leaves 0 to 6, 0xA, 0xB and 0x1F."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.kvm.leaves.build import BLANK, SOURCE, Build, KvmLeaf, as_is, zero
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_3

_LIMIT = Rule("kvm.leaf.limit", "KVM caps the number of leaves at the last one that it knows", SOURCE)
_THERMAL = Rule("kvm.leaf.thermal", "KVM offers nothing of power management but the APIC timer that always runs", SOURCE)
_PMU = Rule("kvm.leaf.pmu", "KVM describes the PMU that it virtualizes with what the host's perf has", SOURCE)
_TOPOLOGY = Rule("kvm.leaf.topology", "KVM leaves the processor topology to the VMM", SOURCE)

_ANYTHREAD_DEPRECATED = 1 << 15  # leaf 0xA EDX
_ARAT = bits.ARAT.mask


def _highest(build: Build, registers: list[int]) -> None:
    registers[0] = min(registers[0], 0x24 if build.kernel >= (6, 12) else 0x1F)


def _features(build: Build, registers: list[int]) -> None:
    build.features(registers, 1)


def caches(function: int) -> KvmLeaf:
    """Pass sub-leaves on up to the first that describes no cache."""

    def answer(build: Build, registers: list[int]) -> None:
        index = 0
        while registers[0] & 0x1F:
            index += 1
            registers = build.subleaf(function, index, BLANK)

    return KvmLeaf(answer, BLANK)


def _thermal(_build: Build, registers: list[int]) -> None:
    registers[:] = (_ARAT, 0, 0, 0)


def _cache_access(build: Build, registers: list[int]) -> None:
    """Leave direct cache access as it is, in kernels that have this leaf beside those of which KVM knows nothing."""
    if build.tables not in BEFORE_RHEL_9_3:
        zero(registers)


def _pmu(build: Build, registers: list[int]) -> None:
    pmu = build.caps.hardware.pmu
    if not build.caps.boot.has("ARCH_PERFMON"):
        zero(registers)
        return
    fixed_width = pmu.width if pmu.fixed or not _mended(build) else 0
    registers[:] = (
        pmu.version | pmu.counters << 8 | pmu.width << 16 | pmu.events_length << 24,
        pmu.events,
        0,
        pmu.fixed | fixed_width << 5 | (_ANYTHREAD_DEPRECATED if pmu.version else 0),
    )


def _mended(build: Build) -> bool:
    """Whether perf_get_x86_pmu_capability gives a width to fixed counters only where there are some: since 6.18, and 6.12's update."""
    return build.kernel >= (6, 18) or build.tables == "6.12"


SHOWS_TOPOLOGY = frozenset(("4.18", *BEFORE_RHEL_9_3))
"""Kernels without the mend by which KVM keeps the host's topology to itself; the stable updates of older releases have it."""


def _topology(function: int) -> KvmLeaf:
    """Leave all but the APIC ID away; before, KVM passed sub-leaves on up to the first that is no level."""

    def answer(build: Build, registers: list[int]) -> None:
        if build.tables not in SHOWS_TOPOLOGY:
            registers[:3] = (0, 0, 0)
            return
        index = 0
        while registers[2] & 0xFF00:
            index += 1
            registers = build.subleaf(function, index, BLANK)

    return KvmLeaf(answer, _TOPOLOGY)


LEAVES = {
    0x0: KvmLeaf(_highest, _LIMIT),
    0x1: KvmLeaf(_features, BLANK),
    0x2: KvmLeaf(as_is, BLANK),
    0x4: caches(0x4),
    0x6: KvmLeaf(_thermal, _THERMAL),
    0x9: KvmLeaf(_cache_access, BLANK),
    0xA: KvmLeaf(_pmu, _PMU),
    0xB: _topology(0xB),
    0x1F: _topology(0x1F),
}
