"""Drawings: a package as boxes within boxes, an XSAVE area as a map."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from vcpuid.decode.caches import Cache
from vcpuid.decode.topology import Level, Topology
from vcpuid.decode.xsave import XsaveLayout

WIDTH = 100
"""Columns that a drawing may take where nothing else is said."""

BEFORE_BARS = 61
"""Columns of the map of an XSAVE area before the bars that show sizes."""


class _Box(NamedTuple):
    """Logical processors that are an instance of the levels `names` or, without one, share `caches`; a thread has nothing within it."""

    names: tuple[str, ...]
    caches: tuple[Cache, ...]
    label: str = ""
    within: tuple[_Alike, ...] = ()


class _Alike(NamedTuple):
    """Boxes that are alike: how many, and how that is to be taken; `always` has it said though all of them are drawn."""

    box: _Box
    number: int
    how: str
    always: bool = False


def draw_topology(found: Topology, width: int = WIDTH) -> list[str]:
    """Draw one package in so many columns: a box for each core, die and so on, and for processors that share a cache.

    Of more boxes side by side than fit the first are drawn, and all of them counted.
    """
    return list(_drawn(found._replace(apic_id=0, source="", caches=() if found.members else found.caches), width))


@lru_cache(8)
def _drawn(found: Topology, width: int) -> list[str]:
    """Draw a package; `found` has nothing of a CPU that the drawing does not show, so that CPUs of one package have one drawing."""
    return _draw(_of_members(found) if found.members else _of_one(found), width)


# ---- what boxes there are


def _of_one(found: Topology) -> _Box:
    """Build the package as one CPU tells of it."""
    box, held, inner, named = _thread(found.caches, found.levels), 1, 0, True
    for shift in _shifts(found.caches, found.levels):
        names, caches = _names(found.levels, shift), _shared(found.caches, found.levels, shift)
        if names:
            threads = max(level.processors for level in found.levels if level.shift == shift)
        else:
            threads = min(max(cache.shared or 1 for cache in caches), held << shift - inner, found.processors)
        like = found.mixed and (shift == found.levels[-1].shift or threads == found.processors)
        how = "if all were like this one" if like else "at most" if not names else "in all" if named else "at least"
        box = _around(names, caches, f"up to {threads} threads", [_Alike(box, max(-(-threads // held), 1), how, like)])
        held, inner, named = max(threads, 1), shift, bool(names)
    return box


def _of_members(found: Topology) -> _Box:
    """Build the package from the APIC IDs of its CPUs; those that are alike stand side by side."""
    boxes = [([member], _thread(member.caches, found.levels)) for member in found.members]
    for shift in _shifts([cache for member in found.members for cache in member.caches], found.levels):
        names, outer = _names(found.levels, shift), []
        for _, group in groupby(boxes, lambda each, shift=shift: each[0][0].apic_id >> shift):  # type: ignore[misc]
            parts = list(group)
            members = [member for those, _ in parts for member in those]
            shared = {cache.name: cache for member in members for cache in _shared(member.caches, found.levels, shift)}
            if names or shared:
                kinds = Counter(box for _, box in parts)
                rows = [_Alike(box, count, "of these" if len(kinds) > 1 else "in all") for box, count in kinds.items()]
                parts = [(members, _around(names, tuple(shared.values()), f"{len(members)} threads", rows))]
            outer += parts
        boxes = outer
    return boxes[0][1]


def _thread(caches: Sequence[Cache], levels: Sequence[Level]) -> _Box:
    """Make a thread, with the caches that it shares with none, unless a level is as small."""
    return _Box(("thread",), () if _names(levels, 0) else _shared(caches, levels, 0))


def _around(names: tuple[str, ...], caches: tuple[Cache, ...], label: str, rows: list[_Alike]) -> _Box:
    """Put a box around others; one that would hold a single box is one with it, and without a name a single thread has none around it."""
    box = rows[0].box
    if len(rows) > 1 or rows[0].number > 1:
        return _Box(names, caches, label, tuple(rows))
    if names and not box.within:
        return _Box(names, box.caches + caches, label, (rows[0]._replace(box=box._replace(caches=())),))
    return box._replace(names=box.names + names, caches=box.caches + caches)


def _shifts(caches: Iterable[Cache], levels: Sequence[Level]) -> list[int]:
    """Order the levels and the sharings of caches from the smallest to the largest; the package is the last."""
    found = {level.shift for level in levels} | {_home(cache, levels) for cache in caches}
    return sorted(found if _names(levels, 0) else found - {0})


def _names(levels: Sequence[Level], shift: int) -> tuple[str, ...]:
    return tuple(level.name for level in levels if level.shift == shift)


def _shared(caches: Sequence[Cache], levels: Sequence[Level], shift: int) -> tuple[Cache, ...]:
    return tuple(cache for cache in caches if _home(cache, levels) == shift)


def _home(cache: Cache, levels: Sequence[Level]) -> int:
    """Return the shift of the APIC IDs that share a cache.

    Leaf 4 tells for how many IDs there is room; AMD's tells processors, and so of the domain that has just so many. What neither tells of
    is taken to be a core's, but for an L3 cache, which is the package's.
    """
    package = levels[-1].shift
    if cache.shared is None:
        return package if cache.level > 2 else next((level.shift for level in levels if level.name == "core"), levels[0].shift)
    if cache.source.startswith("0x8000001d"):
        for level in levels:
            if level.processors == cache.shared:
                return level.shift
    return min((cache.shared - 1).bit_length(), package)


# ---- how they are drawn


def _draw(box: _Box, width: int) -> list[str]:
    """Draw a box with what is in it in so many columns, two of which are its border and two blank."""
    caches = [f"{cache.name} {cache.amount}" for cache in sorted(box.caches, key=lambda cache: cache.level)]
    if not box.within:
        return ["thread" + (f" ({', '.join(caches)})" if caches else "")]
    lines = [line for row in box.within for line in _draw_row(row, width - 4)]
    lines += _filled(caches, width - 4)
    head = f" {', '.join(box.names) or box.label} "
    inside = max(len(head), *map(len, lines))
    return [f"┌{head}{'─' * (inside + 2 - len(head))}┐", *(f"│ {line:{inside}} │" for line in lines), f"└{'─' * (inside + 2)}┘"]


def _draw_row(row: _Alike, width: int) -> list[str]:
    block = _draw(row.box, width)
    shown = max(1, min(row.number, (width + 1) // (len(block[0]) + 1)))
    note = [f"… {row.number} {row.how}"] if row.number > shown or row.always else []
    return [" ".join([line] * shown) for line in block] + note


def _filled(items: Iterable[str], width: int) -> list[str]:
    """Put items into lines, two blanks apart."""
    lines: list[str] = []
    for item in items:
        if lines and len(lines[-1]) + 2 + len(item) <= width:
            lines[-1] += f"  {item}"
        else:
            lines.append(item)
    return lines


def draw_xsave(found: XsaveLayout, width: int = WIDTH) -> list[str]:
    """Draw the XSAVE area in so many columns: each component where it lies in the standard form, and in the compacted one."""
    if not found.components:
        return []
    columns = max(width - BEFORE_BARS, 1)
    scale = max(-(-found.size // columns), 64)
    lines = [f"{'standard':>9} {'compacted':>9} {'bytes':>6}  component"]
    for component in sorted(found.components, key=lambda each: (each.offset is None, each.offset or 0, each.compacted or 0)):
        bar = "█" * min(max(1, round(component.size / scale)), columns)
        notes = [
            note
            for note, holds in (("supervisor", component.supervisor), ("64-byte aligned", component.aligned), ("XFD", component.xfd))
            if holds
        ]
        about = f"{component.name}" + (f" ({', '.join(notes)})" if notes else "")
        lines.append(f"{_at(component.offset)} {_at(component.compacted)} {component.size:>6}  {about:32} {bar}")
    return [*lines, f"{found.size:>9} {_at(found.compacted_size)}         in all"]


def _at(offset: int | None) -> str:
    return f"{'-' if offset is None else offset:>9}"
