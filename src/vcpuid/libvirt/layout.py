"""XML laid out as libvirt prints it: two blanks a level, single quotes, a text on its element's line (virXMLFormatElement, src/util)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

_ENTITIES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&apos;"))


def lines(element: ET.Element, level: int = 0) -> Iterator[str]:
    """Give an element's lines, its own at that level."""
    margin = "  " * level
    head = margin + "<" + element.tag + "".join(f" {name}='{_escaped(value)}'" for name, value in element.items())
    text = (element.text or "").strip()
    if len(element):
        yield f"{head}>"
        for child in element:
            yield from lines(child, level + 1)
        yield f"{margin}</{element.tag}>"
    elif text:
        yield f"{head}>{_escaped(text)}</{element.tag}>"
    else:
        yield f"{head}/>"


def laid_out(xml: str, level: int = 0) -> list[str]:
    """Give the lines of XML that is on one, as answers have it."""
    return list(lines(ET.fromstring(xml), level))


def _escaped(text: str) -> str:
    for character, entity in _ENTITIES:
        text = text.replace(character, entity)
    return text
