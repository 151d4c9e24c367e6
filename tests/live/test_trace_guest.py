"""On a stock KVM, kvm_amd of a kernel in QEMU's emulator, exits are counted by every way, with addresses, back-traces and answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.python_guest import console_of
from vcpuid.live.tiny_guest import _EMULATE, CODE
from vcpuid.trace.ways import WAYS

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


@pytest.fixture(scope="module")
def told(booting: ModuleType, kernel: Path, qemu: str) -> dict[tuple[str, bool], dict[str, Any]]:
    console = console_of("trace_guest", booting, kernel, qemu)
    assert re.search(r"^KERNEL (\S+)", console, re.MULTILINE) is not None, console
    rows = [json.loads(line.removeprefix("TRACED ")) for line in console.splitlines() if line.startswith("TRACED ")]
    assert len(rows) == 2 * len(WAYS), console
    return {(row["way"], row["emulate"]): row for row in rows}


@pytest.mark.parametrize("emulate", [False, True], ids=["executed", "emulated"])
@pytest.mark.parametrize("way", WAYS)
def test_every_exit_is_counted_and_answered_as_modelled(told: dict[tuple[str, bool], dict[str, Any]], way: str, emulate: bool) -> None:
    row = told[way, emulate]
    assert (row["counted"], row["lost"]) == (row["executed"], 0)
    assert (row["held"], row["agrees"]) == (row["executed"], True)


@pytest.mark.parametrize("way", WAYS)
def test_the_address_is_that_of_the_instruction(told: dict[tuple[str, bool], dict[str, Any]], way: str) -> None:
    assert told[way, False]["rips"] == [CODE + 5]
    emulated = CODE + 5 + len(bytes.fromhex(_EMULATE))
    assert told[way, True]["rips"] == [0 if way == "tracefs" else emulated]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "tracefs"])
def test_there_are_two_back_traces(told: dict[tuple[str, bool], dict[str, Any]], way: str) -> None:
    (executed,), (emulated,) = told[way, False]["stacks"], told[way, True]["stacks"]
    assert executed[:2] == ["kvm_cpuid", "kvm_emulate_cpuid"]
    assert emulated[:3] == ["kvm_cpuid", "em_cpuid", "x86_emulate_insn"]
