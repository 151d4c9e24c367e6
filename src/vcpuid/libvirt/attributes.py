"""Attributes of XML as libvirt reads them, and its words for those that it does not take (src/util/virxml.c)."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence

from vcpuid.libvirt import refusal

SWITCH = ("on", "off")
"""virTristateSwitch."""
BOOL = ("yes", "no")
"""virTristateBool."""

_UNSIGNED = re.compile(r"[ \t\n\v\f\r]*\+?[0-9]+")
_SIGNED = re.compile(r"[ \t\n\v\f\r]*[+-]?[0-9]+")
_WITH_BASE = re.compile(r"[ \t\n\v\f\r]*\+?(0[xX][0-9a-fA-F]+|[0-9]+)")
_DIGITS = 20
"""More than any number of 64 bits has."""


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
    if not _SIGNED.fullmatch(text) or len(text.strip()) > _DIGITS or not -(1 << 31) <= int(text) < 1 << 31:
        raise _invalid(element, name, text, "Expected integer value")
    if int(text) < 0:
        raise _invalid(element, name, text, "Expected non-negative value")
    return int(text)


def content(parent: ET.Element, tag: str) -> str | None:
    """Return the text of the first child of a name; None where that is empty (virXPathString)."""
    child = parent.find(tag)
    return None if child is None else "".join(child.itertext()) or None


def _value(text: str, base: int) -> int | None:
    if len(text.strip()) > _DIGITS:
        return None
    if base == 10:
        return int(text) if _UNSIGNED.fullmatch(text) else None
    found = _WITH_BASE.fullmatch(text)
    if found is None:
        return None
    digits = found[1]
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16)
    octal = digits[0] == "0" and len(digits) > 1
    return None if octal and set(digits) & {"8", "9"} else int(digits, 8 if octal else 10)


def _missing(element: ET.Element, name: str) -> Exception:
    return refusal.malformed(f"Missing required attribute '{name}' in element '{element.tag}'", refusal.XML)


def _invalid(element: ET.Element, name: str, text: str, expected: str) -> Exception:
    return refusal.malformed(f"Invalid value for attribute '{name}' in element '{element.tag}': '{text}'. {expected}", refusal.XML)
