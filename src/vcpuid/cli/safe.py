"""What a terminal and a spreadsheet may be shown: text of dumps, of files' names and of arguments does nothing there but stand.

Characters that move the cursor, colour, retitle or turn the order of writing are spelled as Python spells them, `\\x1b` for ESC. A line
that tells an error or a remark has no end within it, and no word that goes on for ever; no field of CSV begins a formula.
"""

from __future__ import annotations

import re

from vcpuid.errors import bounded

_ORDER = "\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069"
"""Ends of lines and paragraphs, and what overrides the direction of writing."""
_UNSAFE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\udc80-\udc9f{_ORDER}]")
"""All that may not stand in any output: C0 but for tabs and line ends, DEL, C1, also as bytes of a file's name that are no text."""
_BYTES = range(0xDC80, 0xDD00)

_FORMULA = re.compile(r"[=+\-@].")
_NUMBER = re.compile(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")


def clean(text: str) -> str:
    """Spell out what a terminal would obey; tabs and line ends stay."""
    return _UNSAFE.sub(_spelled, text) if _UNSAFE.search(text) else text


def line(text: str) -> str:
    """Make one line of a text, without its end and without tabs, which part its words for who reads it from a pipe."""
    return clean(text).replace("\n", "\\n").replace("\t", "\\t")


def message(text: str) -> str:
    """Make one line of bounded length of a text that may repeat an argument."""
    return bounded(line(text))


def field(text: str) -> str:
    """Spell a field of CSV: one that is text and would begin a formula has an apostrophe before it, which spreadsheets do not show."""
    told = line(text)
    return f"'{told}" if _FORMULA.match(told) and not _NUMBER.fullmatch(told) else told


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    code -= 0xDC00 if code in _BYTES else 0
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
