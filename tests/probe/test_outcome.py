from __future__ import annotations

import pytest

from vcpuid.probe import ABSENT, HAZARD, HIDDEN, OK, VERDICTS, Outcome
from vcpuid.probe.instructions import INSTRUCTIONS, Instruction
from vcpuid.probe.outcome import judge

BY_NAME = {instruction.name: instruction for instruction in INSTRUCTIONS}


@pytest.mark.parametrize(
    ("name", "raised", "answer", "result"),
    [
        ("xtest", None, 0, "works"),
        ("xtest", "#UD", 0, "#UD"),
        ("xtest", "SIGSEGV", 0, "SIGSEGV"),
        ("lzcnt", None, 32, "works"),
        ("lzcnt", None, 0, "as BSR"),
        ("tzcnt", None, 0xFFFFFFFF_00000020, "works"),
        ("tzcnt", None, 0, "as BSF"),
        ("prefetchw", None, 0, "cannot tell"),
        ("prefetchw", "#UD", 0, "#UD"),
        ("enqcmd", "#GP", 0, "works"),
        ("enqcmd", "SIGSEGV", 0, "works"),
        ("enqcmd", "#UD", 0, "#UD"),
        ("paddb", "#GP", 0, "#GP"),
    ],
)
def test_what_was_seen_gives_the_result(name: str, raised: str | None, answer: int, result: str) -> None:
    instruction: Instruction = BY_NAME[name]
    assert judge(instruction, raised, answer)[0] == result


@pytest.mark.parametrize(
    ("advertised", "result", "verdict"),
    [
        (True, "works", OK),
        (False, "works", HIDDEN),
        (True, "#UD", HAZARD),
        (True, "as BSR", HAZARD),
        (True, "hangs", HAZARD),
        (False, "#UD", ABSENT),
        (False, "as BSR", ABSENT),
        (True, "cannot tell", "cannot tell"),
        (True, "cannot enable", "cannot enable"),
        (False, "cannot enable", "cannot enable"),
    ],
)
def test_advertised_by_result_gives_the_verdict(advertised: bool, result: str, verdict: str) -> None:
    assert Outcome("rtm", "xtest", advertised, result).verdict == verdict
    assert verdict in VERDICTS


def test_what_user_code_sees_is_advertised_too() -> None:
    assert Outcome("rtm", "xtest", False, "#UD", to_user=True).verdict == HAZARD
    assert Outcome("rtm", "xtest", False, "works", to_user=True).verdict == HIDDEN
