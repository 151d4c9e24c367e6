"""What a run of a verb must print, whatever it was asked: laws of the exit status, of errors, and of each format."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import NoReturn

from fuzz.inprocess import Run
from fuzz.target import Broken, hold
from fuzz.text import controls

STATUSES = (0, 1, 2, 3, 4)
_OWN = "vcpuid: "
_USAGE = ("Usage: ", "Try '", "Error: ", "")
_LONGEST = 2000
_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\w.-]*$)")
"""How a cell begins that a spreadsheet takes for a formula; -name and +5 are none."""


def hold_clean(run: Run, form: str | None, verb: str) -> None:
    """Hold a run of a verb to the laws; `form` is what --format asked for. The verb's name tells one kind of failure from another."""
    try:
        _hold(run, form)
    except Broken as broken:
        raise Broken(f"{verb}: {broken.law}", broken.detail) from None


def _hold(run: Run, form: str | None) -> None:
    hold(run.status in STATUSES, "the exit status is one of 0 to 4", f"{run.status}: {run.stderr[-300:]}")
    _hold_errors(run)
    strange = controls(run.stdout, "\n\t" if form is None else "\n")
    hold(not strange, "standard output has no control characters", f"{strange!r} in {_around(run.stdout, strange)!r}")
    if run.stdout and run.status in (0, 1) and form in _FORMATS:
        _FORMATS[form](run.stdout)


def _around(text: str, letters: str) -> str:
    places = [text.index(letter) for letter in letters[:1]]
    return text[max(0, places[0] - 60) : places[0] + 60] if places else ""


def _hold_errors(run: Run) -> None:
    text = run.stderr
    hold("Traceback" not in text, "no traceback", text[-500:])
    strange = controls(text)
    hold(not strange, "standard error has no control characters", f"{strange!r} in {_around(text, strange)!r}")
    lines = text.splitlines()
    allowed = _USAGE if run.status == 2 else (_OWN, "error: ")  # the verbs of libvirt print a refusal as virsh does
    wrong = [line for line in lines if not line.startswith(allowed)]
    hold(not wrong, "a line on standard error says whose it is", f"status {run.status}: {text[-400:]}")
    if run.status in (3, 4):
        hold(lines or run.stdout, "an error is told", run.status)
    hold(all(len(line) <= _LONGEST for line in lines), "a line on standard error is short", f"{max(map(len, lines), default=0)} letters")


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _json(text: str) -> None:
    try:
        document = json.loads(text, parse_constant=_constant)
    except ValueError as error:
        hold(False, "JSON parses", f"{error}: {text[:200]}")
        return
    empty = [key for key in _keys(document) if not key]
    hold(not empty, "no JSON key is empty", text[:200])


def _keys(value: object) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for item in value.values() for key in _keys(item))]
    return [key for item in value for key in _keys(item)] if isinstance(value, list) else []


def _jsonl(text: str) -> None:
    hold(text.endswith("\n"), "JSON lines end")
    for line in text.split("\n")[:-1]:
        _json(line)


def _csv(text: str) -> None:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        hold(False, "CSV parses", f"{error}: {text[:200]}")
        return
    hold(len({len(row) for row in rows}) <= 1, "CSV rows are of one length", {len(row) for row in rows})
    formulas = [cell for row in rows for cell in row if _FORMULA.match(cell)]
    hold(not formulas, "no CSV cell begins a formula", formulas[:3])


_FORMATS = {"json": _json, "jsonl": _jsonl, "csv": _csv}
