from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from vcpuid.errors import UnavailableError
from vcpuid.probe import INSTRUCTIONS, Instruction, process

pytestmark = pytest.mark.x86


def row(code: str, **more: object) -> Instruction:
    return Instruction("fpu", "trial", bytes.fromhex(code), **more)  # type: ignore[arg-type]


def resources() -> tuple[int, str]:
    """Open descriptors, and children."""
    return len(os.listdir("/proc/self/fd")), Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="utf-8")


def test_every_instruction_for_user_code_has_an_outcome() -> None:
    before = resources()
    outcomes = process()
    assert [outcome.instruction for outcome in outcomes] == [i.name for i in INSTRUCTIONS if i.ring == 3]
    by_name = {outcome.instruction: outcome for outcome in outcomes}
    for name in ("fninit", "cmpxchg8b", "cmovne", "fxsave", "addps", "paddb"):  # no x86-64 is without these
        assert (by_name[name].advertised, by_name[name].result) == (True, "works")
    assert resources() == before


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("90", "works"),
        ("0f0b", "#UD"),  # ud2
        ("8b042500000000", "SIGSEGV"),  # mov eax, [0]
        ("f7f0", "SIGFPE"),  # div eax, which is 0
        ("cc", "SIGTRAP"),  # int3
        ("fa", "SIGSEGV"),  # cli, a kernel's own
        ("31ffb83c0000000f05", "cannot tell"),  # exit(0) by system call
        ("31e4c3", "SIGSEGV"),  # no stack any more
    ],
)
def test_faults_are_told_and_cost_nothing(code: str, result: str) -> None:
    outcomes = process([row(code), row("90")])
    assert [outcome.result for outcome in outcomes] == [result, "works"]


def test_a_hang_ends_with_its_time() -> None:
    start = time.monotonic()
    outcomes = process([row("ebfe"), row("90")], seconds=0.2)
    assert [outcome.result for outcome in outcomes] == ["hangs", "works"]
    assert time.monotonic() - start < 8


def test_the_answer_and_the_memory_are_the_instructions() -> None:
    outcomes = process(
        [
            row("b807000000", answer=7, instead="x"),  # mov eax, 7
            row("b807000000", answer=8, instead="x"),
            row("83ca05 89d0", answer=5, instead="x"),  # or edx, 5; mov eax, edx: EDX was 0
            row("8b06 0307", answer=0, instead="x"),  # mov eax, [rsi]; add eax, [rdi]
            row("89f0 29f8", answer=2048, instead="x"),  # mov eax, esi; sub eax, edi
            row("89f8 83e03f", answer=0, instead="x"),  # mov eax, edi; and eax, 63
        ]
    )
    assert [outcome.result for outcome in outcomes] == ["works", "as x", "works", "works", "works", "works"]


def test_what_a_kernel_alone_may_execute_is_left_out() -> None:
    assert process([row("f4", ring=0)]) == []


@pytest.mark.parametrize("interpreter", ["/nonexistent", "/bin/false"])
def test_no_child_is_told(interpreter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", interpreter)
    with pytest.raises(UnavailableError, match="child"):
        process()
