"""docs/troubleshooting.md: every message in it is known to diagnose, and every command line answers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from support import captures
from support.command import vcpuid
from vcpuid.diagnosis import diagnose

PAGE = (Path(__file__).parents[1] / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^    (vcpuid [^\n]*)$", PAGE, re.MULTILINE)
SKYLAKE, MILAN = (str(captures.capture(name)) for name in ("kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"))
LIVE = ("probe",)
"""Verbs that ask this machine."""


def test_there_are_twenty_symptoms() -> None:
    assert len(re.findall("^## ", PAGE, re.MULTILINE)) >= 20


@pytest.mark.parametrize("text", MESSAGES)
def test_a_message_is_known(text: str) -> None:
    found = diagnose(text)
    assert found.recognised
    assert found.remedies


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_answers(command: str, tmp_path: Path) -> None:
    log = tmp_path / "QEMU.log"
    log.write_text("".join(MESSAGES), encoding="utf-8")
    folder = tmp_path / "hosts"
    folder.mkdir()
    for host in (SKYLAKE, MILAN):
        (folder / Path(host).name).symlink_to(host)
    known = {"HOST": SKYLAKE, "OTHER": MILAN, "QEMU.log": str(log), "FOLDER": str(folder)}
    words = [known.get(word, word) for word in shlex.split(command)[1:]]
    if words[0] in LIVE:
        pytest.skip("it asks this machine")
    done = vcpuid(*words)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout
