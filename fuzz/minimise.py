"""Makes a case small that fails: whatever can be left out of it, or be 0, is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Fails = Callable[[Any], bool]

_LETTERS = 20_000
"""A text is taken apart letter by letter up to this length; longer ones that have no lines stay as they are."""


def minimise(case: Any, fails: Fails, seconds: float) -> Any:
    """Return the smallest case found in so many seconds that still fails, at worst the one given, which is left unchanged."""
    end = time.monotonic() + seconds

    def still(smaller: Any) -> bool:
        return time.monotonic() < end and fails(smaller)

    while time.monotonic() < end:
        smaller = _shrink(case, still)
        if smaller == case:
            break
        case = smaller
    return case


def _shrink(value: Any, fails: Fails) -> Any:
    if isinstance(value, dict):
        return _mapping(value, fails)
    if isinstance(value, list):
        return _list(value, fails)
    if isinstance(value, str):
        return _text(value, fails)
    if isinstance(value, int) and not isinstance(value, bool):
        return next((number for number in (0, 1, value >> 16, value >> 8, value >> 1) if abs(number) < abs(value) and fails(number)), value)
    return value


def _mapping(value: dict[str, Any], fails: Fails) -> dict[str, Any]:
    for key in list(value):
        rest = {name: item for name, item in value.items() if name != key}
        if fails(rest):
            value = rest
    for key in list(value):
        value = {**value, key: _shrink(value[key], _within(value, key, fails))}
    return value


def _within(value: dict[str, Any], key: str, fails: Fails) -> Fails:
    return lambda item: fails({**value, key: item})


def _list(value: list[Any], fails: Fails) -> list[Any]:
    value = _sequence(value, fails)
    for place in range(len(value)):
        value = [*value[:place], _shrink(value[place], _at(value, place, fails)), *value[place + 1 :]]
    return value


def _at(value: list[Any], place: int, fails: Fails) -> Fails:
    return lambda item: fails([*value[:place], item, *value[place + 1 :]])


def _text(value: str, fails: Fails) -> str:
    lines = value.splitlines(keepends=True)
    if len(lines) > 1:
        value = "".join(_sequence(lines, lambda rest: fails("".join(rest))))
    if len(value) <= _LETTERS:
        value = "".join(_sequence(list(value), lambda rest: fails("".join(rest))))
    return value


def _sequence(items: list[Any], fails: Fails) -> list[Any]:
    """Leave out runs of items, long ones first, as long as the rest fails (delta debugging)."""
    size = len(items)
    while size:
        start = 0
        while start < len(items):
            rest = items[:start] + items[start + size :]
            if fails(rest):
                items = rest
            else:
                start += size
        size //= 2
    return items
