"""How registers are laid out: the fields of each, from the lowest bit to the highest, without gap or overlap.

A field comes from data/fields.json or, where it is one bit with a name of its own, from the table of features (`cpuid.names`). Where two
tell about the same bits, the order is: a row for the vendor or hypervisor in question, a row for all, a feature. What is left is reserved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import NamedTuple

from vcpuid import data
from vcpuid.cpuid.features import short_symbol
from vcpuid.cpuid.names import by_bit, by_word
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, REGISTERS, Bit, CpuidWord, Register
from vcpuid.decode.meaning import NO, YES, Meaning, Reading, meaning_of
from vcpuid.decode.parties import HYPERVISOR_LEAVES

RESERVED = "reserved"
FULL = (1 << 32) - 1
_WITH_SUBLEAVES = INDEXED_FUNCTIONS | {0x27, 0x28, 0x29}


class Field(NamedTuple):
    """Some bits of a register: `low` is the lowest bit's number, `width` how many there are.

    `meaning` makes sense of a value. A field called "reserved" has none, and what a manual does not tell is one.
    """

    name: str
    low: int
    width: int
    description: str = ""
    meaning: Meaning | None = None

    @property
    def mask(self) -> int:
        """The field's bits in the register."""
        return ((1 << self.width) - 1) << self.low

    @property
    def bits(self) -> str:
        """The bits as manuals write them, `7:4` or `31`."""
        return str(self.low) if self.width == 1 else f"{self.low + self.width - 1}:{self.low}"

    def read(self, raw: int) -> Reading:
        """Make sense of the field's bits: a number with its unit, a word, or yes and no."""
        if self.meaning is not None:
            return self.meaning(raw)
        if self.flag:
            return YES if raw else NO
        return Reading(raw, "", f"{raw:#x}" if self.name == RESERVED else "")

    @property
    def flag(self) -> bool:
        """Whether it says yes or no."""
        return self.width == 1 and self.name != RESERVED


class Word:
    """A register of a leaf: its place (`0x7.0.ebx`), its name and its fields, from the lowest bit to the highest.

    A word is equal to itself alone, so that what is remembered of it is quickly found.
    """

    __slots__ = ("_lines", "fields", "place", "register")

    def __init__(self, place: str, register: Register, fields: tuple[Field, ...]) -> None:
        self.place = place
        self.register = register
        self.fields = fields
        self._lines = [_line(f"{place}.{field.bits} {field.name} ", field) for field in fields]

    def spell(self, bits: int) -> str:
        """Write out the fields of a value of the register, a line each: `0x7.0.ebx.5 avx2 yes`."""
        return "".join(
            [
                (other if read is None else f"{other}{read(raw)}\n") if (raw := bits >> low & mask) else nothing
                for low, mask, nothing, other, read in self._lines
            ]
        )


_Line = tuple[int, int, str, str, Callable[[int], Reading] | None]


def _line(head: str, field: Field) -> _Line:
    """Prepare a field's line: the whole of it for 0, which most hold, and for a flag that is set; what begins it for another value."""
    mask = (1 << field.width) - 1
    if field.flag and field.meaning is None:
        return field.low, mask, f"{head}{NO}\n", f"{head}{YES}\n", None
    return field.low, mask, f"{head}{field.read(0)}\n", head, field.read


def canonical(function: int) -> int:
    """Return the leaf under which the tables have it: those of a hypervisor begin at 0x40000000, wherever its range is."""
    return 0x40000000 | function & 0xFF if function in HYPERVISOR_LEAVES else function


@lru_cache(maxsize=1024)
def layout(function: int, index: int, who: str) -> tuple[Word, Word, Word, Word]:
    """Lay out the four registers of a leaf, as `who` (a vendor or, in its range, a hypervisor) means them.

    The index does not count in a leaf without sub-leaves: QEMU 10.0 leaves an old one there.
    """
    known = index if function in _WITH_SUBLEAVES or function in HYPERVISOR_LEAVES else 0
    eax, ebx, ecx, edx = (
        Word(f"{function:#x}.{index:x}.{register}", register, _register(canonical(function), known, register, who))
        for register in REGISTERS
    )
    return eax, ebx, ecx, edx


