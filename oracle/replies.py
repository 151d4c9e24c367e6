#!/usr/bin/env python3
"""Take the facts out of what QEMUs answered to libvirt's authors: the files caps_*.replies of libvirt's tests/qemucapabilitiesdata.

    oracle/replies.py -o tests/captures/replies.json.gz --origin "libvirt 9.0.0" caps_5.2.0.x86_64.replies caps_6.0.0.x86_64.replies …

Such a file is a dialogue with one QEMU over QMP: a command, what it returned, the next command. What is kept of it is what
tests/conformance/test_replies.py compares: whether KVM was there, the CPU models, what they stand for and lack, the machine types, the
properties of CPUs, what host expands to. The result is a JSON object, gzipped: `origin`, and `replies`, by the file's name a list of
[command, arguments, value], where a value that the tests ask nothing of is left out. Exit status 3 for a file that is none.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vcpuid.errors import InputError

KEPT = {
    "query-kvm": ("enabled",),
    "query-cpu-definitions": ("name", "alias-of", "deprecated", "unavailable-features"),
    "query-machines": ("name", "alias", "cpu-max"),
    "qom-list-properties": ("name", "type", "default-value"),
    "query-cpu-model-expansion": ("model",),
}
"""The commands whose replies are kept, and of each the members of what it returned, or of every row of that."""

CPU = "max-x86_64-cpu"
"""Of the types whose properties libvirt lists, the one that has all features."""


def dialogue(text: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Give each command with its arguments and what it returned, None where it failed. Raises ValueError for what is no dialogue."""
    decoder, place, asked = json.JSONDecoder(), 0, None
    while start := re.compile(r"\S").search(text, place):
        found, place = decoder.raw_decode(text, start.start())
        if "execute" in found:
            asked = found
        elif asked is None:
            raise ValueError("a reply comes before any command")
        else:
            yield asked["execute"], asked.get("arguments", {}), found.get("return")


def facts(text: str) -> list[list[Any]]:
    """Give of a dialogue what is kept; raises ValueError for what is none."""
    found = []
    for command, arguments, value in dialogue(text):
        if command not in KEPT or value is None or (command == "qom-list-properties" and arguments["typename"] != CPU):
            continue
        rows = [{key: row[key] for key in KEPT[command] if key in row} for row in (value if isinstance(value, list) else [value])]
        found.append([command, arguments, rows if isinstance(value, list) else rows[0]])
    if not found:
        raise ValueError("it has no reply that is kept")
    return found


def main() -> int:
    """Read the arguments, write the facts; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--origin", required=True, help="whose files these are, with release or commit")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    replies = {}
    for file in options.files:
        try:
            replies[file.name] = facts(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            told = error.strerror if isinstance(error, OSError) else f"no dialogue with a QEMU: {error}"
            print(f"replies.py: {file}: {told}", file=sys.stderr)
            return InputError.exit_status
    data = json.dumps({"origin": options.origin, "replies": replies}).encode()
    options.output.write_bytes(gzip.compress(data, mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
