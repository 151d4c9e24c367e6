"""Pastes: messages of QEMU, libvirt, KubeVirt, kernels and programs, several in a log, changed; `vcpuid diagnose` reads such."""

from __future__ import annotations

from random import Random

from fuzz import mutate
from fuzz.target import Case, Target, hold
from fuzz.text import hold_told
from vcpuid.diagnosis import diagnose
from vcpuid.diagnosis.messages import messages
from vcpuid.diagnosis.recognise import recognise
from vcpuid.errors import VcpuidError

_BEFORE = (
    "",
    "",
    "2026-11-23T10:20:30.123456Z ",
    "Nov 23 10:20:30 host kernel: [   12.345678] ",
    "> ",
    "\x1b[31m",
    '{"level":"error","msg":"',
)
_MOST = 1 << 16


def make(random: Random) -> Case:
    """Put the examples of some messages into a log, and change it."""
    before = random.choice(_BEFORE)
    chosen = [row.example for row in random.choices(messages(), k=random.choice((1, 1, 2, 5)))]
    width = random.choice((0, 0, 40, 80))
    lines = [before + line for example in chosen for line in (_broken(example, width) if width else [example])]
    data = "\n".join(lines).encode()
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        data = random.choice(mutate.CHANGES)(random, data)
    return {"text": data[:_MOST].decode("utf-8", "replace")}


def _broken(text: str, width: int) -> list[str]:
    """Break a line as a narrow window does."""
    return [text[place : place + width] for place in range(0, len(text), width)]


def check(case: Case) -> str:
    """Find messages in it: each where it stands, in the order of the paste; and diagnose it."""
    text = case["text"]
    found = recognise(text)
    hold(all(0 <= match.start < match.end <= len(text) for match in found), "a message stands in the paste", found)
    hold([match.start for match in found] == sorted(match.start for match in found), "messages come in the paste's order", found)
    try:
        diagnose(text).as_dict()
    except VcpuidError as error:
        hold_told(error)
        return "refused"
    return "recognised" if found else "named"


TARGET = Target("pastes", "messages in logs and reports, for diagnose", make, check, share=0.5, seconds=2.0)
