"""The stand-alone collector: made of the package's modules, as they are now, and good for Python 3.8."""

from __future__ import annotations

import ast
import dataclasses
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.tools import load_tool
from vcpuid.formats.lines import format_snapshot
from vcpuid.sources import collector_script, this_machine

PYTHONS = [sys.executable, *(f"python3.{minor}" for minor in range(8, 16))]
"""This Python, and those that it should run under where they are installed."""


def find(python: str) -> str:
    """One on PATH, or one of pyenv's, whose name on PATH may stand for none."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    name = Path(python).name
    for place in (shutil.which(python), *map(str, root.glob(f"{name.removeprefix('python')}.*/bin/{name}"))):
        if place and subprocess.run([place, "-c", ""], capture_output=True).returncode == 0:
            return place
    pytest.skip(f"{python} is not installed, or does not start")


@pytest.fixture
def script(tmp_path: Path) -> Path:
    file = tmp_path / "vcpuid_collect.py"
    file.write_text(collector_script(), encoding="utf-8")
    return file


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


def test_no_default_is_one_that_python_3_8_refuses(script: Path) -> None:
    """Before 3.11 dataclasses take whatever is a list, a dictionary or a set for a default that can change."""
    classes = [each for each in runpy.run_path(str(script)).values() if isinstance(each, type) and dataclasses.is_dataclass(each)]
    assert classes
    assert not [field for each in classes for field in dataclasses.fields(each) if isinstance(field.default, list | dict | set)]


@pytest.mark.x86
@pytest.mark.parametrize("python", PYTHONS, ids=["this one", *PYTHONS[1:]])
def test_it_tells_what_vcpuid_tells(python: str, tmp_path: Path) -> None:
    """As a file, and down a pipe as `ssh host python3 -` gives it, with nothing of vcpuid in reach."""
    python = find(python)
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


def shell(line: str, script: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the collector with redirections, where `line` has `collect`."""
    command = line.replace("collect", f'"{python}" -I "{script}"')
    return subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8")


@pytest.mark.x86
@pytest.mark.process
@pytest.mark.parametrize("python", PYTHONS[:2], ids=["this one", PYTHONS[1]])
def test_its_streams_are_treated_as_vcpuids(python: str, script: Path) -> None:
    python = find(python)
    told = "".join(line + "\n" for line in format_snapshot(this_machine()))
    unwritten = "vcpuid_collect: standard output: cannot be written: "
    for line, status, out, err in [
        ("collect >/dev/full", 4, "", unwritten + "No space left on device\n"),
        ("collect >&-", 4, "", unwritten + "Bad file descriptor\n"),
        ("collect >&- 2>&-", 4, "", ""),
        ("collect 2>&-", 0, told, ""),
        ("collect 2>/dev/full", 0, told, ""),
        ("collect <&- 2>/dev/null", 0, told, ""),
        ("collect 2>/dev/null | head -c 1", 0, told[:1], ""),
        ("collect --cpu 99999 2>/dev/full", 4, "", ""),
        ("collect --cpu 99999 2>&-", 4, "", ""),
    ]:
        done = shell(line, script, python)
        assert (done.returncode, done.stdout, done.stderr) == (status, out, err), line


@pytest.mark.process
@pytest.mark.parametrize("python", PYTHONS[:2], ids=["this one", PYTHONS[1]])
@pytest.mark.parametrize("module", ["hashlib", "ctypes"], ids=["while it imports", "while it runs"])
def test_ctrl_c_ends_it_without_a_word(module: str, python: str, script: Path) -> None:
    (script.parent / f"{module}.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)\n", encoding="utf-8")
    done = subprocess.run([find(python), script], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.process
def test_a_fault_of_its_is_one_line_and_status_70(script: Path) -> None:
    (script.parent / "ctypes.py").write_text("raise RuntimeError('two\\nlines')\n", encoding="utf-8")
    done = subprocess.run([sys.executable, script], capture_output=True, encoding="utf-8")
    version = sys.version.split(" ")[0]
    assert (done.returncode, done.stdout) == (70, "")
    begun = f"vcpuid_collect: a fault of vcpuid's collector on Python {version}, please report it: RuntimeError: two lines (__main__:"
    assert done.stderr.startswith(begun)
    assert done.stderr.endswith(", --traceback shows the rest)\n")
    assert done.stderr.count("\n") == 1
    shown = subprocess.run([sys.executable, script, "--traceback"], capture_output=True, encoding="utf-8")
    assert (shown.returncode, shown.stdout) == (70, "")
    assert shown.stderr.startswith("Traceback (most recent call last):\n")
    assert shown.stderr.splitlines()[-1].startswith(begun)
