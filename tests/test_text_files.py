"""Text that the tests and tools read and write is UTF-8 in every locale: each call says so. Ruff's rule for it knows few of the calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [path.relative_to(ROOT).as_posix() for folder in ("tests", "tools", "oracle") for path in sorted((ROOT / folder).rglob("*.py"))]
BYTES = {"rb", "wb", "r+b"}


def is_text(call: ast.Call) -> bool:
    """Whether a call reads or writes text: of others' `open`, as gzip's, those that ask for it."""
    values = {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    match call.func:
        case ast.Name("open"):
            return not values & BYTES
        case ast.Attribute(attr="open"):
            return bool(values & {"rt", "wt"})
        case ast.Attribute(attr="read_text" | "write_text" | "TextIOWrapper"):
            return True
        case ast.Attribute(attr="NamedTemporaryFile" | "TemporaryFile"):
            return bool(values & {"r", "w", "w+"})
    return False


def unnamed(text: str) -> list[int]:
    """The lines of such calls that name no encoding."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call) and is_text(node)]
    return sorted(call.lineno for call in calls if "encoding" not in {keyword.arg for keyword in call.keywords})


@pytest.mark.parametrize("file", FILES)
def test_what_is_read_and_written_as_text_names_its_encoding(file: str) -> None:
    assert unnamed((ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "call",
    [
        "open(p, ",
        'open(p, "w", ',
        'gzip.open(p, "rt", ',
        "p.read_text(",
        "p.write_text(t, ",
        'tempfile.TemporaryFile("w", ',
        "io.TextIOWrapper(b, ",
    ],
)
def test_a_call_that_names_none_is_found(call: str) -> None:
    assert unnamed(f"{call})") == [1]
    assert unnamed(f'{call}encoding="utf-8")') == []
