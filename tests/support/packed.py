"""A packed document as whoever reads one makes it whole again: the way that `vcpuid.explore.pack` describes."""

from __future__ import annotations

from typing import Any


def unpack(packed: dict[str, list[Any]]) -> Any:
    """Give the document that was packed."""
    values: list[Any] = []
    for here, value in enumerate(packed["values"]):
        if not isinstance(value, list):
            values.append(value)
            continue
        shape, *places = value
        parts = [values[here + place if place < 0 else place] for place in places]
        values.append(dict(zip(packed["shapes"][shape - 1], parts, strict=True)) if shape else parts)
    return values[-1]
