"""A table that is another one but for some entries: hundreds of them take little more room than the one that they share."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from struct import pack

from vcpuid.cpuid.registers import CpuidTable, Entry, Registers, packed
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, CpuidWord

_COUNT, _PACKED = 4, 28
"""Bytes of a packed table: of its number of entries, and of each."""


def changed(table: CpuidTable, entries: Iterable[Entry]) -> CpuidTable:
    """Return the table of a processor that answers these besides, or instead: in the order of leaves and sub-leaves."""
    over = {entry[:2]: entry for entry in entries}
    if _is_plain(table) and all(function in INDEXED_FUNCTIONS for function, index in over if index):
        return _Changed(table, over)
    return CpuidTable(_in_order(table, over))


@lru_cache(maxsize=8)
def _is_plain(table: CpuidTable) -> bool:
    """Whether each entry is at its own place, and no other stands for one that is not there (`CpuidTable.get`)."""
    return table.by_key() == {entry[:2]: entry for entry in table} and len(table.by_key()) == len(table)


@lru_cache(maxsize=8)
def _packed(table: CpuidTable) -> tuple[list[tuple[int, int]], bytes] | None:
    """Give leaf and sub-leaf of each entry, and the table packed; None where they do not stand in that order."""
    keys = [(entry.function, entry.index) for entry in table]
    return (keys, table.packed()) if all(first < second for first, second in pairwise(keys)) else None


def _in_order(entries: Iterable[Entry], over: Mapping[tuple[int, int], Entry]) -> list[Entry]:
    return sorted((*(entry for entry in entries if entry[:2] not in over), *over.values()), key=itemgetter(0, 1))


class _Changed(CpuidTable):
    """Looks an entry up among its own, then in the table that it shares; only what asks for all of it puts it together."""

    __slots__ = ("_base", "_over")

    def __init__(self, base: CpuidTable, over: dict[tuple[int, int], Entry]) -> None:
        self._base, self._over = base, over

    def __getattr__(self, name: str) -> object:
        if name == "_entries":
            self._entries = tuple(_in_order(self._base, self._over))
            return self._entries
        return super().__getattr__(name)

    def __bool__(self) -> bool:
        return bool(self._over or self._base)

    def get(self, function: int, index: int = 0) -> Entry | None:
        return self._over.get((function, index)) or self._base.get(function, index)

    def leaf(self, function: int) -> tuple[Entry, ...]:
        over = {key: entry for key, entry in self._over.items() if key[0] == function}
        held = self._base.leaf(function)  # in the order of the table that it is of, which may be another
        return tuple(_in_order(held, over) if over else sorted(held, key=itemgetter(0, 1)))

    def registers(self, function: int, index: int = 0) -> Registers:
        entry = self._over.get((function, index))
        return self._base.registers(function, index) if entry is None else entry.registers

    def word(self, word: CpuidWord) -> int:
        entry = self._over.get((word.function, word.index))
        value: int = self._base.word(word) if entry is None else getattr(entry, word.register)
        return value

    def packed(self) -> bytes:
        if (shared := _packed(self._base)) is None:
            return packed(self._entries)
        (keys, told), parts, done = shared, [b""], 0
        number = len(keys) + len(self._over)
        for key in sorted(self._over):
            at = bisect_left(keys, key)
            instead = at < len(keys) and keys[at] == key
            parts += (told[_COUNT + done * _PACKED : _COUNT + at * _PACKED], pack("<7I", *self._over[key]))
            number, done = number - instead, at + instead
        return b"".join((pack("<I", number), *parts, told[_COUNT + done * _PACKED :]))
