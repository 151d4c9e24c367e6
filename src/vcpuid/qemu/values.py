"""How QEMU reads booleans, numbers and texts, wherever they stand (QEMU, qapi/qapi-util.c, qapi_bool_parse; util/cutils.c)."""

from __future__ import annotations

import re
from math import floor

from vcpuid.errors import InputError, QemuError
from vcpuid.numbers import U64, digits
from vcpuid.qemu import messages

BOOLEANS = {"on": True, "yes": True, "true": True, "y": True, "off": False, "no": False, "false": False, "n": False}
"""Spellings of a boolean."""

ON_OFF_AUTO = ("on", "off", "auto")
"""Spellings of an OnOffAuto."""


def boolean(name: str, text: str) -> bool:
    """Read a boolean; raises QemuError."""
    if text not in BOOLEANS:
        raise QemuError(messages.EXPECTS(name=name, what="'on' or 'off'"))
    return BOOLEANS[text]


def on_off_auto(name: str, text: str, release: tuple[int, int]) -> str:
    """Read an OnOffAuto; raises QemuError in a release's words."""
    if text not in ON_OFF_AUTO:
        raise QemuError(not_accepted(name, text, release))
    return text


def not_accepted(name: str, text: str, release: tuple[int, int]) -> str:
    """Say that a value is none of those that there are (visit_type_enum): QEMU names the parameter since 6.2."""
    return messages.NOT_ACCEPTED(name=name, value=text) if release >= (6, 2) else messages.VALUE_INVALID(value=text)


_INTEGER = re.compile(r"\s*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(0[0-7]*)|([1-9][0-9]*))", re.ASCII)
_SIZE = re.compile(r"\s*\+?(?:0[xX]([0-9a-fA-F]+)|([0-9]*))(\.[0-9]*)?([BKMGTPE]?)", re.ASCII | re.IGNORECASE)
_SUFFIXES = "BKMGTPE"
TOO_LARGE = U64 + 1
"""A size that no 64 bits hold."""


def is_integer(text: str) -> bool:
    """Tell whether a text has the form of an integer, of whatever size."""
    return _INTEGER.fullmatch(text) is not None


def integer(text: str, signed: bool) -> int | None:
    """Read an integer as strtoll and strtoull do with base 0; None where it is none or does not fit 64 bits (qemu_strtoi64, _strtou64)."""
    match = _INTEGER.fullmatch(text)
    if match is None:
        return None
    hexadecimal, octal, decimal = match.groups()[1:]
    number = digits(hexadecimal, 16, U64) if hexadecimal else digits(octal, 8, U64) if octal else digits(decimal, 10, U64)
    if number is None:
        return None
    if match[1] == "-":
        number = -number
    if signed:
        return number if -1 << 63 <= number < 1 << 63 else None
    return number & U64


def size(text: str, unit: int, release: tuple[int, int]) -> int | None:
    """Read a number with a suffix of which each stands for `unit` of the one before, such as 2.5G; None where it is none.

    qemu_strtosz (unit 1024) and qemu_strtosz_metric (1000): what is over 64 bits is TOO_LARGE. Since 8.1 a fraction needs nothing before
    it, and a hexadecimal number takes no suffix, of which earlier releases only warn.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    newer = release >= (8, 1)
    hexadecimal, whole, fraction, suffix = match.groups()
    if (not whole and (not newer or fraction in (None, "."))) if hexadecimal is None else (fraction or (newer and suffix)):
        return None
    number = digits(whole or "0", 10, U64) if hexadecimal is None else digits(hexadecimal, 16, U64)
    if number is None:
        return None if fraction or suffix else TOO_LARGE
    scale: int = unit ** _SUFFIXES.index(suffix.upper() or "B")
    part = floor(float(f"0{fraction}") * 2.0**64) if fraction else 0
    if not part and fraction and fraction.strip(".0"):  # too small for a double
        if not newer:
            return None
        part = 1
    if part >> 64:
        number, part = number + 1, 0
    if part and scale == 1:
        return None
    total = number * scale + ((part * scale + (1 << 63)) >> 64)  # half is rounded upward
    return min(total, TOO_LARGE)


def characters(text: str) -> str:
    """Give the bytes of a text that QEMU puts into registers, each as the character of its number, as CPUID's texts are here.

    QEMU counts bytes, of which a character outside ASCII has several; a command line may hold some that are no text (os.fsdecode). Raises
    InputError for half of a character.
    """
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:
        raise InputError(f"{text[:40]!r} has half of a character") from None
