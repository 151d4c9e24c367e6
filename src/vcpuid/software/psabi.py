"""The x86-64 psABI's micro-architecture levels, and what keeps a CPU from the next one."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidWord, parse_bit
from vcpuid.data import load
from vcpuid.software.cpu import SoftwareCpu


class PsabiLevel(NamedTuple):
    """One level. `missing` are the bits that the CPU lacks of this level alone, by the psABI's names; `disabled` those whose state the
    operating system has not enabled; `reached` says that it lacks none, of this level and of those below."""

    name: str
    reached: bool
    missing: tuple[str, ...]
    disabled: tuple[str, ...]


class _Feature(NamedTuple):
    name: str
    bit: Bit
    state: int


@cache
def features() -> dict[str, tuple[_Feature, ...]]:
    """Give the features of each level, each with its bit and the bits of XCR0 that it takes."""
    table = load("psabi")
    return {
        level: tuple(_Feature(name, _bit(place), table["states"].get(name, 0)) for name, place in members.items())
        for level, members in table["levels"].items()
    }


def levels(cpu: SoftwareCpu) -> tuple[PsabiLevel, ...]:
    """Say of each level whether a CPU reaches it; the lowest first."""
    found: list[PsabiLevel] = []
    for name, members in features().items():
        missing = tuple(one.name for one in members if not _has(cpu, one.bit))
        disabled = tuple(one.name for one in members if one.name not in missing and one.state & ~cpu.xcr0)
        below = not found or found[-1].reached
        found.append(PsabiLevel(name, below and not missing and not disabled, missing, disabled))
    return tuple(found)


def level(cpu: SoftwareCpu) -> int:
    """Return the highest level reached, 1 to 4; 0 for a CPU that is no x86-64."""
    return sum(one.reached for one in levels(cpu))


def _has(cpu: SoftwareCpu, bit: Bit) -> bool:
    word = bit.word
    return isinstance(word, CpuidWord) and bool(getattr(cpu.leaf(word.function, word.index), word.register) & bit.mask)


def _bit(place: str) -> Bit:
    bit = parse_bit(place)
    assert bit is not None, place
    return bit
