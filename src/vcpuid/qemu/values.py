"""How QEMU reads booleans and numbers, wherever they stand (QEMU, qapi/qapi-util.c, qapi_bool_parse; util/cutils.c, qemu_strtou64)."""

from __future__ import annotations

import re

from vcpuid.errors import QemuError
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


def on_off_auto(name: str, text: str) -> str:
    """Read an OnOffAuto; raises QemuError."""
    if text not in ON_OFF_AUTO:
        raise QemuError(messages.NOT_ACCEPTED(name=name, value=text))
    return text


_DIGITS = 64
"""No number of 64 bits has more digits, in any base."""


def integer(text: str, signed: bool) -> int | None:
    """Read an integer as strtoll and strtoull do with base 0; None where it is none or does not fit 64 bits."""
    match = re.fullmatch(r"\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", text, re.ASCII)
    if match is None:
        return None
    digits = match[2]
    if len(digits.lstrip("0")) > _DIGITS:
        return None
    number = int(digits, 8 if re.fullmatch(r"0[0-7]+", digits) else 0)
    if match[1] == "-":
        number = -number
    if signed:
        return number if -1 << 63 <= number < 1 << 63 else None
    return number & (1 << 64) - 1 if abs(number) < 1 << 64 else None
