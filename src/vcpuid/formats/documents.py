"""XML and JSON that others wrote: parsed within bounded memory, with one error for what is cut or means to do harm."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from vcpuid import numbers
from vcpuid.errors import InputError

LIMIT = 2 << 20
"""Characters of a document; a tree takes up to a hundred times its text, and no CPU takes more than some hundreds of kilobytes.

Of JSON, texts and numbers of three digits do not count, which take little more memory than characters: the state of a VM is one long text,
or the list of its bytes, for each of hundreds of vCPUs.
"""

_LIGHT = re.compile(r'"(?:[^"\\]++|\\.)*+"?|(?:[0-9]{1,3},)++', re.DOTALL)

is_object = re.compile(r"\s*\{").match
"""Whether a text may be a JSON object, whatever blanks stand before it."""


def parse_xml(text: str, source: str) -> ET.Element:
    """Return the root of an XML document.

    Raises InputError, with the line, where it is none or is cut. Document types are refused: they are where entities come from, which
    expand to any size, or to other files, and no form of CPUID has one.
    """
    _bound(len(text), source)
    if (start := text.find("<!DOCTYPE")) >= 0:
        raise InputError("XML with a document type is not read", source=source, line=text.count("\n", 0, start) + 1)
    try:
        return ET.fromstring(text)
    except ET.ParseError as error:
        raise InputError(f"damaged or cut XML: {error.msg}", source=source, line=error.position[0]) from None


def line_of(element: ET.Element, root: ET.Element, text: str) -> int:
    """Return the line on which an element of a text's tree begins, by a second look: the tree itself does not know."""
    lines: list[int] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda *_: lines.append(parser.CurrentLineNumber)
    parser.Parse(text, True)
    parser.StartElementHandler = None  # which holds the parser that holds it: a cycle, with all lines in it
    return next(line for line, other in zip(lines, root.iter(), strict=True) if other is element)


_next_value = re.compile(r"\s*(?=\S)").match


def parse_json(
    text: str,
    source: str,
    begin: Callable[[str, int], re.Match[str] | None] = _next_value,
    pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
) -> list[Any]:
    """Return the JSON values of a text; raises InputError, with the line, where it is cut or no JSON.

    `begin` takes the text and where the value before ends, and finds what stands before the next one: else they are one behind the other.
    `pairs` makes an object's value of its keys and values, if it is to be another than a dict.
    """
    _bound(_weight(text) if len(text) > LIMIT else 0, source)
    decoder, values, place = json.JSONDecoder(object_pairs_hook=pairs), [], 0
    try:
        while found := begin(text, place):
            value, place = decoder.raw_decode(text, found.end())
            values.append(value)
    except json.JSONDecodeError as error:
        raise InputError(f"damaged or cut JSON: {error.msg}", source=source, line=error.lineno) from None
    except (RecursionError, ValueError):  # brackets in brackets in brackets; a number of more digits than Python reads
        raise InputError("JSON that is nested too deep, or has an endless number", source=source) from None
    return values


def number(text: object, what: str, source: str | None = None, bits: int = 32) -> int:
    """Read a number, decimal or with 0x in front; raises InputError where it is missing, or none of at most that many bits."""
    if text is None:
        raise InputError(f"{what} is missing", source=source)
    value = numbers.number(text, (1 << bits) - 1) if isinstance(text, str) else None
    if value is None:
        raise InputError(f"{what} {str(text)[:40]!r} is not a number of {bits} bits", source=source)
    return value


def _weight(text: str) -> int:
    """Count the characters of JSON, each text and each row of small numbers as two."""
    return len(text) - sum(found.end() - found.start() - 2 for found in _LIGHT.finditer(text))


def _bound(characters: int, source: str) -> None:
    if characters > LIMIT:
        raise InputError(f"more than {LIMIT >> 20} MiB: no CPU's description is that large", source=source)
