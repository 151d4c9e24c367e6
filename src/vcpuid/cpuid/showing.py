"""A table that shows a feature which it does not show, or the other way round, as software reads it."""

from __future__ import annotations

from vcpuid.cpuid.registers import SIGNIFICANT_INDEX, CpuidTable, Entry
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, Bit, CpuidWord


def showing(table: CpuidTable, bit: Bit) -> CpuidTable:
    """Set a bit of CPUID; a leaf that the table lacks is added, and the limits in leaves 0, 7 and 0x80000000 raised so that it counts."""
    word = bit.word
    assert isinstance(word, CpuidWord)
    table = _at_least(table, CpuidWord(word.function & 0x80000000, 0, "eax"), word.function)
    if word.function == 7:
        table = _at_least(table, CpuidWord(7, 0, "eax"), word.index)
    table = _with_entry(table, word)
    return _replace(table, word, table.word(word) | bit.mask)


def hiding(table: CpuidTable, bit: Bit) -> CpuidTable:
    """Clear a bit of CPUID."""
    assert isinstance(bit.word, CpuidWord)
    return _replace(table, bit.word, table.word(bit.word) & ~bit.mask)


def _at_least(table: CpuidTable, word: CpuidWord, limit: int) -> CpuidTable:
    table = _with_entry(table, word)
    return _replace(table, word, max(table.word(word), limit))


def _with_entry(table: CpuidTable, word: CpuidWord) -> CpuidTable:
    if table.get(word.function, word.index) is not None:
        return table
    flags = SIGNIFICANT_INDEX if word.function in INDEXED_FUNCTIONS else 0
    return CpuidTable((*table, Entry(word.function, word.index, flags, 0, 0, 0, 0)))


def _replace(table: CpuidTable, word: CpuidWord, value: int) -> CpuidTable:
    wanted = table.get(word.function, word.index)
    return CpuidTable(entry._replace(**{word.register: value}) if entry is wanted else entry for entry in table)
