"""How answers are printed: as a table for people, or as JSON, JSON lines, CSV or plain lines for programs."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import click

from vcpuid import data
from vcpuid.cli import layout, safe
from vcpuid.cli.short import SCREEN, Cut
from vcpuid.cli.streams import reader_left, styled
from vcpuid.numbers import decimal

FORMATS = ("table", "json", "jsonl", "csv", "lines")

F = TypeVar("F", bound=Callable[..., Any])


def format_option(command: F) -> F:
    """Add --format to a verb, as the argument `form`, and --schema."""
    form = click.option("--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print the answer.")
    return form(schema_option()(command))


def schema_option(name: str | None = None) -> Callable[[F], F]:
    """Add --schema to a verb: it prints a JSON Schema, the one of the verb's own name by default, whatever else is given or left out."""

    def show(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted and not context.resilient_parsing:
            print(data.schema(name or _verb(context)), end="")
            context.exit()

    return click.option(
        "--schema", is_flag=True, is_eager=True, expose_value=False, callback=show, help="Print the JSON Schema of its JSON, and exit."
    )


def _verb(context: click.Context) -> str:
    """Name a verb with those above it: `explain`, `kvm-set`."""
    names: list[str] = []
    above: click.Context | None = context
    while above is not None:
        names.insert(0, str(above.command.name))
        above = above.parent
    return "-".join(names[1:] or names)


def output_option(command: F) -> F:
    """Add --output to a verb that writes a file, as the argument `path` for `streams.opened`."""
    return click.option("--output", "-o", "path", type=click.Path(), default="-", help="File to write.  [default: standard output]")(
        command
    )


def all_option(command: F) -> F:
    """Add --all to a verb whose table is cut to what matters, as the argument `everything`."""
    return click.option("--all", "-v", "--verbose", "everything", is_flag=True, help="Print all rows and details, however many.")(command)


@dataclass
class Sheet:
    """An answer that can be printed in every format.

    `columns` of `rows` serve tables, under the `titles` that they have there, else their keys with blanks for underscores. CSV has `fields`
    of `records`, JSON lines all that is in these: without them, the table's. `data` is the document for JSON. `lines` is the plain form,
    as lines or as one text, the rows' values separated by blanks where it is None. `head` and `foot` are sentences around the table, for
    people only. `null` is what a table and CSV have for a value that is null in JSON. With a `cut` the table is no longer than a screen.
    """

    columns: Sequence[str]
    rows: list[dict[str, Any]]
    data: Mapping[str, object] | None = None
    records: list[dict[str, Any]] | None = None
    fields: Sequence[str] | None = None
    titles: dict[str, str] = field(default_factory=dict)
    lines: Iterable[str] | str | None = None
    head: list[str] = field(default_factory=list)
    foot: list[str] = field(default_factory=list)
    styles: dict[str, str] = field(default_factory=dict)
    null: str = ""
    cut: Cut | None = None

    @property
    def told(self) -> list[dict[str, Any]]:
        """The rows for programs."""
        return self.rows if self.records is None else self.records

    @property
    def named(self) -> Sequence[str]:
        """The columns of CSV."""
        return self.columns if self.fields is None else self.fields


def emit(sheet: Sheet, form: str) -> None:
    """Print an answer on standard output."""
    if form == "json":
        print(json.dumps(sheet.data if sheet.data is None else dict(sheet.data), indent=2))
    elif form == "jsonl":
        for row in sheet.told:
            print(json.dumps(row))
    elif form == "csv":
        _csv(sheet.named).writerows(_fields(row, sheet.null) for row in sheet.told)
    elif form == "lines":
        _lines(sheet)
    else:
        _table(sheet)


def emit_each(sheets: Iterable[tuple[str, Sheet]], form: str, schema: str) -> None:
    """Print answers of one kind, each under the name of the CPU that it is about, as they come.

    In JSON they are the list `cpus` of a document of the form `schema`; JSON lines and CSV have the name as a column `cpu`; in the others
    it stands above, and an empty line below. Where nobody reads on, no more are asked for.
    """
    writer = None
    before = between = f'{{"schema": "{schema}", "cpus": ['
    for name, sheet in sheets:
        if reader_left():
            return
        if form == "json":
            print(between + json.dumps({"cpu": name, **(sheet.data or {})}))
            between = ","
        elif form == "jsonl":
            for row in sheet.told:
                print(json.dumps({"cpu": name, **row}))
        elif form == "csv":
            if writer is None:
                writer = _csv(["cpu", *sheet.named])
            writer.writerows(_fields({"cpu": name, **row}, sheet.null) for row in sheet.told)
        else:
            print(f"{safe.line(name)}:")
            _lines(sheet) if form == "lines" else _table(sheet)
            print()
    if form == "json":
        print("]}" if between == "," else before + "]}")


def _csv(columns: Sequence[str]) -> csv.DictWriter[str]:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    return writer


def _lines(sheet: Sheet) -> None:
    if isinstance(sheet.lines, str):
        print(sheet.lines, end="")
        return
    for line in sheet.lines if sheet.lines is not None else (" ".join(_cells(sheet, row)) for row in sheet.rows):
        print(safe.line(line))


def _fields(row: Mapping[str, object], null: str) -> dict[str, str]:
    """Spell a row's values for CSV."""
    return {key: safe.field(cell(value)) if isinstance(value, str | list | tuple) else cell(value, null) for key, value in row.items()}


def _cells(sheet: Sheet, row: Mapping[str, object]) -> list[str]:
    return [cell(row.get(column), sheet.null) for column in sheet.columns]


def cell(value: object, null: str = "") -> str:
    """Spell a value as a table and CSV have it."""
    if value is None:
        return null
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(cell(v) for v in value)
    return str(value)


_LEAST, _USUAL = 20, 80
"""Columns of the narrowest terminal that lines are folded for, and of one that does not say."""


def width() -> int | None:
    """Return how wide lines may be: as COLUMNS says, else as the terminal is; of any width, which is None, for who reads from a pipe."""
    if told := decimal(os.environ.get("COLUMNS", "")):
        return max(told, _LEAST)
    if not sys.stdout.isatty():
        return None
    try:
        return max(os.get_terminal_size(sys.stdout.fileno()).columns or _USUAL, _LEAST)
    except OSError:
        return _USUAL


def colours() -> bool:
    """Tell whether to colour: on a terminal that can, unless NO_COLOR (or --no-color) forbids it, or FORCE_COLOR asks for it anywhere."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown"))


def laid_out(sheet: Sheet, rows: Iterable[Mapping[str, object]], width: int | None, *, colours: bool) -> Iterator[str]:
    """Lay some rows of a sheet out, with what stands above and below them; what stands apart is so by one empty line."""
    return _framed(sheet, _rows(sheet, rows, width, colours=colours), sheet.foot, width)


def _framed(sheet: Sheet, table: Iterable[str], foot: Iterable[str], width: int | None) -> Iterator[str]:
    return _apart((*_sentences(sheet.head, width), *table, *_sentences(foot, width)))


def _sentences(lines: Iterable[str], width: int | None) -> Iterator[str]:
    for line in lines:
        yield from layout.folded(layout.Verbatim(safe.clean(line)) if isinstance(line, layout.Verbatim) else safe.clean(line), width)


def _rows(sheet: Sheet, rows: Iterable[Mapping[str, object]], width: int | None, *, colours: bool) -> Iterator[str]:
    """Lay some rows out alone."""
    titles = [sheet.titles.get(column, column.replace("_", " ")) for column in sheet.columns]
    cells = [[safe.line(text) for text in _cells(sheet, row)] for row in rows]
    styles = {number: sheet.styles[column] for number, column in enumerate(sheet.columns) if column in sheet.styles}
    return layout.Table(titles, cells, styles).lines(width, colours=colours)


def _apart(lines: Iterable[str]) -> Iterator[str]:
    """Leave one empty line of several, and none at the begin and at the end."""
    begun = empty = False
    for line in lines:
        if line:
            if begun and empty:
                yield ""
            yield line
        begun, empty = begun or bool(line), not line


_FEW = 2
"""Rows that are shown before the sentences below them."""


def fitted(sheet: Sheet, width: int | None, height: int, *, colours: bool) -> list[str]:
    """Lay a sheet out; where it is cut, as many rows and sentences below them as fit so many lines, and a last line on what is left out.

    A few rows come first, then the sentences, then further rows; what stands above is always whole, and so is one row. What is longer
    than the width takes as many lines as a terminal makes of it.
    """
    cut = sheet.cut
    if cut is None:
        return list(laid_out(sheet, sheet.rows, width, colours=colours))
    of, notes = len(sheet.rows), _notes(sheet.foot)
    most = min(of if of <= cut.most + 1 else cut.most, max(1, height))  # no row takes less than a line

    @cache
    def table(rows: int, *, colours: bool = False) -> list[str]:
        return list(_rows(sheet, cut.chosen(sheet.rows, rows), width, colours=colours))

    def lines(rows: int, told: int, table: Iterable[str]) -> list[str]:
        foot = [line for note in notes[:told] for line in note]
        return list(_framed(sheet, table, (*(foot or [""]), *cut.end(rows, of, told, len(notes))), width))

    choices = [(rows, told) for told in range(len(notes), -1, -1) for rows in range(most, min(most, _FEW) - 1, -1)]
    fit = (one for one in choices if sum(layout.lines_of(line, width) for line in lines(*one, table(one[0]))) <= height)
    rows, told = next(fit, (min(most, 1), 0))
    return lines(rows, told, table(rows, colours=colours))


def _notes(foot: Sequence[str]) -> list[list[str]]:
    """Part the sentences below a table: an indented line belongs to the one above it, an empty one to that below it."""
    notes: list[list[str]] = []
    for line in foot:
        if notes and (line[:1].isspace() or not notes[-1][-1]):
            notes[-1].append(line)
        else:
            notes.append([line])
    return [note for note in notes if any(note)]


def _table(sheet: Sheet) -> None:
    with styled(sys.stdout):
        for line in fitted(sheet, width(), SCREEN, colours=colours()):
            print(line)
    sys.stdout.flush()  # so that a verb that prints more learns when its reader has gone
