"""The import rule: dependencies point down only, and the core needs the standard library alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vcpuid

ROOT = Path(vcpuid.__file__).parent

# What each room may import from vcpuid, by prefix. `path` is two floors: decisions lie under the parties, the rest above them.
BASE = ("vcpuid.errors", "vcpuid.versions", "vcpuid.data")
RULES = {
    "errors": (),
    "versions": ("vcpuid.data", "vcpuid.errors"),
    "data": ("vcpuid.errors",),
    "cpuid": (*BASE, "vcpuid.cpuid"),
    "decode": (*BASE, "vcpuid.cpuid", "vcpuid.decode"),
    "path/decisions": (*BASE, "vcpuid.cpuid"),
    "linux": (*BASE, "vcpuid.cpuid", "vcpuid.path.decisions", "vcpuid.linux"),
    "kvm": (*BASE, "vcpuid.cpuid", "vcpuid.path.decisions", "vcpuid.linux", "vcpuid.kvm"),
    "qemu": (*BASE, "vcpuid.cpuid", "vcpuid.path.decisions", "vcpuid.linux", "vcpuid.kvm", "vcpuid.qemu"),
    "software": (*BASE, "vcpuid.cpuid", "vcpuid.path.decisions", "vcpuid.linux", "vcpuid.qemu", "vcpuid.software"),
    "path": (*BASE, "vcpuid.cpuid", "vcpuid.path", "vcpuid.linux", "vcpuid.kvm", "vcpuid.qemu"),
    "sources": (*BASE, "vcpuid.cpuid", "vcpuid.kvm", "vcpuid.qemu", "vcpuid.path", "vcpuid.sources"),
    "probe": (*BASE, "vcpuid.cpuid", "vcpuid.kvm", "vcpuid.sources", "vcpuid.probe"),
}
CORE = ("errors", "versions", "data", "cpuid", "decode", "path", "linux", "kvm", "qemu")
DEVICES = {"kvm/device", "kvm/guest", "qemu/qmp", "data/__init__"}
"""The modules below sources/ that may open a file or a device."""

MODULES = sorted(p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] not in ("cli", "__init__.py", "__main__.py"))
"""All but the command line and the public face, which may import everything."""


def name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


def rule(path: Path) -> tuple[str, ...]:
    return RULES.get(name(path)) or RULES[name(path).split("/")[0]]


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" if node.module == "vcpuid" else str(node.module) for alias in node.names}
    return found


def under(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_dependencies_point_down(path: Path) -> None:
    upward = sorted(m for m in imports(path) if m.startswith("vcpuid") and not under(m, rule(path)))
    assert not upward


@pytest.mark.parametrize("path", [p for p in MODULES if name(p).split("/")[0] in CORE], ids=name)
def test_the_core_needs_the_standard_library_alone(path: Path) -> None:
    tops = {module.split(".")[0] for module in imports(path)} - {"vcpuid"}
    assert tops <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", [p for p in MODULES if name(p).split("/")[0] in CORE and name(p) not in DEVICES], ids=name)
def test_nothing_below_the_sources_opens_a_file(path: Path) -> None:
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
