"""The file formats that `read` knows, told apart by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from vcpuid.cpuid import Snapshot
from vcpuid.sources.snapshot import parse_snapshot


class Format(NamedTuple):
    """A file format: `recognises` looks at the text, `parse` takes its lines and the source's name for messages."""

    name: str
    recognises: Callable[[str], bool]
    parse: Callable[[Iterable[str], str], Snapshot]


FORMATS = (Format("snapshot", lambda text: True, parse_snapshot),)
"""Asked in this order. The snapshot comes last: it may begin with any line at all, and its reader names what is wrong."""


def sniff(text: str) -> Format:
    """Return the first format that recognises the text."""
    return next(known for known in FORMATS if known.recognises(text))
