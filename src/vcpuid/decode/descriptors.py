"""The one-byte descriptors of leaf 2: caches, TLBs and prefetch sizes by number."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from vcpuid import data


class Descriptor(NamedTuple):
    """What a descriptor stands for.

    `size` is in bytes, None for a TLB; `pages` the sizes of page that a TLB holds. `ways` 0 is fully associative, None not told.
    `unit` is bytes a line, or entries of a TLB.
    """

    kind: str
    size: int | None
    pages: str
    ways: int | None
    unit: int | None

    @property
    def is_tlb(self) -> bool:
        """Whether it is a TLB."""
        return self.kind.endswith("TLB") or "TLB " in self.kind

    @property
    def way_count(self) -> str:
        """The ways as text: a number, "full", or nothing where they are not told."""
        return "full" if self.ways == 0 else "" if self.ways is None else str(self.ways)

    def __str__(self) -> str:
        parts = [self.kind]
        if self.is_tlb:
            parts[0] += f" {'/'.join(self.pages.split())} pages"
            parts.append(f"{self.unit} entries")
        elif self.kind == "trace cache":
            parts.append(micro_operations(self.size))
        elif self.size is not None:
            parts.append(f"{self.size >> 10} KiB")
        if self.ways is not None:
            parts.append("fully associative" if self.ways == 0 else f"{self.ways}-way")
        if self.unit is not None and not self.is_tlb:
            parts.append(f"{self.unit} bytes a line" if self.size is not None else f"{self.unit} bytes")
        return ", ".join(parts)


def micro_operations(size: int | None) -> str:
    """Spell the size of a trace cache, which holds decoded instructions."""
    return f"{(size or 0) >> 10}K µops"


@cache
def _table() -> dict[tuple[int, str], tuple[Descriptor, ...]]:
    found: dict[tuple[int, str], tuple[Descriptor, ...]] = {}
    for number, kind, what, ways, unit, *who in data.load("fields")["descriptors"]:
        size, pages = (what, "") if isinstance(what, int) else (None, what)
        key = int(number, 16), "".join(who)
        found[key] = (*found.get(key, ()), Descriptor(kind, size, pages, ways, unit))
    return found


def descriptors(number: int, who: str = "") -> tuple[Descriptor, ...]:
    """Return what a descriptor of vendor `who` stands for, some for two TLBs; nothing for 0 and for numbers that no manual tells."""
    return _table().get((number, who)) or _table().get((number, ""), ())


def describe(number: int, who: str = "") -> str:
    """Spell a descriptor."""
    return "; ".join(map(str, descriptors(number, who))) or ("none" if number == 0 else f"unknown descriptor {number:#04x}")
