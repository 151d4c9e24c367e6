"""How a table and the sentences around it are laid out in lines of a width, or of any where none is given.

Lines end between words: a name is never split, nor padded on the right. A word that is longer than its column ends behind a comma, a
semicolon or a slash; one that has none, and what people copy, goes on past the edge, in a sentence on a line of its own. Where the columns
side by side leave too little room to read, the rows stand below each other, a cell a line. A column in which nothing stands is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

_GAP, _TIGHT_GAP = 3, 2
"""Blanks between two columns, and where some are folded."""
_RULE = "─"
_LONGEST_RULE = 100
"""The line below the titles is no longer, where lines are of any width."""
_NARROW, _TALL = 24, 6
"""A column that is folded to less, in a row of more lines, is hard to read."""
_SHORT = (24, 12)
"""Cells of so many columns are folded only where there is no other way, the longer ones first."""

_PARTS = re.compile(r"(?<=[,;/])")
_WORDS = re.compile(r"(?<=: )vcpuid .*|--?cpu \S+|\S+|\s+")
"""What stays on one line of a sentence: a word, and what people copy, a -cpu and a command."""
_CPU = re.compile(r",(?:[-+]|hv-)\w")
"""What only a -cpu argument has in it: it is copied from a cell, too."""


class Verbatim(str):
    """A line that programs read or people paste into a file: it is never folded."""

    __slots__ = ()


CODES = {"bold": "1", "dim": "2", "italic": "3", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36"}
"""What a style is made of, and how terminals are told it."""


@cache
def _code(style: str) -> str:
    return ";".join(CODES[word] for word in style.split())


def painted(text: str, style: str) -> str:
    """Colour a text for a terminal."""
    return f"\x1b[{_code(style)}m{text}\x1b[0m" if style and text else text


def columns_of(text: str) -> int:
    """Count the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def lines_of(text: str, width: int | None) -> int:
    """Count the lines that a terminal of this width makes of one that is written."""
    return 1 if width is None else max(-(-columns_of(text) // width), 1)


def folded(line: str, width: int | None) -> list[str]:
    """Fold one line of a text between its words; those that go on are indented as it is, blanks within it stay. Not if Verbatim."""
    if isinstance(line, Verbatim):
        return [line]
    if width is None or columns_of(line) <= width:
        return [line.rstrip()]
    indent = line[: len(line) - len(line.lstrip())]
    indent = indent if len(indent) * 2 <= width else ""
    found, now, room = [], indent, width
    for word in _WORDS.findall(line.lstrip()):
        if columns_of(now.rstrip()) + (len(now) - len(now.rstrip())) + columns_of(word) > room and not word.isspace() and now.strip():
            found.append(now.rstrip())
            now = indent + word
        else:
            now += word
    return [*found, now.rstrip()]


def _atoms(word: str) -> list[str]:
    return [word] if _CPU.search(word) else [part for part in _PARTS.split(word) if part]


def _pieces(text: str, width: int) -> Iterator[tuple[str, bool]]:
    """Give what may not be split, and whether a blank stands before it; a word is split where it must be alone."""
    for word in text.split():
        if columns_of(word) <= width:
            yield word, True
        else:
            yield from ((part, number == 0) for number, part in enumerate(_atoms(word)))


def _cell(text: str, width: int) -> list[str]:
    """Fold a cell. What is longer than the column goes past its edge."""
    if columns_of(text) <= width:
        return [text.rstrip()]
    found, now = list[str](), ""
    for piece, apart in _pieces(text, width):
        joined = f"{now}{' ' if apart and now else ''}{piece}"
        if now and columns_of(joined) > width:
            found.append(now)
            now = piece
        else:
            now = joined
    return [*found, now]


@dataclass(frozen=True)
class Table:
    """Titles and rows of cells, each of one line; `styles` are of columns, by their number."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    styles: Mapping[int, str]

    def without_empty_columns(self) -> Table:
        """Leave out the columns in which no row has anything."""
        kept = [number for number in range(len(self.titles)) if any(row[number] for row in self.rows)]
        if len(kept) == len(self.titles):
            return self
        styles = {new: self.styles[old] for new, old in enumerate(kept) if old in self.styles}
        return Table([self.titles[number] for number in kept], [[row[number] for number in kept] for row in self.rows], styles)

    def lines(self, width: int | None, *, colours: bool) -> Iterator[str]:
        """Lay it out."""
        table = self.without_empty_columns()
        if not table.titles:
            return
        gap, widths = table._widths(width)
        yield from table._beside(widths, gap, width, colours) if widths else table._below(width or 0, colours)

    def _widths(self, width: int | None) -> tuple[int, list[int]]:
        """Share the width out among the columns: what is between them, and theirs; none where they have too little room."""
        columns = [(title, *(row[number] for row in self.rows)) for number, title in enumerate(self.titles)]
        natural = [max(map(columns_of, column)) for column in columns]
        if width is None or sum(natural) + _GAP * (len(columns) - 1) <= width:
            return _GAP, natural
        room = width - _TIGHT_GAP * (len(columns) - 1)
        least = [_longest(column) for column in columns]
        if sum(least) > room:
            return _GAP, []
        titled = [max(one, columns_of(column[0])) for one, column in zip(least, columns, strict=True)]
        if sum(titled) <= room:
            least = titled
        for short in _SHORT:
            whole = [max(one, min(other, short)) for one, other in zip(least, natural, strict=True)]
            if sum(whole) <= room:
                least = whole
                break
        widths = _shared(natural, least, room)
        tight = [number for number, has in enumerate(widths) if has < min(natural[number], _NARROW)]
        if any(len(_cell(row[number], widths[number])) > _TALL for number in tight for row in self.rows):
            return _GAP, []
        return _TIGHT_GAP, widths

    def _beside(self, widths: Sequence[int], gap: int, width: int | None, colours: bool) -> Iterator[str]:
        rule = sum(widths) + gap * (len(widths) - 1)
        yield from self._row(self.titles, widths, gap, dict.fromkeys(range(len(widths)), "bold") if colours else {})
        yield _RULE * (rule if width is not None else min(rule, _LONGEST_RULE))
        for row in self.rows:
            yield from self._row(row, widths, gap, self.styles if colours else {})

    def _row(self, row: Sequence[str], widths: Sequence[int], gap: int, styles: Mapping[int, str]) -> Iterator[str]:
        cells = [_cell(text, width) for text, width in zip(row, widths, strict=True)]
        for height in range(max(map(len, cells))):
            line, blanks = "", 0
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True)):
                text = cell[height] if height < len(cell) else ""
                if text:
                    line += " " * blanks + painted(text, styles.get(number, ""))
                    blanks = 0
                blanks += width - columns_of(text) + gap
            yield line

    def _below(self, width: int, colours: bool) -> Iterator[str]:
        side = max(map(columns_of, self.titles))
        for number, row in enumerate(self.rows):
            if number:
                yield ""
            for column, (title, text) in enumerate(zip(self.titles, row, strict=True)):
                if not text:
                    continue
                style = self.styles.get(column, "") if colours else ""
                for at, line in enumerate(_cell(text, max(width - side - _GAP, 1))):
                    before = "" if at else title
                    blanks = " " * (side + _GAP - columns_of(before))
                    yield (painted(before, "bold") if colours else before) + blanks + painted(line, style)


def _longest(column: Iterable[str]) -> int:
    """Give the width of the longest piece that may not be split."""
    return max((columns_of(part) for text in column for word in text.split() for part in _atoms(word)), default=0)


def _shared(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Give each column what it needs at the least, and what is left, blank by blank, to that which is folded most."""
    widths = list(least)
    for _ in range(room - sum(widths)):
        most = max(range(len(widths)), key=lambda number: natural[number] / widths[number] if widths[number] else 0)
        widths[most] += widths[most] < natural[most]
    return widths
