"""How answers are printed: as a table for people, or as JSON, JSON lines, CSV or plain lines for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from vcpuid.cli.streams import reader_left

FORMATS = ("table", "json", "jsonl", "csv", "lines")

F = TypeVar("F", bound=Callable[..., Any])


def format_option(command: F) -> F:
    """Add --format to a verb, as the argument `form`."""
    return click.option(
        "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print the answer."
    )(command)


def output_option(command: F) -> F:
    """Add --output to a verb that writes a file, as the argument `path` for `streams.opened`."""
    return click.option("--output", "-o", "path", type=click.Path(), default="-", help="File to write.  [default: standard output]")(
        command
    )


@dataclass
class Sheet:
    """An answer that can be printed in every format.

    `rows` serve tables, CSV and JSON lines; `data` is the whole answer for JSON, the rows where it is None; `lines` is the plain form, as
    lines or as one text, the rows' values separated by blanks where it is None. `head` and `foot` are sentences around the table, for
    people only.
    """

    columns: Sequence[str]
    rows: list[dict[str, Any]]
    data: Any = None
    lines: Iterable[str] | str | None = None
    head: list[str] = field(default_factory=list)
    foot: list[str] = field(default_factory=list)
    styles: dict[str, str] = field(default_factory=dict)


def emit(sheet: Sheet, form: str) -> None:
    """Print an answer on standard output."""
    if form == "json":
        print(json.dumps(sheet.rows if sheet.data is None else sheet.data, indent=2))
    elif form == "jsonl":
        for row in sheet.rows:
            print(json.dumps(row))
    elif form == "csv":
        _csv(sheet.columns).writerows({key: _cell(value) for key, value in row.items()} for row in sheet.rows)
    elif form == "lines":
        _lines(sheet)
    else:
        _table(sheet)


def emit_each(sheets: Iterable[tuple[str, Sheet]], form: str) -> None:
    """Print answers of one kind, each under the name of the CPU that it is about, as they come.

    In JSON they are a list; JSON lines and CSV have the name as a column `cpu`; in the others it stands above, and an empty line below.
    Where nobody reads on, no more are asked for.
    """
    writer = None
    between = "["
    for name, sheet in sheets:
        if reader_left():
            return
        if form == "json":
            print(between + json.dumps({"cpu": name, **sheet.data}))
            between = ","
        elif form == "jsonl":
            for row in sheet.rows:
                print(json.dumps({"cpu": name, **row}))
        elif form == "csv":
            if writer is None:
                writer = _csv(["cpu", *sheet.columns])
            writer.writerows({"cpu": name, **{key: _cell(value) for key, value in row.items()}} for row in sheet.rows)
        else:
            print(f"{name}:")
            _lines(sheet) if form == "lines" else _table(sheet)
            print()
    if form == "json":
        print("]" if between == "," else "[]")


def _csv(columns: Sequence[str]) -> csv.DictWriter[str]:
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    return writer


def _lines(sheet: Sheet) -> None:
    if isinstance(sheet.lines, str):
        print(sheet.lines, end="")
        return
    for line in sheet.lines if sheet.lines is not None else (" ".join(_cell(row.get(c)) for c in sheet.columns) for row in sheet.rows):
        print(line)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(_cell(v) for v in value)
    return str(value)


def _table(sheet: Sheet) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for line in sheet.head:
        console.print(Text(line), soft_wrap=True)
    if sheet.rows:
        table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
        for column in sheet.columns:
            table.add_column(column, style=sheet.styles.get(column), overflow="fold")
        for row in sheet.rows:
            table.add_row(*(Text(_cell(row.get(column))) for column in sheet.columns))
        console.print(table)
    for line in sheet.foot:
        console.print(Text(line), soft_wrap=True)
