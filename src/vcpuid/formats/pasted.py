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
_AROUND = re.compile(rf"^{QUOTE}(?:(?:{'|'.join(_TIME)})[ \t]*)?(?:```.*)?", re.MULTILINE)
_TICKS = re.compile(r"^`(?=[<{\[])|(?<=[>}\]])`(?=[ \t]*$)", re.MULTILINE)
"""What marks code within a line of a report, around XML and JSON."""
_MARKUP = re.compile("[<>{}]")


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
    lines = text.split("\n")
    begins = [number for number, line in enumerate(lines) if line.lstrip().startswith(("<", "{", "["))]
    ends = [number for number, line in enumerate(lines, 1) if line.rstrip().endswith((">", "}", "]"))]
    if not begins or not ends:
        return None
    around = lines[: begins[0]], lines[ends[-1] :]
    prose = [*around[0], *around[1]]
    if any(_MARKUP.search(line) for line in prose) or form_in(prose):
        return None
    return "\n".join([*([""] * len(around[0])), *lines[begins[0] : ends[-1]], *([""] * len(around[1]))])
