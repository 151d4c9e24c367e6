"""Registers as fields with values, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain, repeat
from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable, Entry, Registers
from vcpuid.cpuid.words import Register
from vcpuid.decode.layout import Field, Word, layout, title
from vcpuid.decode.meaning import Reading
from vcpuid.decode.parties import Parties, parties


class Value(NamedTuple):
    """A field of one register with its bits; `raw` is what they hold, shifted down."""

    register: Register
    field: Field
    raw: int

    @property
    def reading(self) -> Reading:
        """What the value says: with its unit, or as a word."""
        return self.field.read(self.raw)


Values = tuple[Value, ...]

CACHED = 1 << 13
"""Registers remembered with their values: processors of a pile of dumps have most of theirs in common."""


class Leaf(NamedTuple):
    """One leaf, or one sub-leaf of it: `words` holds, for EAX, EBX, ECX and EDX, all fields from the lowest bit to the highest.

    `who` is the vendor or hypervisor whose meanings were taken, "" where it is none that has any of its own.
    """

    function: int
    index: int  # type: ignore[assignment]  # KVM's name; hides tuple.index, which nobody asks of a leaf
    who: str
    words: tuple[Values, Values, Values, Values]

    def __str__(self) -> str:
        return f"{self.function:#x}.{self.index:x}"

    @property
    def title(self) -> str:
        """What the leaf is about; empty where nobody knows."""
        return title(self.function, self.who)

    def values(self) -> Iterator[Value]:
        """Give every field, reserved ones too."""
        return chain.from_iterable(self.words)

    def value(self, name: str) -> int:
        """Return a field's bits; raises KeyError where the leaf has no such field."""
        for value in self.values():
            if value.field.name == name:
                return value.raw
        raise KeyError(name)


@lru_cache(CACHED)
def _split(word: Word, bits: int) -> Values:
    return tuple(Value(word.register, field, bits >> field.low & (1 << field.width) - 1) for field in word.fields)


@lru_cache(CACHED)
def _spell_word(word: Word, bits: int) -> str:
    return word.spell(bits)


@lru_cache(CACHED >> 2)
def _spell(entry: Entry, whose: Parties) -> str:
    function, index, _, *bits = entry
    return "".join(map(_spell_word, layout(function, index, whose.of(function)), bits))


def leaf(entry: Entry, who: str = "") -> Leaf:
    """Decode one entry as `who` means it."""
    function, index, _, *bits = entry
    eax, ebx, ecx, edx = map(_split, layout(function, index, who), bits)
    return Leaf(function, index, who, (eax, ebx, ecx, edx))


def leaves(table: CpuidTable, wanted: Iterable[tuple[int, int | None]] | None = None) -> Iterator[Leaf]:
    """Decode a table, entry by entry in its order.

    `wanted` picks leaves by function and index, None for all of a function's; without it all are decoded.
    """
    whose = parties(table)
    return (leaf(entry, whose.of(entry.function)) for entry in _picked(table, wanted))


def spell(table: CpuidTable, wanted: Iterable[tuple[int, int | None]] | None = None) -> str:
    """Spell every field of a table, one a line: `0x7.0.ebx.5 avx2 yes`; `wanted` as for `leaves`."""
    return "".join(map(_spell, _picked(table, wanted), repeat(parties(table))))


def encode(leaf: Leaf) -> Registers:
    """Put fields together again: the registers that `leaf` was given."""
    return Registers(*(sum(value.raw << value.field.low for value in word) for word in leaf.words))


def _picked(table: CpuidTable, wanted: Iterable[tuple[int, int | None]] | None) -> Iterable[Entry]:
    if wanted is None:
        return table
    picked = set(wanted)
    return [entry for entry in table if (entry.function, entry.index) in picked or (entry.function, None) in picked]
