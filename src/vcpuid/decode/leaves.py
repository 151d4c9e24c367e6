"""Registers as fields with values, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable, Entry, Registers
from vcpuid.cpuid.words import REGISTERS, Register
from vcpuid.decode.layout import RESERVED, Field, layout, title
from vcpuid.decode.meaning import Reading
from vcpuid.decode.parties import parties

Parts = tuple[tuple[Field, int], ...]


class Value(NamedTuple):
    """A field of one register with its bits; `raw` is what they hold, shifted down."""

    register: Register
    field: Field
    raw: int

    @property
    def reading(self) -> Reading:
        """What the value says: with its unit, or as a word."""
        if self.field.meaning is not None:
            return self.field.meaning(self.raw)
        if self.field.flag:
            return Reading(self.raw, "", "yes" if self.raw else "no")
        return Reading(self.raw, "", f"{self.raw:#x}" if self.field.name == RESERVED else "")


class Leaf(NamedTuple):
    """One leaf, or one sub-leaf of it: `fields` holds, register by register, all bits from the lowest to the highest.

    `who` is the vendor or hypervisor whose meanings were taken, "" where it is none that has any of its own.
    """

    function: int
    index: int  # type: ignore[assignment]  # KVM's name; hides tuple.index, which nobody asks of a leaf
    who: str
    title: str
    fields: tuple[Parts, ...]

    def __str__(self) -> str:
        return f"{self.function:#x}.{self.index:x}"

    def values(self) -> Iterator[Value]:
        """Give every field, reserved ones too."""
        for register, parts in zip(REGISTERS, self.fields, strict=True):
            for field, raw in parts:
                yield Value(register, field, raw)

    def value(self, name: str) -> int:
        """Return a field's bits; raises KeyError where the leaf has no such field."""
        for value in self.values():
            if value.field.name == name:
                return value.raw
        raise KeyError(name)


@lru_cache(1 << 15)
def _split(fields: tuple[Field, ...], register: int) -> Parts:
    return tuple((field, register >> field.low & (1 << field.width) - 1) for field in fields)


def leaf(entry: Entry, who: str = "") -> Leaf:
    """Decode one entry as `who` means it."""
    function, index, _, *registers = entry
    shape = layout(function, index, who)
    return Leaf(
        function, index, who, title(function, who), tuple(_split(fields, value) for fields, value in zip(shape, registers, strict=True))
    )


def leaves(table: CpuidTable, wanted: Iterable[tuple[int, int | None]] | None = None) -> Iterator[Leaf]:
    """Decode a table, entry by entry in its order.

    `wanted` picks leaves by function and index, None for all of a function's; without it all are decoded.
    """
    whose = parties(table)
    picked = None if wanted is None else set(wanted)
    for entry in table:
        if picked is None or (entry.function, entry.index) in picked or (entry.function, None) in picked:
            yield leaf(entry, whose.of(entry.function))


def encode(fields: Sequence[Parts]) -> Registers:
    """Put fields together again: the registers that `leaf` was given."""
    return Registers(*(sum(raw << field.low for field, raw in parts) for parts in fields))
