"""vcpuid's own form among the others; `vcpuid.formats.lines` says what it is."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.form import EVERYTHING, Format, line_begins
from vcpuid.formats.lines import format_snapshot, parse_snapshot
from vcpuid.formats.mixed import refuse_mixed

_SIGN = (
    r"(?:RAW|SUP|EMU|HV|TAB|GOT) [0-9a-f]+\.[0-9a-f]+ |(?:HW)?MSR [0-9a-f]+ (?:1|0|-1) [0-9a-f]+(?:\n|$)"
    r"|CPUINFO [a-z_]+ |NAMED \S+ (?:on|off)(?:\n|$)"
)
"""A line that no other form has; what stands in a value (CPUINFO's, above all) may look like some other form."""


def read(text: str, source: str) -> list[Snapshot]:
    """Read the one machine of a snapshot; raises InputError as `parse_snapshot` does, and where all of it is a line that may be cut."""
    snapshot = parse_snapshot(io.StringIO(text, newline="\n"), source)
    if not text.endswith("\n") and not snapshot.raw and snapshot.supported is None and snapshot.table is None:
        raise InputError("no CPUID in it, and its last line may be cut", source=source, line=text.count("\n") + 1)
    refuse_mixed(snapshot.notes, source)
    return [snapshot]


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield the lines of the first snapshot."""
    yield from format_snapshot(snapshots[0])


FORMAT = Format("snapshot", "vcpuid's own, of one machine", line_begins(_SIGN), read, write, holds=EVERYTHING)
