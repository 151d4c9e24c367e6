"""What any text has to be that vcpuid prints, and how a place in its code is named."""

from __future__ import annotations

import traceback
import unicodedata
from collections.abc import Iterable

from fuzz.target import hold


def controls(text: str, allowed: str = "\n") -> str:
    """Give the control characters in a text, of C0, DEL and C1, but for those that are allowed."""
    return "".join(sorted({letter for letter in text if unicodedata.category(letter) == "Cc" and letter not in allowed}))


def hold_told(error: Exception) -> None:
    """Hold an error to say something; what of it is fit for a terminal is up to who prints it, and held there (`printed`)."""
    hold(str(error).strip(), f"an error says something, of {places(traceback.extract_tb(error.__traceback__))[-1]}", repr(error))


def places(frames: Iterable[traceback.FrameSummary]) -> list[str]:
    """Name the files and functions of vcpuid that were at work, outermost first; lines would change with every edit."""
    found = [(frame.filename.rpartition("/src/vcpuid/")[2], frame.name) for frame in frames]
    return [f"{file}:{name}" for file, name in found if not file.startswith("/")] or [":".join(place) for place in found] or ["?"]
