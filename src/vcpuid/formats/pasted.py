"""Text as people paste it: quoted in mail, out of a log, between fences, amid prose. Lines keep their numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vcpuid.formats.mixed import form_in

LIMIT = 1 << 20
"""Characters of a text; trackers of bugs and mail servers take no larger ones."""

QUOTE = r"[>| \t]*"
"""What mail puts before a line that it quotes, and blanks; a pattern that matches nothing, too."""

_PROGRAM = r"(?:\S+ (?:kernel|\S+\[[0-9]+\]): )?"
_TIME = (
    r"\[[ 0-9]+\.[0-9]+\] ?",  # the kernel's log
    rf"[0-9]{{4}}-[0-9][0-9]-[0-9][0-9][T ][0-9][0-9]:[0-9][0-9]:[0-9][0-9]\S* {_PROGRAM}",  # logs of builds, journalctl -o short-iso
    rf"[A-Z][a-z]{{2}} [ 0-9][0-9] [0-9][0-9]:[0-9][0-9]:[0-9][0-9] {_PROGRAM}",  # syslog
    r"[0-9][0-9]:[0-9][0-9]:[0-9][0-9](?:\.[0-9]+)? ",
)
_AROUND = re.compile(rf"^{QUOTE}(?:(?:{'|'.join(_TIME)})[ \t]*)?(?:```.*)?(?!^)", re.MULTILINE)
_TICKS = re.compile(r"^`(?=[<{\[])|(?<=[>}\]])`(?=[ \t]*$)", re.MULTILINE)
"""What marks code within a line of a report, around XML and JSON."""
_MARKUP = re.compile("[<>{}]")
_BEGINS = re.compile(r"^[^\S\n]*[<{\[]", re.MULTILINE)


def unwrapped(text: str) -> Iterator[str]:
    """Give a text without what stands before each of its lines, and then, where it is XML or JSON, without the prose around that."""
    if len(text) > LIMIT:
        return
    bare = _TICKS.sub("", _AROUND.sub("", text))
    if bare != text:
        yield bare
    document = _document(bare)
    if document is not None and document != bare:
        yield document


def _document(text: str) -> str | None:
    """Blank the lines before the first that begins as XML or JSON does, and behind the last that ends so: prose, without brackets."""
    begins = _BEGINS.search(text)
    if begins is None:
        return None
    lines = text.split("\n")
    first = text.count("\n", 0, begins.start())
    last = next((number for number in range(len(lines), 0, -1) if lines[number - 1].rstrip().endswith((">", "}", "]"))), None)
    if last is None:
        return None
    around = lines[:first], lines[last:]
    prose = [*around[0], *around[1]]
    if any(_MARKUP.search(line) for line in prose) or form_in(prose):
        return None
    return "\n".join([*([""] * len(around[0])), *lines[first:last], *([""] * len(around[1]))])
