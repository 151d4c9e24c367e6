"""A document in which much stands many times, with each thing once: what `explain` says of 800 features has some thousand texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NEAR = 16
"""Places nearer than this are counted back: so things that are built alike are written alike, and are compressed to a half."""


def pack(document: object) -> dict[str, list[Any]]:
    """Write a document, of what JSON has, with each value once.

    `values` are all values there are, the document's parts before what they are parts of, and itself last. A list stands there as 0 and
    the places of its items in `values`; an object as the number of its keys in `shapes`, counted from 1, and the places of its values;
    anything else as it is. A place is negative where it is counted back from where it is named. Whoever goes through the values once, in
    order, has the document again.
    """
    packer = _Packer()
    packer.place(document)
    return {"shapes": [list(keys) for keys in packer.shapes], "values": packer.values}


class _Packer:
    def __init__(self) -> None:
        self.shapes: dict[tuple[str, ...], int] = {}
        self.values: list[Any] = []
        self._places: dict[object, int] = {}

    def place(self, value: object) -> int:
        """Return the place of a value, which is given one where it has none."""
        if isinstance(value, Mapping):
            shape = self.shapes.setdefault(tuple(value), len(self.shapes) + 1)
            parts = [*map(self.place, value.values())]
        elif isinstance(value, list | tuple):
            shape, parts = 0, [*map(self.place, value)]
        else:
            # 0.0 equals -0.0, as 1 equals True
            return self._put((type(value), repr(value) if isinstance(value, float) else value), value)
        here = len(self.values)
        packed = [shape, *(part - here if here - part < _NEAR else part for part in parts)]
        return self._put((list, shape, *parts), packed)

    def _put(self, key: object, value: object) -> int:
        place = self._places.setdefault(key, len(self.values))
        if place == len(self.values):
            self.values.append(value)
        return place
