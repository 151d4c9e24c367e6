"""data/messages.json: what programs say of CPUs. A row is a message; none is named in the code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property

from vcpuid import data

LAYERS = ("manager", "libvirt", "vmm", "kernel", "guest")
"""Who speaks, from the one farthest from the CPU to the nearest: a manager wraps what libvirt says of what QEMU says."""


@dataclass(frozen=True)
class MessageForm:
    """A form of message.

    `program` prints it, which belongs to a `layer`; `pattern` is a regular expression with named groups, of which at least one of the
    `probes` is a part in lower case; `vocabulary` says what the groups hold (`vocabulary.VOCABULARIES`), `features` are features of which
    it speaks without naming them, `wraps` the layers whose messages tell what this one is about. `meaning`, `fix` and `query`, a command
    line, are for people; `source` is the function that prints it, `evidence` how the text is known. `example` is one that matches.
    """

    id: str
    program: str
    layer: str
    pattern: str
    probes: tuple[str, ...]
    example: str
    vocabulary: str
    features: tuple[str, ...]
    wraps: tuple[str, ...]
    meaning: str
    fix: str
    query: str
    source: str
    evidence: str

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern, ready."""
        return re.compile(self.pattern, re.MULTILINE | re.ASCII)

    @cached_property
    def in_any_case(self) -> re.Pattern[str]:
        """The same for letters of either case, which takes longer: people and tools write a message's first letter large, or all of it."""
        return re.compile(self.pattern, re.MULTILINE | re.ASCII | re.IGNORECASE)

    @property
    def depth(self) -> int:
        """How near to the CPU who prints it is; the more the nearer."""
        return LAYERS.index(self.layer)


@cache
def messages() -> tuple[MessageForm, ...]:
    """Return all of them, in the table's order."""
    rows = data.load("messages")["rows"]
    lists = ("probes", "features", "wraps")
    return tuple(MessageForm(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows)
