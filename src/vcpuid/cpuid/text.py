"""Text in registers: four characters each, the lowest byte first."""

from __future__ import annotations

from struct import pack, unpack


def characters(*registers: int) -> str:
    """Spell 32-bit registers as the characters in them, zero characters included."""
    return pack(f"<{len(registers)}I", *registers).decode("latin-1")


def up_to_zero(*registers: int) -> str:
    """Spell 32-bit registers as a string of C: the characters before the first zero character."""
    return characters(*registers).partition("\0")[0]


def registers_of(text: str) -> tuple[int, ...]:
    """Put characters into as few 32-bit registers as hold them; zero characters fill up the last one.

    Raises UnicodeEncodeError for a character that takes more than a byte.
    """
    count = (len(text) + 3) // 4
    return unpack(f"<{count}I", text.encode("latin-1").ljust(4 * count, b"\0"))
