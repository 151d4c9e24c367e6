"""Changes to documents that keep them documents: JSON and XML, node by node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any
from xml.etree import ElementTree

JUNK: list[Any] = [
    None, [], {}, "", -1, 0, 1, 2**31, 2**32 - 1, 2**32, 2**64, 10**30, 1.5, 1e308, float("inf"), float("nan"), True, False, "x", "0x0",
    "ffffffff", "0b" + "1" * 32, "0b" + "x" * 33, "²", "\ud800", "\x1b[31m", "\n", "a" * 5000, [[]], [{}], {"a": 1}, {"": {}}, [1, 2, 3],
    ["a"], "eax", "0x100000000", "-1", " 1", "１", "1_0", "9" * 4400, "on", "off", [0] * 300, "\u202e",
]  # fmt: skip
"""Values that no field expects, or only some."""

_TAGS = ("cpu", "cpudata", "cpuid", "msr", "feature", "model", "mode", "arch", "os", "type", "x")
_ATTRIBUTES = ("name", "policy", "arch", "eax", "ecx_in", "index")


def change_json(random: Random, data: bytes) -> bytes | None:
    """Replace, drop, copy or add values of a JSON document; None where the text is none."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(document))
        if not places:
            break
        container, key = random.choice(places)
        kind = random.randrange(6)
        if kind <= 2:
            container[key] = _junk(random)
        elif kind == 3:
            del container[key]
        elif kind == 4:
            other, its_key = random.choice(places)
            container[key] = json.loads(json.dumps(other[its_key]))
        elif isinstance(container, dict):
            container[str(_junk(random))] = container[key]
        else:
            container.insert(key, _junk(random))
    return json.dumps(document, ensure_ascii=random.random() < 0.7).encode("utf-8", "surrogatepass")


def _junk(random: Random) -> Any:
    """A value of its own: the document may be changed once more."""
    return json.loads(json.dumps(random.choice(JUNK)))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Give every place of a document as its container and key."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


def change_xml(random: Random, data: bytes) -> bytes | None:
    """Change names, attributes, texts and the order of an XML document; None where the text is none."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError):
        return None
    for _ in range(random.choice((1, 1, 2, 4))):
        _change_element(random, root)
    return ElementTree.tostring(root, encoding="unicode").encode("utf-8", "surrogatepass")


def _change_element(random: Random, root: ElementTree.Element) -> None:
    elements = list(root.iter())
    element, kind = random.choice(elements), random.randrange(7)
    if kind <= 1 and element.attrib:
        name = random.choice(list(element.attrib))
        if kind:
            del element.attrib[name]
        else:
            element.attrib[name] = str(random.choice(JUNK))
    elif kind == 2:
        element.tag = random.choice(_TAGS)
    elif kind == 3:
        element.text = str(random.choice(JUNK))
    elif kind == 4:
        other = random.choice(elements)
        if element not in list(other.iter()):  # an element in itself would have no end
            element.append(other)
    elif kind == 5 and len(element):
        element.remove(random.choice(list(element)))
    else:
        element.set(random.choice(_ATTRIBUTES), str(random.choice(JUNK)))