def titles() -> dict[int, str]:
    """Say of every leaf that has fields what it is about; of one that several parties define, what the first of them says."""
    texts = {int(number, 16): text for number, text, *_ in reversed(data.load("fields")["titles"])}
    return dict(sorted(texts.items()))


@lru_cache(maxsize=1024)
def title(function: int, who: str) -> str:
    """Say what a leaf is about; empty where nobody knows."""
    leaf = f"{canonical(function):x}"
    found = {tuple(rest): text for number, text, *rest in data.load("fields")["titles"] if number == leaf}
    return found.get((who,)) or (found.get((), "") if leaf != "40000001" or who == "kvm" else "")


@cache
def names() -> frozenset[str]:
    """Give the names of the table's fields, and that of what is reserved."""
    return frozenset((RESERVED, *(name for _, _, name, *_ in data.load("fields")["rows"])))


class _Span(NamedTuple):
    first: int
    last: int
    field: Field
    who: tuple[str, ...]


@cache
def _rows() -> dict[tuple[int, str], list[_Span]]:
    """Return the table's rows by leaf and register; rows of some vendors come first there, as they do in the file."""
    rows: dict[tuple[int, str], list[_Span]] = {}
    for word, bits, name, description, *who in data.load("fields")["rows"]:
        leaf, span, register = word.split(".")
        first, _, last = span.partition("-")
        high, _, low = bits.partition(":")
        function, lowest = int(leaf, 16), int(low or high)
        field = Field(name, lowest, int(high) - lowest + 1, description)
        rows.setdefault((function, register), []).append(_Span(int(first, 16), int(last or first, 16), field, tuple(" ".join(who).split())))
    return rows


def _register(function: int, index: int, register: Register, who: str) -> tuple[Field, ...]:
    taken = 0
    fields: list[Field] = []
    for field in (*_told(function, index, register, who), *_features(function, index, register, who)):
        if not field.mask & taken:
            taken |= field.mask
            fields.append(_distinct(field, fields, function, index, register))
    return tuple(sorted((*fields, *_gaps(taken)), key=lambda field: field.low))


def _told(function: int, index: int, register: Register, who: str) -> Iterator[Field]:
    rows = [row for row in _rows().get((function, register), ()) if row.first <= index <= row.last and (not row.who or who in row.who)]
    yield from (row.field._replace(meaning=meaning_of(function, row.field.name, who)) for row in sorted(rows, key=lambda row: not row.who))


def _features(function: int, index: int, register: Register, who: str) -> Iterator[Field]:
    """Give the features of a register. KVM's leaf 1 and Hyper-V's others are in the table under the same range."""
    if function in HYPERVISOR_LEAVES and who != ("kvm" if function == 0x40000001 else "hyperv"):
        return
    for feature in by_word(CpuidWord(function, index, register)):
        if feature.bit is not None:
            yield Field(feature.name, feature.bit.position, 1, feature.description or "")


def _distinct(field: Field, others: list[Field], function: int, index: int, register: Register) -> Field:
    """Give two features of one name in a register (KVM's two clocks) names that differ."""
    if field.name == RESERVED or all(other.name != field.name for other in others):
        return field
    feature = by_bit(Bit(CpuidWord(function, index, register), field.low))
    other = (feature.manual or (feature.linux and short_symbol(feature.linux))) if feature else None
    return field._replace(name=other or f"{field.name}_{field.low}")


def _gaps(taken: int) -> Iterator[Field]:
    free = ~taken & FULL
    while free:
        low = (free & -free).bit_length() - 1
        width = 1
        while free >> low + width & 1:
            width += 1
        yield Field(RESERVED, low, width)
        free &= ~(((1 << width) - 1) << low)
