"""A guest whose first process is Python with a module of the tests: what a stock kernel does is tried from within."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import vcpuid

SOURCES = [str(Path(vcpuid.__file__).parents[1]), str(Path(__file__).parents[1] / "live"), str(Path(__file__).parents[1])]


def console_of(module: str, booting: ModuleType, kernel: Path, qemu: str) -> str:
    """Boot `kernel` with KVM's modules and `module.main()` as its first process; give what its console shows.

    All that importing the module loads is put in. Skips the test where something is lacking.
    """
    start = f"import sys; sys.path[:0] = {SOURCES}; import {module}"
    loaded = f"{start}; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"
    python = Path(sys.executable).resolve()
    initrd = booting.Initrd()
    initrd.add_program(python, python)
    for line in subprocess.run([python, "-IS", "-c", loaded], capture_output=True, text=True, check=True).stdout.splitlines():
        file = Path(line)
        if file.suffix == ".so":
            initrd.add_program(file, file)
        else:
            initrd.add(file, file.read_bytes())
    initrd.add("init", f"#!{python} -IS\n{start}; {module}.main()\n".encode())
    try:
        for name in ("irqbypass", "kvm", "kvm-amd"):
            initrd.add(f"modules/{name}.ko", booting.module(kernel, name))
    except booting.Lacking as lack:
        pytest.skip(str(lack))
    return str(booting.boot(kernel, initrd.pack(), cpu=booting.NESTING, qemu=qemu, append="quiet", seconds=300))
