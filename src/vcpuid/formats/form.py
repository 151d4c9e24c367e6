"""What a file format is: how to tell it by its content, its reader and its writer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import NamedTuple

from vcpuid.cpuid import Snapshot


def line_begins(pattern: str) -> Callable[[str], bool]:
    """Return a test whether some line of a text begins with `pattern`: ten times as fast as `^` with re.MULTILINE."""
    sign = re.compile(f"\n(?:{pattern})")
    return lambda text: sign.search("\n" + text) is not None


class Format(NamedTuple):
    """A file format.

    `name` is what `vcpuid convert --to` calls it, `title` what it is, for people. `recognises` looks at a text; `read` takes the text and
    the source's name for messages, and gives a snapshot for each CPU (raises InputError, with the line where there is one). `write` takes
    snapshots and gives lines without their ends; `holds` names the parts of a snapshot that come back when they are read again, the first
    of them the CPU's table or its features' names; `several`: whether the form has room for more than one CPU. `loses` tells what else of a
    snapshot ready to be written does not come back. A format without `read` or `write` has none.
    """

    name: str
    title: str
    recognises: Callable[[str], bool]
    read: Callable[[str, str], list[Snapshot]] | None = None
    write: Callable[[Sequence[Snapshot]], Iterator[str]] | None = None
    holds: tuple[str, ...] = ("raw",)
    several: bool = False
    loses: Callable[[Snapshot], list[str]] | None = None

    @property
    def tables(self) -> bool:
        """Whether what CPUID answers is in it, not names of features alone."""
        return not {"raw", "table", "supported"}.isdisjoint(self.holds)


KNOWN: list[Format] = []
"""Every format, in the order in which they are asked. The package fills it: a reader asks it whether a text holds another form too."""

EVERYTHING = tuple(part.name for part in fields(Snapshot))
"""All parts of a snapshot: what the forms of vcpuid's own hold."""
