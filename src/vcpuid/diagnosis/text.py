"""Pasted text made plain, each character with its place in the paste: out of logs, mail, YAML, JSON, terminals and word processors."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property

Replace = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]
"""A pattern, and what stands in the place of a find; of an empty one nothing does."""

_CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff"
"""Control characters but for tab and line end, and what is there and has no width; with ESC begin a terminal's colours."""

_DAY, _TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "[0-9]{2}:[0-9]{2}:[0-9]{2}"
_TIMES = (
    r"\[[ 0-9]{1,12}\.[0-9]{1,9}\](?:\[ ?[TC][0-9]{1,9}\])?",  # the kernel's log, also with the columns of its thread or CPU
    rf"{_DAY}[T ]{_TIME}[0-9.,]{{0,12}}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?:?"  # journals, QEMU; libvirt with its thread and place
    r"(?: [0-9]{1,9}: (?:error|warning|info|debug) ?: \w{1,80}:[0-9]{1,7} ?:)?",
    rf"[A-Z][a-z]{{2}} [ 0-9][0-9] {_TIME}(?: \S{{1,80}} \S{{1,80}}?\[[0-9]{{1,9}}\]:)?",  # syslog, with host and program
    rf"{_TIME}(?:[.,][0-9]{{1,9}})?",
)
_BEFORE = re.compile(
    rf"^(?!$)[ \t]*(?:[>|│][> |│\t]{{0,20}})?(?:<[0-9]{{1,3}}>)?(?:(?:{'|'.join(_TIMES)})[ \t]*)?(?:(?:kernel|\S{{1,60}} kernel): ?)?(?!^)",
    re.MULTILINE,
)
"""What mail and logs put before a line, where they do: an empty find at each line's start would cost more than all others."""

_PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201a\u00b4`", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-"),
    **dict.fromkeys("\u00a0\u202f", " "),
    "&quot;": '"',
    "&apos;": "'",
    "&#39;": "'",
    "&#34;": '"',
    "&lt;": "<",
    "&gt;": ">",
    "&amp;": "&",
    "''": "'",
}
_ESCAPED = {"n": "\n", "t": "\t", "r": "", '"': '"', "'": "'"}
_LISTED = r"['\"]?[\w.+:/-]{1,80}['\")\]}]{0,3}[ \t│|]*(?:[,;]|$)"
"""What a line begins with that goes on with a list: a name, and behind it a comma or nothing."""
_ODD = "".join(text for text in _PLAIN if len(text) == 1)
_TOKENS = re.compile(
    rf"[{_CONTROLS},\-\\'&{_ODD}](?:"
    rf"(?P<gone>(?<=\x1b)\[[0-9;]*[A-Za-z]|(?<=[{_CONTROLS}]))"
    rf"|(?P<comma>(?<=,)[ \t│|]*\n[ \t>|│]*(?={_LISTED}))|(?P<hyphen>(?<=\w-)\n[ \t>|│]*(?=\w))"
    r"|(?P<escaped>(?<=\\)(?<!\\\\)\\*[ntr\"'])"
    rf"|(?P<plain>(?<=[{_ODD}])|(?<=&)(?:quot|apos|#39|#34|lt|gt|amp);|(?<=\w')'(?=\w)))",
    re.MULTILINE,
)
"""It begins with the characters that it is about, and looks back at which it was: so re skips all others at once."""
_BLANKS = re.compile(r"\s{2,}|[^\S ]")


class Text:
    """A text in which a pattern's finds were replaced; `origin` finds the place of a character in the first text of such a row.

    A paste is one by itself. Where the pieces lie is worked out when that is asked: most pastes hold nothing of which it would be.
    """

    def __init__(self, text: str, made_of: Text | None = None, replace: Replace | None = None) -> None:
        self.text, self._made_of, self._replace = text, made_of, replace

    @cached_property
    def _pieces(self) -> tuple[list[int], list[int]]:
        """Where pieces begin, here and in the text that this was made of: what stood between finds, and what stands in their place."""
        starts, origins, length, at = [0], [0], 0, 0
        assert self._made_of is not None
        assert self._replace is not None
        pattern, new = self._replace
        for found in pattern.finditer(self._made_of.text):
            start, end = found.span()
            length += start - at
            starts.append(length)
            origins.append(start)
            length += len(new(found))
            starts.append(length)
            origins.append(end)
            at = end
        return starts, origins

    def origin(self, position: int) -> int:
        """Return the place in the first text of a character here."""
        if self._made_of is None:
            return position
        starts, origins = self._pieces
        piece = bisect_right(starts, position) - 1
        return self._made_of.origin(origins[piece] + position - starts[piece])

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the place in the first text of a stretch here, which holds at least a character."""
        return self.origin(start), self.origin(end - 1) + 1


def _rewritten(text: Text, pattern: re.Pattern[str], new: Callable[[re.Match[str]], str]) -> Text:
    """Replace what a pattern finds; a replacement's origin is that of what stood there."""
    return Text(pattern.sub(new, text.text), text, (pattern, new))


def plain(paste: str) -> Text:
    """Take quoting, times and escapes away, and put a list's lines together; lines stay lines."""
    return _rewritten(_rewritten(Text(paste), _TOKENS, _new), _BEFORE, lambda _: "")


def unwrapped(text: Text) -> Text:
    """Make every stretch of blanks and line ends one blank: a window's edge breaks a message anywhere between its words."""
    whole = text.text
    before, behind = whole[:1].isspace(), whole[-1:].isspace()
    words = " ".join(whole.split())  # what _BLANKS would do, in a tenth of the time
    return Text(f"{' ' * before}{words}{' ' * (behind and bool(words))}", text, (_BLANKS, lambda _: " "))


def _new(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "comma":
            return ", "
        case "hyphen":
            return "-"
        case "escaped":
            return _ESCAPED[found[0][-1]]
        case "plain":
            return _PLAIN[found[0]]
    return ""
