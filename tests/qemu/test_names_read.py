"""Names of QEMU's by which its model reads properties and feature words: each is one that some bundled catalog has.

A property that no release has reads as off, and a word as 0: a slip of the pen would change a guest in silence.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import vcpuid
from vcpuid.cpuid.hyperv import ENLIGHTENMENTS
from vcpuid.qemu.catalog import catalog
from vcpuid.releases import QEMUS

ROOT = Path(vcpuid.__file__).parent
MODULES = [path for room in ("qemu", "vmm", "answers", "hazards") for path in sorted((ROOT / room).rglob("*.py"))]
OWN = frozenset({"level-func24"})
"""Kept among the properties, and none of QEMU's."""
READERS = frozenset({"on", "integer"})
"""Methods that take a property by its name."""


def is_properties(node: ast.expr) -> bool:
    """Whether an expression is a CPU's properties: `props`, or something's `.props`."""
    return (isinstance(node, ast.Name) and node.id == "props") or (isinstance(node, ast.Attribute) and node.attr == "props")


def strings(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        for element in node.elts:
            yield from strings(element)


def names_of(node: ast.expr, loops: dict[str, list[str]]) -> Iterator[str]:
    """The names that an argument may be: a constant, or a variable that goes through constants."""
    yield from loops.get(node.id, []) if isinstance(node, ast.Name) else strings(node)


def properties_read(tree: ast.AST) -> set[str]:
    loops: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.comprehension | ast.For) and isinstance(node.target, ast.Name):
            loops.setdefault(node.target.id, []).extend(strings(node.iter))
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value, index) if is_properties(value):
                found |= set(names_of(index, loops))
            case ast.Call(ast.Attribute(value, "get"), [name, *_]) if is_properties(value):
                found |= set(names_of(name, loops))
            case ast.Call(ast.Attribute(value, "update"), [ast.Dict(keys)]) if is_properties(value):
                found |= {name for key in keys for name in strings(key)}
            case ast.Call(ast.Attribute(_, reader), [name]) if reader in READERS:
                found |= set(names_of(name, loops))
    return found


def words_read(tree: ast.AST) -> set[str]:
    """Every string that is spelled as a feature word; the beginning of several is none."""
    beginnings = {id(node.args[0]) for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args and is_beginning(node.func)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return {node.value for node in constants if node.value.startswith("FEAT_") and node.value.isidentifier() and id(node) not in beginnings}


def is_beginning(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr == "startswith"


@cache
def known_properties() -> frozenset[str]:
    return frozenset(name for release in QEMUS for name in (*catalog(release).properties, *catalog(release).flags))


@cache
def known_words() -> frozenset[str]:
    return frozenset(name for release in QEMUS for name in catalog(release).by_name)


def test_what_counts_as_read() -> None:
    source = """
a = props["one"], draft.props["two"], self.props.get("three", 0), cpu.on("four"), cpu.integer("five"), other["no"], text.get("no")
props.update({"six": 1})
b = [name for name in ("seven", "eight") if view.on(name)]
c = cpu.word("FEAT_A"), "FEAT_B", name.startswith("FEAT_C"), "FEAT_ no"
"""
    tree = ast.parse(source)
    assert properties_read(tree) == {"one", "two", "three", "four", "five", "six", "seven", "eight"}
    assert words_read(tree) == {"FEAT_A", "FEAT_B"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_read_is_qemus(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert properties_read(tree) - OWN <= known_properties()
    assert words_read(tree) <= known_words()


@pytest.mark.long
def test_the_readers_are_found() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in MODULES]
    assert {"pmu", "x-force-features", "tsc-frequency", "host-cache-info", "hv-passthrough"} <= set().union(*map(properties_read, trees))
    assert {"FEAT_XSAVE", "FEAT_7_1_EDX", "FEAT_29_0_EBX"} <= set().union(*map(words_read, trees))


def test_every_enlightenment_is_a_property() -> None:
    assert ENLIGHTENMENTS.keys() <= known_properties()
