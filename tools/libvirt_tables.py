#!/usr/bin/env python3
"""Write src/vcpuid/data/libvirt-RELEASE.json: the CPU map of a libvirt, a feature and a model a row.

    python tools/libvirt_tables.py oracle/facts/libvirt/*.json.gz

The facts are libvirt's own XML files (src/cpu_map; below /usr/share/libvirt/cpu_map where it is installed), reduced to names, numbers and
relations. Features and models stand in libvirt's order, which its answers follow. A set of features is written as a hexadecimal number
whose bit N stands for the Nth feature. Every feature of x86 is one bit of one register, and no other's: a map in which one is not is
refused, since the rules of `vcpuid.libvirt` count on it.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
REGISTERS = ("eax", "ebx", "ecx", "edx")

Row = dict[str, Any]


def feature(row: Row) -> list[Any]:
    """Return a feature as [name, leaf or "msr", sub-leaf or index, register, bit], and "no" behind it where it is not migratable."""
    (bits,) = row["bits"]
    ((register, mask),) = ((name, bits[name]) for name in REGISTERS if bits.get(name))
    if mask & (mask - 1):
        raise SystemExit(f"{row['name']} has more than one bit")
    place = ["msr", bits["msr"]] if "msr" in bits else [bits["leaf"], bits["subleaf"]]
    return [row["name"], *place, register, mask.bit_length() - 1, *([row["migratable"]] if "migratable" in row else [])]


def steppings(text: str | None) -> list[int] | None:
    """Read a list of steppings such as "0-4,7"; None stands for all."""
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def model(row: Row, numbers: dict[str, int]) -> Row:
    """Return what a model's file says, without what is empty; `numbers` are the features' places in the map."""

    def members(names: list[str] | None) -> str | None:
        return f"{sum(1 << numbers[name] for name in names):x}" if names else None

    decode = [word for word in ("host", "guest") if row["decode"][word]]
    signatures = [[int(s["family"]), int(s["model"]), steppings(s.get("stepping"))] for s in row["signatures"]]
    found = {
        "name": row["name"],
        "decode": decode,
        "base": row.get("base"),
        "vendor": row.get("vendor"),
        "signatures": signatures,
        "features": members(row["features"]),
        "added": members(row.get("added")),
        "removed": row.get("removed"),
        "compat": row.get("check_partial") == "compat",
    }
    return {name: value for name, value in found.items() if value}


def table(facts: Row) -> str:
    """Write a table, a row a line."""
    release = facts["libvirt"]
    source = f"libvirt {release} src/cpu_map, by tools/libvirt_tables.py"
    vendors = [[row["name"], row["string"]] for row in facts["vendors"]]
    features = [feature(row) for row in facts["features"]]
    if len({tuple(row[1:5]) for row in features}) < len(features):
        raise SystemExit("two features share a bit")
    numbers = {row[0]: number for number, row in enumerate(features)}
    models = [model(row, numbers) for row in facts["models"]]
    lines = [f'{{"source": {json.dumps(source)},', f'"vendors": {json.dumps(vendors)},']
    for name, rows in (("features", features), ("models", models)):
        lines += [f'"{name}": [', ",\n".join(json.dumps(row) for row in rows), "]," if name == "features" else "]}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write a table for each file of facts."""
    for path in sys.argv[1:]:
        facts = json.loads(gzip.decompress(Path(path).read_bytes()))
        major, minor = facts["libvirt"].split(".")[:2]
        (DATA / f"libvirt-{major}.{minor}.json").write_text(table(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
