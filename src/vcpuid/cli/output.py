"""How answers are printed: as a table for people, or as JSON, JSON lines, CSV or plain lines for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

FORMATS = ("table", "json", "jsonl", "csv", "lines")

F = TypeVar("F", bound=Callable[..., Any])


def format_option(command: F) -> F:
    """Add --format to a verb, as the argument `form`."""
    return click.option(
        "--format", "form", type=click.Choice(FORMATS), default="table", show_default=True, help="How to print the answer."
    )(command)


@dataclass
class Sheet:
    """An answer that can be printed in every format.

    `rows` serve tables, CSV and JSON lines; `data` is the whole answer for JSON, the rows where it is None; `lines` is the plain form,
    the rows' values separated by blanks where it is None. `head` and `foot` are sentences around the table, for people only.
    """

    columns: Sequence[str]
    rows: list[dict[str, Any]]
    data: Any = None
    lines: Iterable[str] | None = None
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
        writer = csv.DictWriter(sys.stdout, sheet.columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in row.items()} for row in sheet.rows)
    elif form == "lines":
        for line in sheet.lines if sheet.lines is not None else (" ".join(_cell(row.get(c)) for c in sheet.columns) for row in sheet.rows):
            print(line)
    else:
        _table(sheet)


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
