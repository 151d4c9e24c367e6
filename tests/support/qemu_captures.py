"""What real QEMUs answered on hosts that were files: rows of captures/qemu, and the hosts that they name ("bochs/tigerlake@6.12")."""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

from support import captures
from vcpuid.cpuid import Snapshot
from vcpuid.formats.lines import parse_snapshot

FOLDER = captures.CAPTURES / "qemu"
RUNS = sorted(path.name.removesuffix(".jsonl.gz") for path in FOLDER.glob("*.jsonl.gz"))
"""The files of rows; docs/conformance.md and the tests that read them tell what each varies."""


@cache
def host_lines(folder: Path = FOLDER) -> dict[str, list[str]]:
    """The lines of every host, by name."""
    found: dict[str, list[str]] = json.loads(gzip.decompress((folder / "hosts.json.gz").read_bytes()))
    return found


@cache
def qemu_host(name: str, folder: Path = FOLDER) -> Snapshot:
    """A host as QEMU saw it."""
    return parse_snapshot(host_lines(folder)[name], name)


def qemu_rows(name: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The runs of a file, "sets" say; none where there is no such file."""
    return captures.rows(folder / f"{name}.jsonl.gz")


def qemu_origin(row: dict[str, Any], folder: Path = FOLDER) -> dict[str, str | None]:
    """Whose answer a run is, for the marker `conformance`; no kernel's where the host names none."""
    return {"kernel": row["host"].partition("@")[2] or None, "qemu": row["qemu"], "vendor": qemu_host(row["host"], folder).vendor}
