"""A table that shows a feature which it does not show, or the other way round, as software reads it."""

from __future__ import annotations

from vcpuid.cpuid.changed import changed
from vcpuid.cpuid.registers import SIGNIFICANT_INDEX, CpuidTable, Entry
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, Bit, CpuidWord


def showing(table: CpuidTable, bit: Bit) -> CpuidTable:
    """Set a bit of CPUID; a leaf that the table lacks is added, and the limits in leaves 0, 7 and 0x80000000 raised so that it counts."""
    word = bit.word
    assert isinstance(word, CpuidWord)
    table = _at_least(table, CpuidWord(word.function & 0x80000000, 0, "eax"), word.function)
    if word.function == 7:
        table = _at_least(table, CpuidWord(7, 0, "eax"), word.index)
    return _with(table, word, table.word(word) | bit.mask)


def hiding(table: CpuidTable, bit: Bit) -> CpuidTable:
    """Clear a bit of CPUID, of a leaf that the table has."""
    assert isinstance(bit.word, CpuidWord)
    held = table.word(bit.word)
    return _with(table, bit.word, held & ~bit.mask) if held & bit.mask else table


def _at_least(table: CpuidTable, word: CpuidWord, limit: int) -> CpuidTable:
    return _with(table, word, max(table.word(word), limit))


def _with(table: CpuidTable, word: CpuidWord, value: int) -> CpuidTable:
    """Put a value into a register, of a leaf that the table may lack."""
    flags = SIGNIFICANT_INDEX if word.function in INDEXED_FUNCTIONS else 0
    entry = table.get(word.function, word.index) or Entry(word.function, word.index, flags, 0, 0, 0, 0)
    return changed(table, [entry._replace(**{word.register: value})])
