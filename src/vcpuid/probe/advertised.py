"""Which features CPUID shows, by the rules by which software reads it: no leaf beyond those that leaves 0, 7 and 0x80000000 admit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vcpuid.cpuid import CpuidTable, CpuidWord, Registers
from vcpuid.cpuid.features import Feature
from vcpuid.cpuid.names import find
from vcpuid.cpuid.showing import hiding, showing
from vcpuid.errors import InputError
from vcpuid.probe.instructions import INSTRUCTIONS, Instruction

Seen = Mapping[tuple[int, int], Registers]
"""CPUID's answers by function and index."""

_SEVEN = (7, 0)


def places(instructions: Iterable[Instruction]) -> list[tuple[int, int]]:
    """List the leaves that must be read to tell which of the instructions' features are advertised."""
    found = {(0, 0), _SEVEN, (0x80000000, 0), (1, 0)}
    return sorted(found | {(word.function, word.index) for word, _ in map(_bit, instructions)})


def advertises(seen: Seen, instruction: Instruction) -> bool:
    """Tell whether CPUID shows an instruction's feature."""
    word, position = _bit(instruction)
    first = (word.function & 0x80000000, 0)
    if word.function > seen[first].eax or (word.function == 7 and word.index > seen[_SEVEN].eax):
        return False
    return bool(getattr(seen[word.function, word.index], word.register) >> position & 1)


def shows(table: CpuidTable, instruction: Instruction) -> bool:
    """Tell whether a table has the bit of an instruction's feature set."""
    word, position = _bit(instruction)
    return bool(table.word(word) >> position & 1)


def override(table: CpuidTable, force: Iterable[str] = (), hide: Iterable[str] = ()) -> CpuidTable:
    """Return the table with features forced on and hidden, whatever KVM or QEMU think of it; what is in both is forced.

    Spellings are those of `find`, and "all" for every feature that can be tried. A leaf that the table lacks is added, and the limits in
    leaves 0, 7 and 0x80000000 raised so that it counts. Raises InputError for an unknown name and for a feature that is no CPUID bit.
    """
    changed = table
    for names, on in ((hide, False), (force, True)):
        for feature in _features(names):
            changed = _with_bit(changed, feature, on)
    return changed


def _features(names: Iterable[str]) -> Iterable[Feature]:
    for name in names:
        for spelling in dict.fromkeys(instruction.feature for instruction in INSTRUCTIONS) if name == "all" else (name,):
            yield find(spelling)


def _with_bit(table: CpuidTable, feature: Feature, on: bool) -> CpuidTable:
    if feature.bit is None or not isinstance(feature.bit.word, CpuidWord):
        raise InputError(f"{feature.name} is no bit of CPUID: a table cannot show it")
    return showing(table, feature.bit) if on else hiding(table, feature.bit)


def _bit(instruction: Instruction) -> tuple[CpuidWord, int]:
    """Return word and position of an instruction's feature: every one of them is in CPUID, which a test holds."""
    bit = find(instruction.feature).bit
    assert bit is not None
    assert isinstance(bit.word, CpuidWord)
    return bit.word, bit.position
