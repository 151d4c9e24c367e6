"""How long answers are cut to a screen: what is left out is counted, and --all prints it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from vcpuid.answers.order import Order
    from vcpuid.path.pipeline import Path
    from vcpuid.told.assumptions import Assumption

T = TypeVar("T")

SCREEN = 24
"""Lines of a terminal, which an answer takes at the most unless all of it is asked for."""
ROWS = 4
"""Rows of a table that is cut; fewer where cells of several lines would not fit a screen."""
NAMES = 5
"""Names in one cell or sentence of an answer that is cut."""


def so_many(number: int, what: str) -> str:
    """Count things: "1 host", "2 classes"."""
    return f"{number} {what if number == 1 else what + ('es' if what.endswith('s') else 's')}"


def some(names: Iterable[str], most: int = NAMES) -> str:
    """Name the first of many things, and count the rest; one that is left is named as well."""
    every = list(dict.fromkeys(names))
    shown = every if len(every) <= most + 1 else every[:most]
    more = len(every) - len(shown)
    return " ".join(shown) + (f" and {more} more" if more else "")


def first(rows: Sequence[T], everything: bool, most: int = ROWS) -> Sequence[T]:
    """Give the rows that are shown: all where that is asked for, or where hardly any would be left out."""
    return rows if everything or len(rows) <= most + 1 else rows[:most]


def cut(shown: int, of: int, what: str = "rows", rest: str = "the rest") -> list[str]:
    """Say of a list that is cut what is missing, in a line; nothing where it is whole."""
    return [f"{shown} of {of} {what}; --all prints {rest}."] if shown < of else []


@dataclass(frozen=True)
class Cut:
    """How a table is cut: to `most` rows, or one more where that is all, and to as many of them as fit a screen.

    Those that are shown are the first, or those of the greatest `weights`, one a row. There are `of` in all, where the table does not have
    every one; `what` they are called. --all prints `rest`, and where no row is left out `more`; empty, nothing is said.
    """

    most: int = ROWS
    of: int | None = None
    what: str = "rows"
    rest: str = "the rest"
    more: str = ""
    weights: Sequence[int] | None = None

    def chosen(self, rows: Sequence[T], number: int) -> list[T]:
        """Give so many of the rows, in their order."""
        weights = self.weights or [0] * len(rows)
        kept = sorted(sorted(range(len(rows)), key=lambda at: -weights[at])[:number])
        return [rows[at] for at in kept]

    def end(self, shown: int, rows: int, told: int = 0, notes: int = 0) -> list[str]:
        """Say what of so many rows, and of so many sentences below them, is not shown, and how to see it."""
        every = ((shown, rows if self.of is None else self.of, self.what), (told, notes, "notes"))
        left_out = ", ".join(f"{number} of {of} {what}" for number, of, what in every if number < of)
        if left_out and self.rest:
            return [f"{left_out}; --all prints {self.rest}."]
        return [f"--all prints {self.more}."] if self.more else []


def left_open(names: Iterable[str], to_settle: Sequence[str], taken: Mapping[Assumption, Sequence[str]]) -> Iterator[str]:
    """Say in a line each which names are not told, how to settle that (the last of the `sentences`), and what is taken for granted."""
    if untold := list(names):
        yield f"Not told: {some(untold)}; --all says what they depend on."
    yield from to_settle[-1:]
    if taken:
        decided = some(name for names in taken.values() for name in names)
        settings, decide = ("1 setting is", "decides") if len(taken) == 1 else (f"{len(taken)} settings are", "decide")
        yield f"{settings} taken for granted, and {decide} on {decided}; --all says which."


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
