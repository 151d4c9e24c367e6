"""The transcripts of README and of pages in docs/ are real: each vcpuid command in them is run again and must show what stands there.

The commands for the jobs that README begins with are run, too.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vcpuid as package
from support.command import vcpuid
from support.example_files import lay_out
from support.tools import load_tool

TRANSCRIPTS = load_tool("transcripts")
PAGES = {name: (TRANSCRIPTS.ROOT / name).read_text(encoding="utf-8") for name in TRANSCRIPTS.PAGES}
SESSIONS = [session for text in PAGES.values() for session in TRANSCRIPTS.sessions(text)]


def test_the_readme_shows_transcripts_and_its_two_commands() -> None:
    assert len(SESSIONS) >= 3
    assert "make demo" in PAGES["README.md"]
    assert "make test" in PAGES["README.md"]


@pytest.mark.parametrize(("command", "output"), SESSIONS, ids=[command for command, _ in SESSIONS])
def test_a_transcript_is_what_a_terminal_shows(command: str, output: str) -> None:
    status, printed = TRANSCRIPTS.run(command)
    assert status in (0, 1)
    shown = [line.rstrip() for line in output.strip().splitlines()]
    assert TRANSCRIPTS.shortened(printed, shown) == shown
    assert all(len(line) <= TRANSCRIPTS.COLUMNS or max(map(len, line.split())) > TRANSCRIPTS.COLUMNS for line in shown)


JOBS = re.search(r"^\| I want to … \|.*?\n\n", PAGES["README.md"], re.MULTILINE | re.DOTALL)
assert JOBS is not None
COMMANDS = [text.replace("\\|", "|") for text in re.findall(r"`((?:for |vcpuid )[^`]*)`", JOBS[0])]
PYTHON = re.search(r"`(vcpuid\.qemu\.models\([^`]*)`", JOBS[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("jobs")
    lay_out(folder)
    return folder


def test_what_people_come_for_stands_on_the_first_screen() -> None:
    lines = PAGES["README.md"].splitlines()
    last = next(number for number, line in enumerate(lines) if line.startswith("| have QEMU's models"))
    assert last < 40
    assert len(COMMANDS) == 7
    shown = [line.split("  #")[0].strip() for line in vcpuid().stdout.splitlines() if line.startswith("  vcpuid ")]
    assert all(f"    {re.split('  +', line)[0]} " in PAGES["README.md"] for line in shown)


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_of_a_job_answers(command: str, folder: Path) -> None:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    broken = "hosts/rack2/node6.txt:1: no CPUID in it" in done.stderr  # one of the hosts, on purpose
    assert done.returncode in (0, 1) or (broken and done.returncode == 3)
    assert done.stdout
    assert not re.search("Usage|Traceback", done.stderr)


def test_the_call_of_a_job_answers(folder: Path) -> None:
    assert PYTHON is not None
    found = eval(PYTHON[1], {"vcpuid": package, "host": package.read(str(folder / "host.txt"))})
    assert len(found) > 100
    assert {"Broadwell-v2"} < {model.name for model in found if model.usable}


def test_the_blocks_of_the_readme_fit_a_terminal() -> None:
    """Those of docs/crash.md also hold a guest's log, as it was."""
    for block in TRANSCRIPTS.BLOCK.findall(PAGES["README.md"]):
        assert all(len(line) <= TRANSCRIPTS.COLUMNS or line.startswith("$ ") for line in block.splitlines())
