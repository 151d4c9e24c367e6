"""The transcripts of README and docs/crash.md are real: each vcpuid command in them is run again and must print what stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from support.command import vcpuid

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SESSIONS = [
    (command, output)
    for text in (TEXT, (ROOT / "docs" / "crash.md").read_text(encoding="utf-8"))
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for command, output in re.findall(r"^\$ (vcpuid [^\n]*)\n(.*?)(?=^\$ |\Z)", block, re.MULTILINE | re.DOTALL)
]


def test_the_readme_shows_transcripts_and_its_two_commands() -> None:
    assert len(SESSIONS) >= 3
    assert "make demo" in TEXT
    assert "make test" in TEXT


@pytest.mark.parametrize(("command", "output"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_a_transcript_is_what_the_command_prints(command: str, output: str) -> None:
    done = vcpuid(*shlex.split(command)[1:], cwd=ROOT, env={"COLUMNS": "200"})
    assert done.returncode in (0, 1), done.stderr
    printed = [line.rstrip() for line in done.stdout.strip().splitlines()]
    shown = [line.rstrip() for line in output.strip().splitlines()]
    if "…" in shown:
        cut = shown.index("…")
        rest = shown[cut + 1 :]
        assert printed[:cut] == shown[:cut]
        assert printed[len(printed) - len(rest) :] == rest
    else:
        assert printed == shown
