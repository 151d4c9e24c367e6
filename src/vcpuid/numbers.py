"""Numbers that somebody else wrote, read within the bound of what they are for; every text that becomes an integer does so here.

`int` takes signs, blanks, underscores and the digits of every script (`٣`, `०`), and `str.isdecimal` with it; of more than 4,300 digits it
raises what nobody catches. Here digits are those of ASCII, and a number that is larger than its field is none. tests/test_numbers.py looks
for what goes around this module.
"""

from __future__ import annotations

from functools import cache

U32, U64 = (1 << 32) - 1, (1 << 64) - 1
"""The largest numbers of 32 and of 64 bits."""

_DIGITS = {base: frozenset("0123456789abcdefABCDEF"[: base if base <= 10 else None]) for base in (2, 8, 10, 16)}


def digits(text: str, base: int, largest: int) -> int | None:
    """Read digits of a base (2, 8, 10 or 16) and nothing else; None where they are none, or more than `largest`."""
    if not text or not _DIGITS[base].issuperset(text):
        return None
    if len(text) > _places(base, largest) and len(text := text.lstrip("0")) > _places(base, largest):
        return None
    number = int(text or "0", base)
    return number if number <= largest else None


def decimal(text: str, largest: int = U32) -> int | None:
    """Read a decimal number; None where it is none, or more than `largest`."""
    return digits(text, 10, largest)


def hexadecimal(text: str, largest: int = U32) -> int | None:
    """Read a hexadecimal number, with 0x in front or without; None where it is none, or more than `largest`."""
    return digits(text[2:] if text[:2] in ("0x", "0X") else text, 16, largest)


def number(text: str, largest: int = U32) -> int | None:
    """Read a number as people write it: decimal without zeros in front, which mean octal to some and not to others, or after 0x."""
    if text[:2] in ("0x", "0X"):
        return digits(text[2:], 16, largest)
    return None if text[:1] == "0" and text != "0" else digits(text, 10, largest)


@cache
def _places(base: int, largest: int) -> int:
    """Count the digits of the largest number."""
    count = 1
    while largest := largest // base:
        count += 1
    return count
