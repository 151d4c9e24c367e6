"""Both ways of a CPUID to KVM, kvm_emulate_cpuid and the emulator's em_cpuid, on a stock KVM that QEMU's emulator runs.

The machine's own KVM seldom emulates on request; kvm_amd in a small guest does. That guest's init is Python with emulator_guest.py.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import vcpuid
from vcpuid.cpuid import CpuidTable, Entry, Registers
from vcpuid.kvm.lookup import lookup

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

HERE = Path(__file__).parent
SOURCES = [str(Path(vcpuid.__file__).parents[1]), str(HERE)]
START = f"import sys; sys.path[:0] = {SOURCES}; import emulator_guest"
LIST = f"{START}; print(*(m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)), sep='\\n')"


@pytest.fixture(scope="module")
def console(booting: ModuleType, kernel: Path, qemu: str) -> str:
    python = Path(sys.executable).resolve()
    initrd = booting.Initrd()
    initrd.add_program(python, python)
    for line in subprocess.run([python, "-IS", "-c", LIST], capture_output=True, text=True, check=True).stdout.splitlines():
        file = Path(line)
        if file.suffix == ".so":
            initrd.add_program(file, file)
        else:
            initrd.add(file, file.read_bytes())
    initrd.add("init", f"#!{python} -IS\n{START}; emulator_guest.main()\n".encode())
    try:
        for name in ("irqbypass", "kvm", "kvm-amd"):
            initrd.add(f"modules/{name}.ko", booting.module(kernel, name))
    except booting.Lacking as lack:
        pytest.skip(str(lack))
    return str(booting.boot(kernel, initrd.pack(), cpu=booting.NESTING, qemu=qemu, append="quiet", seconds=300))


@pytest.fixture(scope="module")
def release(console: str) -> str:
    found = re.search(r"^KERNEL (\S+)", console, re.MULTILINE)
    assert found is not None, console
    return found[1]


@pytest.mark.parametrize("mode", [16, 32, 64])
def test_both_ways_answer_from_the_same_table(console: str, release: str, mode: int) -> None:
    readings = [json.loads(line.removeprefix("READING ")) for line in console.splitlines() if line.startswith("READING ")]
    plain, emulated = sorted((reading for reading in readings if reading["mode"] == mode), key=lambda reading: reading["emulate"])
    assert plain["seen"] == emulated["seen"]
    table = CpuidTable(Entry(*entry) for entry in plain["kept"])
    seen = {(function, index): Registers(*registers) for function, index, *registers in plain["seen"]}
    assert seen == {leaf: lookup(table, *leaf, kernel=release) for leaf in seen}
    assert any(registers.eax for registers in seen.values())
    for reading, way, other in ((plain, "kvm_emulate_cpuid", "em_cpuid"), (emulated, "em_cpuid", "kvm_emulate_cpuid")):
        assert reading["callers"]
        assert all(way in trace and other not in trace for trace in reading["callers"])
