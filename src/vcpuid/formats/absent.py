"""What may be meant by the path of a file that is not there, one of nearly that name in the same folder, and by a name that nobody has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

_MOST, _LONGEST = 2000, 80
"""Names of a folder that are looked at, and letters of a name: no more is worth the time."""
_ALIKE, _OFFERED = 0.75, 3


def or_longer(cause: str, name: str, names: Iterable[str]) -> str:
    """Ask, behind what is said of a name that nobody has, whether one is meant that begins so, else one that is like it."""
    from difflib import get_close_matches

    given = sorted(set(islice(names, _MOST)))
    found = [other for other in given if other.startswith(name)] or get_close_matches(name[:_LONGEST], given, n=1, cutoff=_ALIKE)
    return f"{cause}; did you mean {' or '.join(found[:_OFFERED])}?" if found else cause


def or_near(cause: str, path: str) -> str:
    """Ask, behind what is said of a path at which there is nothing, whether a file or folder beside it is meant, where one is like it."""
    from difflib import get_close_matches

    folder, name = os.path.split(path.rstrip(os.sep))
    names: list[str] = []
    with suppress(OSError, ValueError), os.scandir(folder or os.curdir) as entries:
        names = [entry.name for entry in islice(entries, _MOST) if not entry.name.startswith(".")]
    longer = [other for other in names if other.partition(".")[0] == name.partition(".")[0]]  # the same, but for the ending
    found = sorted(longer) or get_close_matches(name[:_LONGEST], names, n=1, cutoff=_ALIKE)
    return f"{cause}; did you mean {os.path.join(folder, found[0])}?" if found else cause
