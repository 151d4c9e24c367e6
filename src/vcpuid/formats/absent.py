"""What may be meant by the path of a file that is not there, one of nearly that name in the same folder, and by a name that nobody has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

from vcpuid.spelling import nearest

_MOST, _WORK, _LONGEST = 50_000, 500, 80
"""Names that are looked at, of these compared letter by letter, and letters of a name: no more is worth the time."""
_ALIKE, _OFFERED = 4, 3
"""Letters of a name, of which one may be wrong, and names that are offered."""


def or_longer(cause: str, name: str, names: Iterable[str]) -> str:
    """Ask, behind what is said of a name that nobody has, whether one is meant that begins so, else one that is like it."""
    given = sorted(set(islice(names, _MOST)))
    found = [other for other in given if other.startswith(name)] or _alike(name, given)
    return f"{cause}; did you mean {' or '.join(found[:_OFFERED])}?" if found else cause


def or_near(cause: str, path: str) -> str:
    """Ask, behind what is said of a path at which there is nothing, whether a file or folder beside it is meant, where one is like it."""
    folder, name = os.path.split(path.rstrip(os.sep))
    names: list[str] = []
    with suppress(OSError, ValueError), os.scandir(folder or os.curdir) as entries:
        names = [entry.name for entry in islice(entries, _MOST) if not entry.name.startswith(".")]
    names = [other for other in names if len(other) <= _LONGEST and os.path.join(folder, other).isprintable()]
    longer = [other for other in names if other.startswith(f"{name}.") or _stem(other) == _stem(name)]  # the same, but for the ending
    found = sorted(longer) or _alike(name, names)
    return f"{cause}; did you mean {os.path.join(folder, found[0])}?" if found else cause


def _alike(name: str, names: Iterable[str]) -> list[str]:
    """Give the one name that is most like another, if any is."""
    told = name[:_LONGEST]
    found = nearest(told, names, max(1, len(told) // _ALIKE), _WORK)
    return [] if found is None else [found]


def _stem(name: str) -> str:
    return os.path.splitext(name.removesuffix(".gz"))[0]
