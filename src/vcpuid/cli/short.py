"""How long answers are cut to a screen: what is left out is counted, and --all prints it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from vcpuid.answers.order import Order
    from vcpuid.path.pipeline import Path

T = TypeVar("T")

ROWS = 4
"""Rows of a table that is cut: with what stands around them, and cells of two lines, they fit 24 lines."""
NAMES = 5
"""Names in one cell or sentence of an answer that is cut."""


def some(names: Iterable[str], most: int = NAMES) -> str:
    """Name the first of many things, and count the rest; one that is left is named as well."""
    every = list(dict.fromkeys(names))
    shown = every if len(every) <= most + 1 else every[:most]
    more = len(every) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more else "")


def first(rows: Sequence[T], everything: bool, most: int = ROWS) -> Sequence[T]:
    """Give the rows that are shown: all where that is asked for, or where hardly any would be left out."""
    return rows if everything or len(rows) <= most + 1 else rows[:most]


def cut(shown: int, of: int, what: str = "rows") -> list[str]:
    """Say of a table that is cut what is missing, as its last line; nothing where it is whole."""
    return [f"{shown} of {of} {what}; --all prints the rest."] if shown < of else []


def answered(verdict: str, order: Order | None) -> list[str]:
    """Put an answer before how libvirt led to it; where libvirt refuses the domain, that is the answer."""
    if order is None:
        return [verdict]
    return [verdict, *order.head()] if order.objection is None else [*order.head(), verdict]


def folded(path: Path, most: int = 2) -> list[str]:
    """Give what is to be said of a path, of many warnings of the VMM's their number alone."""
    said = path.said
    if len(path.warnings) <= most:
        return list(said)
    kept = [line for line in said if not line.startswith(f"{path.vmm.spoken}: warning: ")]
    return [*kept, f"{path.vmm.spoken} would print {len(path.warnings)} warnings; --all prints them, vcpuid check says what they mean"]
