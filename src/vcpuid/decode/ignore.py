"""What a comparison leaves out: leaves, registers, fields and features by name, turned into bits of registers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

from vcpuid.cpuid.feature_table import key_of
from vcpuid.cpuid.names import find_all
from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.words import REGISTERS, CpuidWord, Register, Word, parse_leaf
from vcpuid.decode.layout import canonical, layout, names
from vcpuid.decode.parties import parties
from vcpuid.errors import InputError
from vcpuid.numbers import decimal

PER_CPU: frozenset[tuple[int, str]] = frozenset(
    {
        (0x1, "local_apic_id"),
        *((0x3, f"psn_{part}") for part in ("low", "middle", "0", "1", "2", "3")),
        (0xB, "x2apic_id"),
        (0x1F, "x2apic_id"),
        (0x80000026, "x2apic_id"),
        (0x8000001E, "ext_apic_id"),
        (0x8000001E, "core_id"),
        (0x8000001E, "node_id"),
        (0x6, "this_lcpu_hwfdbk_idx"),
        (0x40000004, "xen_vcpu_id"),
        (0x80860007, "cpu_cur_mhz"),
        (0x80860007, "cpu_cur_voltage"),
        (0x80860007, "cpu_cur_perf_pctg"),
        (0x80860007, "cpu_cur_gate_delay"),
        (0xC0000002, "cpu_cur_temperature"),
        (0xC0000004, "thermal_monitor_temperature"),
        *(
            (leaf, name)
            for leaf in (0xC0000002, 0xC0000004)
            for name in (
                "cpu_cur_voltage", "cpu_cur_multiplier", "multiplier_transition", "voltage_transition", "tm2_transition",
                "tm2_voltage_transition", "perf_ctl_transition", "perf_ctl_voltage_transition",
            )
        ),
    }
)  # fmt: skip
"""Leaf and name of the fields that differ from one CPU to the next of the same machine, or on one CPU from one moment to the next."""


@lru_cache(1 << 10)  # leaves are as a dump numbers them
def per_cpu(function: int, index: int, who: str) -> tuple[int, int, int, int]:
    """Return the bits of a leaf's four registers that hold such fields, as `who` (see `Parties.of`) means them."""
    eax, ebx, ecx, edx = (
        sum(field.mask for field in word.fields if (canonical(function), field.name) in PER_CPU) for word in layout(function, index, who)
    )
    return eax, ebx, ecx, edx


CPU, NONE = "cpu", "none"
"""The words for those fields, and for nothing at all."""

_PLACE = re.compile(r"(.+?)(?:\.(e[abcd]x)(?:\.([0-9]{1,2})(?::([0-9]{1,2}))?)?)?", re.IGNORECASE)
"""A leaf or sub-leaf, a register of it, and the number of a bit there or of the first and the last."""

_ALL = -1


_Place = tuple[int, int | None, Register | None]
"""A leaf, a sub-leaf or, with all three, a register."""


class Ignored:
    """The bits that do not count when two tables are compared.

    `texts` are any of `cpu` (the fields of `PER_CPU`), `none`, the name of a field or a feature, and a place: `b`, `1.0`, `1.0.ebx`,
    `1.0.ebx.5` or `1.0.ebx.31:24`. A name is taken for a leaf's number only where nothing is called so. `tables` are what is compared:
    they tell where a field is, and one that they have not is nothing to leave out. Raises InputError for what is none of these.
    """

    def __init__(self, texts: Iterable[str], tables: Sequence[CpuidTable]) -> None:
        self._masks: dict[_Place | Word, int] = {}
        for text in texts:
            for place, mask in _bits(text, tables):
                self._masks[place] = self._masks.get(place, 0) | mask

    def counts(self, word: Word, mask: int) -> bool:
        """Whether any of these bits of a word counts."""
        places = [(word.function, None, None), (word.function, word.index, None), word] if isinstance(word, CpuidWord) else [word]
        for place in places:
            mask &= ~self._masks.get(place, 0)
        return bool(mask)


def _bits(text: str, tables: Sequence[CpuidTable]) -> Sequence[tuple[_Place | Word, int]]:
    """Give what a text means: words, each with the mask of its bits, or a leaf or sub-leaf whole."""
    if text == NONE:
        return ()
    if text == CPU:
        return list(_per_cpu(tables))
    key = key_of(text)
    if named := [*_fields(lambda _, name: key_of(name) == key, tables), *_feature(text)]:
        return named
    if any(key_of(name) == key for name in names()):
        return ()
    return (_place(text),)


def _per_cpu(tables: Sequence[CpuidTable]) -> Iterator[tuple[CpuidWord, int]]:
    for table in tables:
        whose = parties(table)
        for entry in table:
            masks = per_cpu(entry.function, entry.index, whose.of(entry.function))
            words = (CpuidWord(entry.function, entry.index, register) for register in REGISTERS)
            yield from ((word, mask) for word, mask in zip(words, masks, strict=True) if mask)


def _fields(wanted: Callable[[int, str], bool], tables: Sequence[CpuidTable]) -> Iterator[tuple[CpuidWord, int]]:
    """Find fields by leaf and name in the leaves that the tables have."""
    for table in tables:
        whose = parties(table)
        for entry in table:
            for word in layout(entry.function, entry.index, whose.of(entry.function)):
                for field in word.fields:
                    if wanted(entry.function, field.name):
                        yield CpuidWord(entry.function, entry.index, word.register), field.mask


def _feature(text: str) -> Iterator[tuple[Word, int]]:
    """Find the bits of the features that are called so."""
    try:
        found = find_all(text)
    except InputError:
        return
    yield from ((feature.bit.word, feature.bit.mask) for feature in found if feature.bit is not None)


def _place(text: str) -> tuple[_Place, int]:
    nothing = InputError(f"{text[:80]!r} is no leaf, register, field or feature of CPUID")
    found = _PLACE.fullmatch(text)
    if found is None:
        raise nothing
    try:
        function, index = parse_leaf(found[1])
    except InputError:
        raise nothing from None
    if found[2] is None:
        return (function, index, None), _ALL
    if index is None:
        raise nothing
    register = next(register for register in REGISTERS if register == found[2].lower())
    high = 31 if found[3] is None else decimal(found[3], 31)
    low = 0 if found[3] is None else high if found[4] is None else decimal(found[4], 31)
    if high is None or low is None or low > high:
        raise InputError(f"{text!r} is no place in a register: bits go from 31 down to 0")
    return CpuidWord(function, index, register), (2 << high) - (1 << low)
