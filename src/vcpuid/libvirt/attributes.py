"""Attributes of XML as libvirt reads them, and its words for those that it does not take (src/util/virxml.c)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from vcpuid.libvirt import refusal
from vcpuid.numbers import decimal, digits

SWITCH = ("on", "off")
"""virTristateSwitch."""
BOOL = ("yes", "no")
"""virTristateBool."""

_UNSIGNED = re.compile(r"[ \t\n\v\f\r]*\+?[0-9]+")
_SIGNED = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")
_WITH_BASE = re.compile(r"[ \t\n\v\f\r]*\+?(0[xX][0-9a-fA-F]+|[0-9]+)")
_DIGITS = 20
"""More than any number of 64 bits has."""
_LARGEST = (1 << 4 * _DIGITS) - 1
"""The largest number of as many digits."""


def choice(element: ET.Element, name: str, values: Sequence[str], *, required: bool = False) -> str | None:
    """Return an attribute that is one of some words (virXMLPropEnum); None where it is missing. Raises LibvirtError."""
    text = element.get(name)
    if text is None:
        if required:
            raise _missing(element, name)
        return None
    if text not in values:
        raise refusal.malformed(f"Invalid value for attribute '{name}' in element '{element.tag}': '{text}'.", refusal.XML)
    return text


def unsigned(element: ET.Element, name: str, *, required: bool = False, zero: bool = True, bits: int = 32, base: int = 10) -> int | None:
    """Return a number without sign (virXMLPropUInt); None where it is missing. Of base 0, it may be hexadecimal or octal as in C.

    Raises LibvirtError.
    """
    text = element.get(name)
    if text is None:
        if required:
            raise _missing(element, name)
        return None
    value = _value(text, base)
    if value is None or value >> bits:
        raise _invalid(element, name, text, "Expected non-negative integer value")
    if not zero and value == 0:
        raise refusal.malformed(f"Invalid value for attribute '{name}' in element '{element.tag}': Zero is not permitted", refusal.XML)
    return value


def natural(element: ET.Element, name: str) -> int | None:
    """Return a number that must not be negative (virXMLPropInt); None where it is missing. Raises LibvirtError."""
    text = element.get(name)
    if text is None:
        return None
    bare, negative = text.strip().lstrip("+-"), "-" in text
    number = decimal(bare, (1 << 31) - (not negative)) if _SIGNED.fullmatch(text) and len(text.strip()) <= _DIGITS else None
    if number is None:
        raise _invalid(element, name, text, "Expected integer value")
    if negative and number:
        raise _invalid(element, name, text, "Expected non-negative value")
    return number


def content(parent: ET.Element, tag: str) -> str | None:
    """Return the text of the first child of a name; None where that is empty (virXPathString)."""
    child = parent.find(tag)
    return None if child is None else "".join(child.itertext()) or None


def _value(text: str, base: int) -> int | None:
    if len(text.strip()) > _DIGITS:
        return None
    if base == 10:
        return decimal(text.strip().lstrip("+"), _LARGEST) if _UNSIGNED.fullmatch(text) else None
    found = _WITH_BASE.fullmatch(text)
    if found is None:
        return None
    number = found[1]
    if number[:2] in ("0x", "0X"):
        return digits(number[2:], 16, _LARGEST)
    return digits(number, 8 if number[0] == "0" and len(number) > 1 else 10, _LARGEST)


def _missing(element: ET.Element, name: str) -> Exception:
    return refusal.malformed(f"Missing required attribute '{name}' in element '{element.tag}'", refusal.XML)


def _invalid(element: ET.Element, name: str, text: str, expected: str) -> Exception:
    return refusal.malformed(f"Invalid value for attribute '{name}' in element '{element.tag}': '{text}'. {expected}", refusal.XML)
