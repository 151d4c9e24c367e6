"""The stand-alone collector: made of the package's modules, as they are now, and good for Python 3.8."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import load_tool
from vcpuid.formats.lines import format_snapshot
from vcpuid.sources import collector_script, this_machine

PYTHONS = [sys.executable, *(f"python3.{minor}" for minor in range(8, 16))]
"""This Python, and those that it should run under where they are installed."""


def test_it_is_up_to_date() -> None:
    assert collector_script() == load_tool("build_collector").build(), "run tools/build_collector.py, as its first lines say"


def test_it_needs_the_standard_library_alone() -> None:
    tree = ast.parse(collector_script())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)


def test_it_has_nothing_that_it_does_not_need() -> None:
    """Every function and class is named somewhere else in the file."""
    tree = ast.parse(collector_script())
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert {name for name in defined - named if not name.startswith("__")} == set()


class Newer(ast.NodeVisitor):
    """Finds what Python 3.8 has the grammar for and yet not the library; annotations aside, which are not evaluated."""

    ATTRIBUTES = frozenset({"removeprefix", "removesuffix", "bit_count", "pairwise"})
    KEYWORDS = frozenset({"strict", "slots", "kw_only", "delete_on_close"})
    GENERIC = frozenset({"list", "dict", "set", "frozenset", "tuple", "type"})

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_arg(self, node: ast.arg) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in self.ATTRIBUTES:
            self.found.append(f"{node.lineno}: .{node.attr}")
        self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg in self.KEYWORDS:
            self.found.append(f"{node.lineno}: {node.arg}=")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.value, ast.Name) and node.value.id in self.GENERIC:
            self.found.append(f"{node.lineno}: {node.value.id}[…]")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        types = {"int", "str", "bytes", "float", "bool", "bytearray", "dict", "list", "None"}
        for side in (node.left, node.right):
            if isinstance(node.op, ast.BitOr) and isinstance(side, ast.Dict | ast.Constant | ast.Name) and is_type(side, types):
                self.found.append(f"{node.lineno}: | of types or dictionaries")
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        new = {"Self", "TypeAlias", "TypeGuard", "ParamSpec", "Never", "assert_never", "override", "StrEnum", "cache"}
        if node.module == "collections.abc" or new & {alias.name for alias in node.names}:
            self.found.append(f"{node.lineno}: from {node.module} …")


def is_type(node: ast.expr, types: set[str]) -> bool:
    return isinstance(node, ast.Dict) or (isinstance(node, ast.Constant) and node.value is None) or getattr(node, "id", "") in types


def test_python_3_8_can_read_it() -> None:
    tree = ast.parse(collector_script(), feature_version=(3, 8))
    newer = Newer()
    newer.visit(tree)
    assert newer.found == []


@pytest.mark.x86
@pytest.mark.parametrize("python", PYTHONS, ids=["this one", *PYTHONS[1:]])
def test_it_tells_what_vcpuid_tells(python: str, tmp_path: Path) -> None:
    """As a file, and down a pipe as `ssh host python3 -` gives it, with nothing of vcpuid in reach."""
    if not shutil.which(python) or subprocess.run([python, "-c", ""], capture_output=True).returncode != 0:
        pytest.skip(f"{python} is not installed, or does not start")
    script = tmp_path / "vcpuid_collect.py"
    script.write_text(collector_script(), encoding="utf-8")
    expected = [line + "\n" for line in format_snapshot(this_machine())]
    as_file = subprocess.run([python, "-I", script], capture_output=True, cwd=tmp_path, check=True)
    piped = subprocess.run([python, "-I", "-"], input=collector_script().encode(), capture_output=True, cwd=tmp_path, check=True)
    assert as_file.stdout.decode().splitlines(keepends=True) == expected
    assert piped.stdout == as_file.stdout
    assert as_file.stderr.decode() == "".join(f"vcpuid_collect: {note}\n" for note in this_machine().notes)


@pytest.mark.x86
def test_it_takes_the_number_of_a_cpu(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-I", "-", "--cpu", "99999"], input=collector_script().encode(), capture_output=True)
    assert run.returncode == 4
    assert run.stdout == b""
    assert run.stderr.decode().startswith("vcpuid_collect: CPU 99999: ")
