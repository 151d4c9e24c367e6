"""Make the stand-alone collector, src/vcpuid/data/collector/vcpuid_collect.py.txt, out of the package's own modules.

    python tools/build_collector.py > collect.py && mv collect.py src/vcpuid/data/collector/vcpuid_collect.py.txt

From `collector.main` on, every definition that is needed is taken over as it stands in its module; of a class, the methods whose names
occur in what is needed. Nothing else is. The result runs on Python 3.8, older than what the package needs, by three differences: what only
annotations name is left out (they are never evaluated), abstract collections come from `typing`, and dataclasses have no slots.
"""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src"
START = "vcpuid.live.collector"
HEAD = '''#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa
# mypy: ignore-errors
# fmt: off
"""Write what this machine tells of its CPU and its KVM, as a snapshot for vcpuid: python3 vcpuid_collect.py > host.txt

Takes Linux on x86-64 and Python 3.8 or newer, nothing else, and changes nothing. tools/build_collector.py makes this file out of the
modules named in it: what is to change is changed there.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word, while it imports too

'''
TAIL = """

if __name__ == "__main__":
    sys.exit(main())
"""


def build() -> str:
    """Return the collector's source."""
    bundle = Bundle()
    bundle.need(module(START), "main")
    bundle.take_methods()
    chapters = "".join(bundle.chapter(each) for each in in_order(START, []))
    return HEAD + bundle.imports() + chapters.replace(", slots=True", "") + TAIL


class Module:
    """A module of the package, taken apart."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.lines = source.split("\n")
        tree = ast.parse(source)
        self.statements = tree.body
        self.ends = {node: node.end_lineno or node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt)}
        for node, following in itertools.pairwise(tree.body):
            if isinstance(following, ast.Expr):  # the text that tells what a constant is
                self.ends[node] = self.ends[following]
        self.defined: dict[str, ast.stmt] = {}
        self.imported: dict[str, tuple[str, str | None]] = {}
        """A name: the module that it comes from, and its name there or None where it is that module itself."""
        for node in tree.body:
            if isinstance(node, ast.Import):
                self.imported |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    self.imported[alias.asname or alias.name] = (inner, None) if path(inner) else (node.module, alias.name)
            else:
                self.defined |= dict.fromkeys(names(node), node)

    def ours(self, name: str) -> str | None:
        """Return which module of the package a name is, None where it is none."""
        origin, there = self.imported.get(name, ("", None))
        return origin if there is None and path(origin) else None

    def span(self, node: ast.stmt) -> range:
        """Return where a statement is among the lines, with its decorators, and the comments and the empty lines just above."""
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))]) - 1
        while first and (not self.lines[first - 1] or self.lines[first - 1].lstrip().startswith("#")):
            first -= 1
        return range(first, self.ends[node])


class Uses(ast.NodeVisitor):
    """The names that a piece of code needs when it runs: all but those of annotations."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.dotted: set[tuple[str, str]] = set()

    def visit_Name(self, node: ast.Name) -> None:  # noqa: D102
        self.names.add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:  # noqa: D102
        self.attributes.add(node.attr)
        if isinstance(node.value, ast.Name):
            self.dotted.add((node.value.id, node.attr))
        self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:  # noqa: D102
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: D102
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:  # noqa: D102
        for part in (*node.decorator_list, node.args, *node.body):
            self.visit(part)


class Bundle:
    """What is needed so far."""

    def __init__(self) -> None:
        self.imported: set[tuple[str, str, str]] = set()
        """Of the standard library: a module, what of it (empty for the module itself), and as what."""
        self.taken: dict[ast.stmt, Module] = {}
        self.homes: dict[str, str] = {}
        """Names taken over, and the modules that they are from."""
        self.attributes: set[str] = set()

    def need(self, at: Module, name: str) -> None:
        """Take over what a name means in a module; one that means nothing there is built in, or local to a function."""
        if name in at.defined:
            if self.homes.setdefault(name, at.name) != at.name:
                raise ValueError(f"{name}: both {self.homes[name]} and {at.name} define it, and a single file has room for one")
            self.take(at, at.defined[name])
        elif name in at.imported and not at.ours(name):
            origin, there = at.imported[name]
            if there is not None and path(origin):
                if name != there:
                    raise ValueError(f"{at.name} calls {there} {name}: in a single file it has one name")
                self.need(module(origin), there)
            else:
                alias = "" if name == (there or origin) else f" as {name}"
                self.imported.add(("typing" if origin == "collections.abc" else origin, there or "", alias))

    def take(self, at: Module, node: ast.stmt) -> None:
        """Take over a statement and what it needs; of a class, all but its methods."""
        if node in self.taken:
            return
        self.taken[node] = at
        uses = Uses()
        apart = methods(node)
        for part in ast.iter_child_nodes(node) if isinstance(node, ast.ClassDef) else [node]:
            if part not in apart:
                uses.visit(part)
        self.attributes |= uses.attributes
        for name in sorted(uses.names):
            self.need(at, name)
        for name, attribute in sorted(uses.dotted):
            if inner := at.ours(name):
                self.need(module(inner), attribute)

    def take_methods(self) -> None:
        """Take over the methods, of classes taken, that anything taken names, until there are no more."""
        before = 0
        while before != len(self.taken):
            before = len(self.taken)
            for node, at in list(self.taken.items()):
                for method in methods(node):
                    if method.name in self.attributes:
                        self.take(at, method)

    def imports(self) -> str:
        """Return the import statements."""
        whole = [f"import {origin}{alias}\n" for origin, there, alias in sorted(self.imported) if not there]
        parts: dict[str, list[str]] = {}
        for origin, there, alias in sorted(self.imported):
            if there:
                parts.setdefault(origin, []).append(there + alias)
        return "".join(whole + [f"from {origin} import {', '.join(names)}\n" for origin, names in parts.items()])

    def chapter(self, at: Module) -> str:
        """Return the text of what was taken from a module, empty where nothing was."""
        lines = [line for node in at.statements if node in self.taken for line in self.lines(at, node)]
        return "\n".join(["", "", f"# ---------------- {at.name}", *lines, ""]) if lines else ""

    def lines(self, at: Module, node: ast.stmt) -> list[str]:
        """Return a statement's lines as a single file has them: without the methods left out, and names without their modules."""
        lines = {number: at.lines[number] for number in at.span(node)}
        for method in methods(node):
            if method not in self.taken:
                for number in at.span(method):
                    del lines[number]
        ours = "|".join(filter(at.ours, at.imported)) or "(?!)"
        return [re.sub(rf"\b({ours})\.", "", line) for line in lines.values()]


def names(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement gives a meaning."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name))


def methods(node: ast.stmt) -> list[ast.FunctionDef]:
    """Return the methods of a class but those that Python itself calls; nothing of any other statement."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    return [each for each in body if isinstance(each, ast.FunctionDef) and not each.name.startswith("__")]


def path(name: str) -> Path | None:
    """Return the file of a module of the package, None for any other name."""
    place = ROOT / name.replace(".", "/")
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if name.startswith("vcpuid") and file.exists()), None)


@cache
def module(name: str) -> Module:
    """Take a module of the package apart, once."""
    file = path(name)
    assert file is not None, name
    return Module(name, file.read_text(encoding="utf-8"))


def in_order(name: str, seen: list[str]) -> Iterator[Module]:
    """Yield a module of the package after all those of the package that it imports."""
    seen.append(name)
    for origin, _ in module(name).imported.values():
        if path(origin) and origin not in seen:
            yield from in_order(origin, seen)
    yield module(name)


if __name__ == "__main__":
    sys.stdout.write(build())
