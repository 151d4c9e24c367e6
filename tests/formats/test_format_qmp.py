"""QEMU's replies as they are found: out of qmp-shell, between fences, behind blanks and other replies."""

from __future__ import annotations

import json

import pytest

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.writing import WRITABLE, write

REPLY = {"return": {"model": {"name": "host", "props": {"avx2": True, "sse4.1": False, "level": 13}}}}
CPU = Snapshot(named={"avx2": True, "sse4.1": False}, cpu="host", cpuinfo={"cpuid_level": "13"})
LINE, LINES = json.dumps(REPLY), json.dumps(REPLY, indent=4)
GREETING = "Welcome to the QMP low-level shell!\nConnected to QEMU 10.0.3\n\n"
TYPED = '(QEMU) query-cpu-model-expansion type=full model={"name":"host"}\n'


@pytest.mark.parametrize("reply", [LINE, LINES], ids=["line", "lines"])
@pytest.mark.parametrize(
    "text",
    [
        "REPLY\n",
        " " * 200 + "\n" * 200 + "REPLY\n",
        GREETING + TYPED + "REPLY\n(QEMU) \n",
        TYPED + "REPLY",
        "(QEMU) REPLY\n(QEMU) quit\n",
        "(QEMU) (QEMU) REPLY\n",
        "```json\nREPLY\n```\n",
        "My CPU, as QEMU 10.0.3 tells it:\n\n```\n" + TYPED + "REPLY\n```\n\nWhy no SSE4.1?\n",
        '{"QMP": {"version": {}}}\n{"return": {}}\nREPLY\n{"event": "SHUTDOWN"}\n',
        '{"return": {}} REPLY {"event": "SHUTDOWN"}',
    ],
    ids=["plain", "blanks", "qmp-shell", "shell and no end", "prompt", "prompts", "fences", "in a report", "others", "on one line"],
)  # fmt: skip
def test_a_reply_is_found(text: str, reply: str) -> None:
    assert parse(text.replace("REPLY", reply), "reply.txt") == [CPU]


def test_every_reply_is_a_cpu() -> None:
    assert parse(TYPED + LINE + "\n" + TYPED + LINES + LINE, "reply.txt") == [CPU] * 3


@pytest.mark.parametrize("cut", range(LINES.index('"model"'), len(LINES), 7))
def test_a_reply_that_is_cut_is_refused(cut: int) -> None:
    for before in (GREETING + TYPED, GREETING + TYPED + LINE + "\n" + TYPED):
        with pytest.raises(InputError, match=r"^reply.txt:\d+: damaged or cut JSON") as caught:
            parse(before + LINES[:cut] + "\n", "reply.txt")
        assert (caught.value.line or 0) > before.count("\n")


@pytest.mark.parametrize("form", WRITABLE)
def test_an_answer_without_a_known_feature_is_written_in_no_form(form: str) -> None:
    (cpu,) = parse('{"return":{"model":{"props":{"nosuch":true}}}}', "reply.json")
    with pytest.raises(InputError, match=r"^the snapshot has "):
        list(write([cpu], form))
