"""Two tables held against each other, field by field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable, Entry
from vcpuid.cpuid.words import REGISTERS, CpuidWord, Register, leaf_keys
from vcpuid.decode.ignore import CPU, Ignored
from vcpuid.decode.layout import Field
from vcpuid.decode.leaves import Leaf, Value, leaf
from vcpuid.decode.parties import parties


class FieldChange(NamedTuple):
    """A field that differs. `before` or `after` is None where that table lacks the entry, or has other fields in those bits."""

    function: int
    index: int  # type: ignore[assignment]  # KVM's name; hides tuple.index, which nobody asks of a change
    register: Register
    field: Field
    before: int | None
    after: int | None

    @property
    def place(self) -> str:
        """Where it is, `7.0.ebx.5` or `4.0.eax.31:26`."""
        return f"{self.function:x}.{self.index:x}.{self.register}.{self.field.bits}"

    @property
    def word(self) -> CpuidWord:
        """The register."""
        return CpuidWord(self.function, self.index, self.register)

    @property
    def mask(self) -> int:
        """The bits of the register that differ."""
        return ((self.before or 0) ^ (self.after or 0)) << self.field.low

    def spell(self, raw: int | None) -> str:
        """Say what a value of the field means; "-" where there is none."""
        return "-" if raw is None else str(Value(self.register, self.field, raw).reading)

    def as_dict(self) -> dict[str, object]:
        """For JSON: both values as words, None where there is none."""
        return {
            **leaf_keys(self.function, self.index),
            "register": self.register,
            "bits": self.field.bits,
            "name": self.field.name,
            "host": None if self.before is None else self.spell(self.before),
            "guest": None if self.after is None else self.spell(self.after),
            "description": self.field.description,
        }

    def __str__(self) -> str:
        return f"{self.place} {self.field.name}: {self.spell(self.before)} -> {self.spell(self.after)}"


def diff(a: CpuidTable, b: CpuidTable, ignore: Iterable[str] = (CPU,)) -> list[FieldChange]:
    """Return the fields in which `b` differs from `a`, by leaf and sub-leaf, register and bit; reserved bits count.

    `ignore` tells what is left out, as `Ignored` takes it; by default the fields in which CPUs of one machine differ. A field of an entry
    that only one table has counts where it is not 0, as does a bit that means another thing on the other side (tables of two vendors).
    """
    here, there = parties(a), parties(b)
    first, second = a.by_key(), b.by_key()
    changes: list[FieldChange] = []
    for function, index in sorted(first.keys() | second.keys()):
        old, new = first.get((function, index)), second.get((function, index))
        if old is not None and new is not None and old[3:] == new[3:] and here.of(function) == there.of(function):
            continue
        changes += _changes((function, index), _leaf(old, here.of(function)), _leaf(new, there.of(function)))
    ignored = Ignored(ignore, (a, b))
    return [change for change in changes if ignored.counts(change.word, change.mask)]


def same(a: CpuidTable, b: CpuidTable) -> int:
    """Count the fields that both tables have and that hold the same."""
    here, there = parties(a), parties(b)
    first, second = a.by_key(), b.by_key()
    count = 0
    for function, index in first.keys() & second.keys():
        old, new = leaf(first[function, index], here.of(function)), leaf(second[function, index], there.of(function))
        count += sum(len(_raw(old, number).items() & _raw(new, number).items()) for number in range(len(REGISTERS)))
    return count


class Spread(NamedTuple):
    """A field that is not the same on all CPUs; `values` has one for each, None where the CPU lacks the entry or the field."""

    function: int
    index: int  # type: ignore[assignment]  # as above
    register: Register
    field: Field
    values: tuple[int | None, ...]

    def texts(self) -> tuple[str, ...]:
        """Say what the values mean, "-" where there is none."""
        return tuple("-" if raw is None else str(Value(self.register, self.field, raw).reading) for raw in self.values)


def spread(tables: Sequence[CpuidTable]) -> list[Spread]:
    """Return the fields that differ among CPUs of one machine, the ones in which they always do (`PER_CPU`) too."""
    named: dict[tuple[int, int, int, int, Field], Register] = {}
    for other in tables[1:]:
        for change in diff(tables[0], other, ignore=()):
            place = (change.function, change.index, REGISTERS.index(change.register), change.field.low, change.field)
            named[place] = change.register
    whose = [parties(table) for table in tables]
    found = []
    for (function, index, _, _, field), register in sorted(named.items(), key=lambda item: item[0][:4]):
        values = tuple(
            _value(_leaf(table.get(function, index), who.of(function)), register, field) for table, who in zip(tables, whose, strict=True)
        )
        found.append(Spread(function, index, register, field, values))
    return found


def _value(some: Leaf | None, register: Register, field: Field) -> int | None:
    if some is None:
        return None
    return next((value.raw for value in some.words[REGISTERS.index(register)] if value.field == field), None)


def _leaf(entry: Entry | None, who: str) -> Leaf | None:
    return None if entry is None else leaf(entry, who)


def _changes(key: tuple[int, int], old: Leaf | None, new: Leaf | None) -> Iterator[FieldChange]:
    for number, register in enumerate(REGISTERS):
        before, after = _raw(old, number), _raw(new, number)
        for field in sorted({**before, **after}, key=lambda each: (each.low, each.width, each.name)):
            values = before.get(field), after.get(field)
            if values[0] != values[1] and any(values):
                yield FieldChange(*key, register, field, *values)


def _raw(some: Leaf | None, number: int) -> dict[Field, int]:
    return {value.field: value.raw for value in some.words[number]} if some else {}
