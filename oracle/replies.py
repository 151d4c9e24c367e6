#!/usr/bin/env python3
"""Take the facts out of what QEMUs answered to libvirt's authors: the files caps_*.replies and caps_*.xml of libvirt's
tests/qemucapabilitiesdata.

    oracle/replies.py -o tests/captures/replies.json.gz --origin "libvirt 9.0.0" caps_5.2.0.x86_64.replies caps_6.0.0.x86_64.replies …
    oracle/replies.py -o tests/captures/capabilities.json.gz --origin "libvirt 01cb769a183e" caps_10.1.0_x86_64.xml …

The first kind is a dialogue with one QEMU over QMP: a command, what it returned, the next command. The second is what libvirt made of the
same dialogue; it tells less: no list of the properties of CPUs, not which model a name stands for, and of the expansions of host only what
is true with migratable and without. What is kept is what tests/conformance/test_replies.py compares: whether KVM was there, the CPU models,
what they stand for and lack, the machine types, the properties of CPUs, what host expands to. The result is a JSON object, gzipped:
`origin`, and `replies`, by the file's name a list of [command, arguments, value], where a value that the tests ask nothing of is left out.
Exit status 3 for a file that is none.
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
from xml.etree import ElementTree

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


def capabilities(text: str) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Give the dialogue that a file of capabilities sums up, as far as it tells it. Raises ValueError for what is no such file."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    if root.tag != "qemuCaps" or root.find("cpu") is None:
        raise ValueError("it names no CPUs")
    yield "query-kvm", {}, {"enabled": root.find("cpu[@type='kvm']") is not None}
    for accelerator, expanded in HOSTS.items():
        if (host := root.find(f"hostCPU[@type='{accelerator}']")) is None:
            continue
        yield "query-machines", {}, [_machine(row) for row in root.iterfind(f"machine[@type='{accelerator}']")]
        yield "query-cpu-definitions", {}, [_model(row) for row in root.iterfind(f"cpu[@type='{accelerator}']")]
        for asked in ({}, {"props": {"migratable": False}}):
            props = {row.attrib["name"]: _value(row, migratable=not asked) for row in host}
            yield "query-cpu-model-expansion", {"type": "static", "model": {"name": expanded, **asked}}, {"model": {"props": props}}


HOSTS = {"kvm": "host", "tcg": "max"}
"""The CPU that libvirt has expanded, by accelerator."""


def _machine(row: ElementTree.Element) -> dict[str, Any]:
    alias = {"alias": row.attrib["alias"]} if "alias" in row.attrib else {}
    return {"name": row.attrib["name"], **alias, "cpu-max": int(row.attrib["maxCpus"])}


def _model(row: ElementTree.Element) -> dict[str, Any]:
    lacks = [blocker.attrib["name"] for blocker in row]
    return {"name": row.attrib["name"], "deprecated": row.get("deprecated") == "yes", "unavailable-features": lacks}


def _value(row: ElementTree.Element, migratable: bool) -> bool | int | str:
    value = row.attrib["value"]
    match row.attrib["type"]:
        case "boolean":
            return value == "true" and (not migratable or row.get("migratable") == "yes")
        case "number":
            return int(value)
    return value


def facts(text: str) -> list[list[Any]]:
    """Give of a dialogue, or of a file of capabilities, what is kept; raises ValueError for what is none."""
    found = []
    for command, arguments, value in capabilities(text) if text.startswith("<") else dialogue(text):
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
            told = error.strerror if isinstance(error, OSError) else f"nothing that a QEMU told libvirt: {error}"
            print(f"replies.py: {file}: {told}", file=sys.stderr)
            return InputError.exit_status
    data = json.dumps({"origin": options.origin, "replies": replies}).encode()
    options.output.write_bytes(gzip.compress(data, mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
