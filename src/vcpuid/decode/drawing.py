"""Drawings: a package as boxes within boxes, an XSAVE area as a map."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.decode.caches import Cache
from vcpuid.decode.topology import Topology
from vcpuid.decode.xsave import XsaveLayout

WIDTH = 100
"""Columns that a drawing of a package may take: of more boxes side by side, the first are drawn and the rest counted."""


class _Group(NamedTuple):
    """Instances of `names` hold `threads` logical processors each, which share `caches`.

    Without a name it is no level of the topology: APIC IDs have room for so many sharers, and there may be fewer.
    """

    names: tuple[str, ...]
    threads: int
    caches: tuple[Cache, ...]


def draw_topology(found: Topology) -> list[str]:
    """Draw one package: a box for each core, die and so on, and for processors that share a cache."""
    block: list[str] | None = None
    inner = _Group(("thread",), 1, ())
    for group in _groups(found):
        count = -(-group.threads // inner.threads)
        how = "at most" if not group.names else "in all" if inner.names else "at least"
        block = _box(
            group, _beside(block, count, how) if block else ["thread " * min(count, 4) + (f"… {count} {how}" if count > 4 else "")]
        )
        inner = group
    return block or []


def _groups(found: Topology) -> list[_Group]:
    """Order levels and sharings of caches from the smallest to the largest; the package is the last."""
    sizes = {level.processors for level in found.levels} | {min(cache.shared or 1, found.processors) for cache in found.caches}
    return [
        _Group(
            tuple(level.name for level in found.levels if level.processors == threads),
            threads,
            tuple(cache for cache in found.caches if min(cache.shared or 1, found.processors) == threads),
        )
        for threads in sorted(sizes)
    ]


def _box(group: _Group, content: list[str]) -> list[str]:
    caches = "  ".join(f"{cache.name} {size(cache.size)}" for cache in group.caches)
    name = ", ".join(group.names) or f"up to {group.threads} threads"
    lines = [*content, *([caches] if caches else [])]
    width = max(len(name) + 2, *(len(line.rstrip()) for line in lines))
    head = f" {name} "
    return [f"┌{head}{'─' * (width + 2 - len(head))}┐", *(f"│ {line.rstrip():{width}} │" for line in lines), f"└{'─' * (width + 2)}┘"]


def _beside(block: list[str], count: int, how: str) -> list[str]:
    shown = max(1, min(count, WIDTH // (len(block[0]) + 1)))
    lines = [" ".join([line] * shown) for line in block]
    if count > shown:
        lines[len(lines) // 2] += f"  … {count} {how}"
    return lines


def draw_xsave(found: XsaveLayout) -> list[str]:
    """Draw the XSAVE area: each component where it lies in the standard form, and in the compacted one."""
    if not found.components:
        return []
    scale = max(found.size // 40, 64)
    lines = [f"{'standard':>9} {'compacted':>9} {'bytes':>6}  component"]
    for component in sorted(found.components, key=lambda each: (each.offset is None, each.offset or 0, each.compacted or 0)):
        bar = "█" * max(1, round(component.size / scale))
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


def size(amount: int | None) -> str:
    """Spell a size in bytes."""
    if amount is None:
        return "?"
    for unit, scale in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if amount >= 1 << scale and not amount & (1 << scale - 2) - 1:
            return f"{amount / (1 << scale):g} {unit}"
    return f"{amount} bytes"
