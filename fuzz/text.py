"""What any text has to be that vcpuid prints, and how a place in its code is named."""

from __future__ import annotations

import traceback
import unicodedata
from collections.abc import Iterable

from fuzz.target import hold

_LONGEST = 2000
"""Letters of an error: what it quotes is cut."""


def controls(text: str, allowed: str = "\n") -> str:
    """Give the control characters in a text, of C0, DEL and C1, but for those that are allowed."""
    return "".join(sorted({letter for letter in text if unicodedata.category(letter) == "Cc" and letter not in allowed}))


def hold_told(error: Exception) -> None:
    """Hold an error's text to be one line, printable and of bounded length; where it was raised tells one kind from another."""
    place, text = places(traceback.extract_tb(error.__traceback__))[-1], str(error)
    hold("\n" not in text, f"an error is one line, of {place}", repr(text))
    hold(not controls(text), f"an error has no control characters, of {place}", repr(text))
    hold(len(text) <= _LONGEST, f"an error is short, of {place}", f"{len(text)} letters: {text[:200]!r}")


def places(frames: Iterable[traceback.FrameSummary]) -> list[str]:
    """Name the files and functions of vcpuid that were at work, outermost first; lines would change with every edit."""
    found = [(frame.filename.rpartition("/src/vcpuid/")[2], frame.name) for frame in frames]
    return [f"{file}:{name}" for file, name in found if not file.startswith("/")] or [":".join(place) for place in found] or ["?"]
