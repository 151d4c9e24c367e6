"""What `vcpuid record` writes, row by row, no longer than is read again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TextIO

from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.formats.files import SIZE_LIMIT
from vcpuid.formats.json_snapshot import as_object
from vcpuid.formats.recording import CALL_LIMIT, SCHEMA

_MARGIN = 1 << 12
"""Room for the last row."""

Row = Mapping[str, object]


def entries(table: CpuidTable) -> list[list[int]]:
    """Give a table's entries as a row has them."""
    return [list(entry) for entry in table]


class RecordingWriter:
    """Writes a recording to a stream: the first line at once, then a row a call; what comes when it is full is counted.

    `by` says how it is made ("ptrace", "bpf", "inject"), `command` what was run, `machine` is a snapshot to be kept with it.
    """

    def __init__(self, stream: TextIO, by: str, command: Sequence[str] = (), kernel: str = "", machine: Snapshot | None = None) -> None:
        self.calls = self._left_out = 0
        self._stream, self._room = stream, SIZE_LIMIT - _MARGIN
        head: dict[str, object] = {"schema": SCHEMA, "by": by}
        head |= {"command": list(command)} if command else {}
        head |= {"kernel": kernel} if kernel else {}
        if machine is not None:
            host = as_object(replace(machine, kernel=None, notes=()))
            head["host"] = host
        self._put(head)

    def __call__(self, row: Row) -> None:
        """Write a row."""
        if self._left_out or self.calls == CALL_LIMIT or not self._put(row):
            self._left_out += 1
        else:
            self.calls += 1

    def end(self) -> None:
        """Write how many rows did not find room, if any."""
        if self._left_out:
            self._room = _MARGIN
            self._put({"left_out": self._left_out})

    def _put(self, row: Row) -> bool:
        text = json.dumps(row, separators=(",", ":")) + "\n"  # ASCII alone, so that letters are bytes
        if len(text) > self._room:
            return False
        self._room -= len(text)
        self._stream.write(text)
        self._stream.flush()  # whatever ends this process leaves what was said up to then
        return True
