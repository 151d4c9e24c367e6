"""The leaves of instruction sets: 7, AMX (0x1D, 0x1E), AVX10 (0x24) and Intel PT (0x14)."""

from __future__ import annotations

from vcpuid.kvm.leaves.build import BLANK, SOURCE, Build, KvmLeaf, zero
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_4

_SUBLEAVES = Rule("kvm.leaf.subleaves", "KVM knows only the first sub-leaves of this leaf", SOURCE)
_NO_FEATURE = Rule("kvm.leaf.no-feature", "the leaf describes a feature that KVM does not offer", SOURCE)
_AVX10 = Rule("kvm.leaf.avx10", "KVM offers AVX10 up to the version that it knows", SOURCE, since="6.12")


def _structured(build: Build, registers: list[int]) -> None:
    last = registers[0] = min(registers[0], 1 if build.kernel <= (5, 10) or build.tables in BEFORE_RHEL_9_4 else 2)
    build.features(registers, 7)
    if last >= 1:
        registers = build.subleaf(7, 1, BLANK)
        registers[1] = 0
        build.features(registers, 7, 1)
    if last >= 2:
        registers = build.subleaf(7, 2, BLANK)
        registers[:3] = (0, 0, 0)
        build.features(registers, 7, 2)


def _as_long_as(feature: str, function: int) -> KvmLeaf:
    """Pass all sub-leaves on where KVM offers the feature; EAX of sub-leaf 0 tells how many there are."""

    def answer(build: Build, registers: list[int]) -> None:
        if not build.has(feature):
            zero(registers)
            return
        for index in range(1, registers[0] + 1):
            build.subleaf(function, index, BLANK)

    return KvmLeaf(answer, _NO_FEATURE)


def _tile_multiply(build: Build, registers: list[int]) -> None:
    if not build.has("AMX_TILE"):
        zero(registers)
    elif build.kernel >= (7, 0):
        registers[0] = min(registers[0], 1)
        if registers[0]:
            more = build.subleaf(0x1E, 1, BLANK)
            zero(more)
            build.features(more, 0x1E, 1)


def _avx10(build: Build, registers: list[int]) -> None:
    if not build.has("AVX10"):
        zero(registers)
        return
    newer = build.kernel >= (7, 0)
    last = min(registers[0], 1) if newer else 0
    version = min(registers[1] & 0xFF, 2 if newer else 1)
    registers[:] = (last, 0, 0, 0)
    build.features(registers, 0x24)
    registers[1] |= version
    if last:
        more = build.subleaf(0x24, 1, BLANK)
        zero(more)
        build.features(more, 0x24, 1)


LEAVES = {
    0x7: KvmLeaf(_structured, _SUBLEAVES),
    0x14: _as_long_as("INTEL_PT", 0x14),
    0x1D: _as_long_as("AMX_TILE", 0x1D),
    0x1E: KvmLeaf(_tile_multiply, _NO_FEATURE),
    0x24: KvmLeaf(_avx10, _AVX10),
}
