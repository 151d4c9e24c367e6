"""The transcripts of README and of pages in docs/ are real: each vcpuid command in them is run again and must show what stands there."""

from __future__ import annotations

import pytest

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


def test_the_blocks_of_the_readme_fit_a_terminal() -> None:
    """Those of docs/crash.md also hold a guest's log, as it was."""
    for block in TRANSCRIPTS.BLOCK.findall(PAGES["README.md"]):
        assert all(len(line) <= TRANSCRIPTS.COLUMNS or line.startswith("$ ") for line in block.splitlines())
