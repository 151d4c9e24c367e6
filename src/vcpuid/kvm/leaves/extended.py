"""The extended leaves that all vendors have, 0x80000000 to 0x80000008, and Centaur's range at 0xC0000000."""

from __future__ import annotations

from vcpuid.kvm.leaves.build import BLANK, PASSES_RESERVED, SOURCE, Build, KvmLeaf, zero
from vcpuid.reasons import Rule
from vcpuid.releases import BEFORE_RHEL_9_5

_LIMIT = Rule(
    "kvm.leaf.extended-limit", "KVM caps these leaves at the last one that it knows, and may go up to 0x80000021 of its own", SOURCE
)
_RESERVED = Rule("kvm.leaf.reserved", "KVM leaves out bits that are reserved or about the host", SOURCE)
_POWER = Rule("kvm.leaf.power", "KVM offers nothing of advanced power management but the invariant TSC", SOURCE)
_ADDRESSES = Rule(
    "kvm.leaf.addresses", "KVM gives the address sizes that its paging can serve, with at least 48 bits of virtual address", SOURCE
)


def _highest(build: Build, registers: list[int]) -> None:
    known = 0x80000022 if build.kernel > (6, 1) else 0x80000021 if build.kernel > (5, 10) else 0x8000001F
    highest = min(registers[0], known)
    boot = build.caps.boot
    if build.kernel >= (6, 1) and highest >= 0x8000001D and (boot.has("LFENCE_RDTSC") or not boot.has_bug("NULL_SEG")):
        highest = max(highest, 0x80000021)
    registers[0] = highest


def _features(build: Build, registers: list[int]) -> None:
    if build.tables not in PASSES_RESERVED:
        registers[1] &= ~0x0FFF0000
    build.features(registers, 0x80000001)


def _first_level(build: Build, registers: list[int]) -> None:
    if build.kernel <= (6, 1) or build.tables == "5.14-el9_3":
        zero(registers)


def _second_level(build: Build, registers: list[int]) -> None:
    if build.tables not in PASSES_RESERVED:
        registers[3] &= ~0x30000


def _power(build: Build, registers: list[int]) -> None:
    build.features(registers, 0x80000007)
    registers[:3] = (0, 0, 0)


def _addresses(build: Build, registers: list[int]) -> None:
    on = build.caps.hardware.on
    physical = registers[0] & 0xFF
    if "tdp" in on and (build.kernel <= (5, 10) or build.tables in BEFORE_RHEL_9_5):
        physical = registers[0] >> 16 & 0xFF or physical
    elif "tdp" not in on and build.kernel > (5, 10):
        physical = build.caps.boot.phys_bits
    virtual = max(registers[0] >> 8 & 0xFF, 48)
    guest = 0
    if "tdp" in on and (build.kernel >= (6, 12) or build.tables == "5.14-el9_5"):
        guest = physical if "tdp_5level" in on else min(physical, 48)
    registers[0] = physical | virtual << 8 | guest << 16
    if build.tables not in PASSES_RESERVED:
        registers[2] &= ~0xFFFF0F00
    registers[3] = 0
    build.features(registers, 0x80000008)


def _centaur(_build: Build, registers: list[int]) -> None:
    registers[0] = min(registers[0], 0xC0000004)


def _centaur_features(build: Build, registers: list[int]) -> None:
    build.features(registers, 0xC0000001)


LEAVES = {
    0x80000000: KvmLeaf(_highest, _LIMIT),
    0x80000001: KvmLeaf(_features, _RESERVED),
    0x80000005: KvmLeaf(_first_level, BLANK),
    0x80000006: KvmLeaf(_second_level, _RESERVED),
    0x80000007: KvmLeaf(_power, _POWER),
    0x80000008: KvmLeaf(_addresses, _ADDRESSES),
    0xC0000000: KvmLeaf(_centaur, _LIMIT),
    0xC0000001: KvmLeaf(_centaur_features, BLANK),
}
