"""The import rule: dependencies point down only, and the core needs the standard library alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vcpuid

ROOT = Path(vcpuid.__file__).parent

LAYERS: dict[str, tuple[str, ...]] = {
    "errors": (),
    "numbers": (),
    "spelling": (),
    "data": ("errors",),
    "releases": ("data", "errors", "numbers"),
    "cpuid": ("data", "errors", "numbers", "releases"),
    "reasons": ("cpuid", "data", "releases"),
    "params": ("cpuid", "errors", "numbers"),
    "setup": ("cpuid", "errors", "params", "releases"),
    "decode": ("cpuid", "data", "errors", "numbers"),
    "formats": ("cpuid", "errors", "numbers", "releases", "spelling"),
    "linux": ("cpuid", "data", "errors", "numbers", "params", "reasons", "releases", "setup"),
    "kvm": ("cpuid", "data", "errors", "linux", "params", "reasons", "releases", "setup"),
    "told": ("cpuid", "errors", "kvm", "linux", "numbers", "params", "releases", "setup"),
    "qemu": ("cpuid", "data", "errors", "kvm", "linux", "numbers", "params", "reasons", "releases", "setup", "told"),
    "live": ("cpuid", "data", "errors", "formats", "numbers", "releases"),
    "sources": ("cpuid", "data", "errors", "formats", "live", "numbers"),
    "libvirt": ("cpuid", "data", "errors", "formats", "kvm", "numbers", "qemu", "reasons", "releases", "setup"),
    "software": ("cpuid", "data", "errors", "linux", "releases", "told"),
    "vmm": ("cpuid", "data", "errors", "formats", "kvm", "numbers", "params", "qemu", "reasons", "releases", "setup"),
    "path": ("cpuid", "errors", "kvm", "linux", "reasons", "releases", "setup", "told", "vmm"),
    "answers": (
        "cpuid", "decode", "errors", "kvm", "libvirt", "linux", "numbers", "params", "path", "qemu", "reasons", "releases", "setup", "told",
        "vmm",
    ),
    "hazards": (
        "answers", "cpuid", "decode", "formats", "kvm", "linux", "params", "path", "qemu", "reasons", "releases", "setup", "told", "vmm",
    ),
    "rulebook": ("answers", "hazards", "kvm", "libvirt", "linux", "qemu", "reasons", "vmm"),
    "fleet": (
        "answers", "cpuid", "data", "decode", "errors", "formats", "hazards", "kvm", "libvirt", "numbers", "path", "qemu", "reasons",
        "releases", "setup", "software", "sources", "told", "vmm",
    ),
    "diagnosis": ("answers", "cpuid", "data", "errors", "numbers", "path", "qemu", "reasons", "releases", "rulebook", "setup"),
    "explore": (
        "answers", "cpuid", "data", "decode", "diagnosis", "errors", "formats", "hazards", "kvm", "libvirt", "numbers", "params", "path",
        "qemu", "releases", "setup", "sources", "vmm",
    ),
    "probe": ("cpuid", "errors", "live", "numbers"),
    "trace": ("cpuid", "errors", "kvm", "live", "numbers", "probe", "reasons", "releases", "software"),
}  # fmt: skip
"""What each room may import from vcpuid besides itself, lowest first: a row names rooms above it only."""

CORE = (
    "errors", "numbers", "releases", "data", "cpuid", "reasons", "params", "setup", "decode", "linux", "kvm", "qemu", "libvirt", "vmm",
    "path",
    "answers", "hazards", "rulebook",
)  # fmt: skip
"""Rooms that need the standard library alone, and open no file: `data` reads the tables."""

MODULES = sorted(p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] not in ("cli", "__init__.py", "__main__.py"))
"""All but the command line and the public face, which may import everything."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def room(path: Path) -> str:
    return name(path).split("/")[0]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" if node.module == "vcpuid" else str(node.module) for alias in node.names}
    return found


def test_layers_point_down() -> None:
    order = list(LAYERS)
    for room_, below in LAYERS.items():
        assert list(below) == sorted(below)
        assert all(order.index(other) < order.index(room_) for other in below), room_


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_dependencies_point_down(path: Path) -> None:
    allowed = {room(path), *LAYERS[room(path)]}
    upward = sorted(m for m in imports(path) if m.startswith("vcpuid") and m.split(".")[1] not in allowed)
    assert not upward


def test_no_row_allows_what_nobody_takes() -> None:
    taken: dict[str, set[str]] = {}
    for path in MODULES:
        taken.setdefault(room(path), set()).update(m.split(".")[1] for m in imports(path) if m.startswith("vcpuid."))
    assert {room_: sorted(others - {room_}) for room_, others in taken.items()} == {room_: list(below) for room_, below in LAYERS.items()}


def modules_of(path: Path) -> set[str]:
    """The files that a module imports, whether for good, in a function or for types alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vcpuid":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {n for n in names if n in FILES} or ({node.module} & FILES.keys())
            if any(n not in FILES for n in names):
                found |= {node.module} & FILES.keys()
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & FILES.keys()
    return found


def dotted(path: Path) -> str:
    parts = ("vcpuid", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {dotted(path): path for path in ROOT.rglob("*.py")}


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {module: modules_of(path) - {module, "vcpuid"} for module, path in FILES.items() if module != "vcpuid"}
    while ends := {m for m, needs in graph.items() if not needs} | (graph.keys() - set().union(*graph.values())):
        graph = {module: needs - ends for module, needs in graph.items() if module not in ends}
    assert not graph


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in CORE], ids=name)
def test_the_core_needs_the_standard_library_alone(path: Path) -> None:
    tops = {module.split(".")[0] for module in imports(path)} - {"vcpuid"}
    assert tops <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", [p for p in MODULES if room(p) in CORE and room(p) != "data"], ids=name)
def test_the_core_opens_no_file_and_no_device(path: Path) -> None:
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "open" not in calls
    assert not imports(path) & {"os", "io", "pathlib", "socket", "subprocess", "fcntl", "mmap", "ctypes"}


def test_importing_the_core_does_not_load_the_command_line() -> None:
    code = "import sys, vcpuid; print([m for m in ('click', 'rich', 'subprocess', 'ctypes') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
