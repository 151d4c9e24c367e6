"""Both ways of a CPUID to KVM, kvm_emulate_cpuid and the emulator's em_cpuid, on a stock KVM that QEMU's emulator runs.

The machine's own KVM seldom emulates on request; kvm_amd in a small guest does. That guest's init is Python with emulator_guest.py.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from support.python_guest import console_of
from vcpuid.cpuid import CpuidTable, Entry, Registers
from vcpuid.kvm.lookup import lookup

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


@pytest.fixture(scope="module")
def console(booting: ModuleType, kernel: Path, qemu: str) -> str:
    return console_of("emulator_guest", booting, kernel, qemu)


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
