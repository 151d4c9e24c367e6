"""A guest whose first process is Python with a module of the tests: what a stock kernel does is tried from within."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import vcpuid

SOURCES = [str(Path(vcpuid.__file__).parents[1]), str(Path(__file__).parents[1] / "live"), str(Path(__file__).parents[1])]
PYTHON = Path(sys.executable).resolve()
_NOT_PYTHONS_OWN = {
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "__pycache__",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "ensurepip",
}


def console_of(module: str, booting: ModuleType, kernel: Path, qemu: str) -> str:
    """Boot `kernel` with KVM's modules and `module.main()` as its first process; give what its console shows.

    All that importing the module loads is put in. Skips the test where something is lacking.
    """
    initrd = booting.Initrd()
    add_first_process(initrd, module)
    try:
        for name in ("irqbypass", "kvm", "kvm-amd"):
            initrd.add(f"modules/{name}.ko", booting.module(kernel, name))
    except booting.Lacking as lack:
        pytest.skip(str(lack))
    return str(booting.boot(kernel, initrd.pack(), cpu=booting.NESTING, qemu=qemu, append="quiet", seconds=300))


def add_first_process(initrd: Any, module: str) -> None:
    """Add Python, all that importing the module loads, and `module.main()` as the first process."""
    start = f"import sys; sys.path[:0] = {SOURCES}; import {module}"
    loaded = f"{start}; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
    initrd.add_program(PYTHON, PYTHON)
    for line in subprocess.run([PYTHON, "-IS", "-c", loaded], capture_output=True, text=True, check=True).stdout.splitlines():
        _add(initrd, Path(line))
    initrd.add("init", f"#!{PYTHON} -IS\n{start}; {module}.main()\n".encode())


def add_command_line(initrd: Any) -> list[str]:
    """Add vcpuid as it is installed here, with click and Python's own modules; give the words that start it there.

    What a verb imports only when it runs is not told by importing it, so that all is put in.
    """
    for folder in (Path(vcpuid.__file__).parent, Path(click.__file__).parent, Path(sysconfig.get_path("stdlib"))):
        for file in _files(folder):
            _add(initrd, file)
    folders = [SOURCES[0], str(Path(click.__file__).parents[1])]
    return [str(PYTHON), "-IS", "-c", f"import sys; sys.path[:0] = {folders}; from vcpuid.__main__ import main; main()"]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in _NOT_PYTHONS_OWN and not path.name.startswith("config-"):
            yield from _files(path)
        elif path.is_file() and path.suffix != ".pyc":
            yield path


def _add(initrd: Any, file: Path) -> None:
    if file.suffix == ".so":
        initrd.add_program(file, file)
    else:
        initrd.add(file, file.read_bytes())
