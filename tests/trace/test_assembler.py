"""BPF instructions come out as Linux' own assembler macros (include/linux/filter.h) make them."""

from __future__ import annotations

import pytest

from vcpuid.trace.bpf.assembler import R0, R1, R2, R3, R10, Assembler, Helper


def code(*steps: tuple[str, ...]) -> str:
    a = Assembler()
    for name, *arguments in steps:
        getattr(a, name)(*arguments)
    return a.code().hex(" ", 8)


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        (("mov", R1, R10), "bfa1000000000000"),
        (("mov", R2, -8), "b7020000f8ffffff"),
        (("do", "rsh", R0, 32), "7700000020000000"),
        (("do", "add", R1, R2), "0f21000000000000"),
        (("load", 4, R3, R1, 8), "6113080000000000"),
        (("load", 8, R3, R1, 8), "7913080000000000"),
        (("load", 1, R3, R1, 21), "7113150000000000"),
        (("store", 8, R10, -16, R0), "7b0af0ff00000000"),
        (("store", 4, R10, -4, 7), "620afcff07000000"),
        (("add_atomically", R0, 0, R1), "db10000000000000"),
        (("call", Helper.KTIME_GET_NS), "8500000005000000"),
        (("map", R1, 5), "1811000005000000 0000000000000000"),
        (("address", R2, R10, -8), "bfa2000000000000 07020000f8ffffff"),
        (("exit",), "b700000000000000 9500000000000000"),
    ],
    ids=str,
)
def test_an_instruction(step: tuple[str, ...], wanted: str) -> None:
    assert code(step) == wanted


def test_jumps_count_instructions_to_their_label_forwards_and_backwards() -> None:
    forwards = code(("jump_if", R0, "==", 0, "out"), ("mov", R1, 1), ("label", "out"), ("exit",))
    assert forwards.startswith("1500010000000000 ")
    backwards = code(("label", "again"), ("mov", R1, 1), ("jump_if", R1, "!=", R2, "again"))
    assert backwards == "b701000001000000 5d21feff00000000"


def test_a_label_that_is_nowhere_is_an_error() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        code(("jump_if", R0, "==", 0, "nowhere"))
