"""AMD's leaves from 0x8000000A on."""

from __future__ import annotations

from vcpuid.kvm.leaves.basic import SHOWS_TOPOLOGY, caches
from vcpuid.kvm.leaves.build import BLANK, PASSES_RESERVED, SOURCE, Build, KvmLeaf, zero
from vcpuid.reasons import Rule
from vcpuid.releases import REBUILT

_SVM = Rule("kvm.leaf.svm", "KVM describes its own nested AMD-V: revision 1 and eight address-space identifiers", SOURCE)
_RESERVED = Rule("kvm.leaf.amd-reserved", "KVM passes on the defined bits only", SOURCE)
_SEV = Rule(
    "kvm.leaf.sev",
    "KVM offers memory encryption only where it can run encrypted guests (5.10: where the host has it), and no privilege levels in it",
    SOURCE,
)
_MORE = Rule("kvm.leaf.amd-features", "KVM passes on only the features of this leaf", SOURCE, since="5.15")
_PMU = Rule("kvm.leaf.amd-pmu", "KVM describes the PMU that it virtualizes", SOURCE, since="6.6")

_UNMENDED = frozenset(("6.8", *REBUILT))
"""Kernels of an earlier day than the mend by which KVM zeroes leaf 0x80000022 where it has no such counters to offer."""
_SVM_ASIDS = 8
_RAP_SIZE = 0xFF0000
_ADDRESS_REDUCTION = 0xFC0


def _svm(build: Build, registers: list[int]) -> None:
    if not build.has("SVM"):
        zero(registers)
        return
    registers[:3] = (1, _SVM_ASIDS, 0)
    build.features(registers, 0x8000000A)


def _topology(build: Build, registers: list[int]) -> None:
    if build.tables not in SHOWS_TOPOLOGY:
        zero(registers)


def _large_page_tlb(_build: Build, registers: list[int]) -> None:
    registers[2:] = (0, 0)


def _optimizations(build: Build, registers: list[int]) -> None:
    if build.tables not in PASSES_RESERVED:
        registers[:] = (registers[0] & 0x7, 0, 0, 0)


def _encryption(build: Build, registers: list[int]) -> None:
    if build.kernel <= (5, 10):
        if not build.caps.boot.has("SEV"):
            zero(registers)
        return
    if not build.has("SEV"):
        zero(registers)
        return
    registers[1] &= ~_ADDRESS_REDUCTION if build.tables in PASSES_RESERVED else 0x3F
    build.features(registers, 0x8000001F)


def _more_features(build: Build, registers: list[int]) -> None:
    registers[1] = registers[1] & _RAP_SIZE if build.has("ERAPS") else 0
    registers[3] = 0
    build.features(registers, 0x80000021)


def _performance(build: Build, registers: list[int]) -> None:
    registers[2:] = (0, 0)
    if "pmu" not in build.caps.hardware.on or not build.has("PERFMON_V2"):
        registers[0] = registers[1] if build.tables in _UNMENDED else 0
        registers[1] = registers[0]
        return
    build.features(registers, 0x80000022)
    registers[1] = build.caps.hardware.pmu.counters


LEAVES = {
    0x8000000A: KvmLeaf(_svm, _SVM),
    0x80000019: KvmLeaf(_large_page_tlb, _RESERVED),
    0x8000001A: KvmLeaf(_optimizations, _RESERVED),
    0x8000001D: caches(0x8000001D),
    0x8000001E: KvmLeaf(_topology, BLANK),
    0x8000001F: KvmLeaf(_encryption, _SEV),
    0x80000021: KvmLeaf(_more_features, _MORE),
    0x80000022: KvmLeaf(_performance, _PMU),
}
