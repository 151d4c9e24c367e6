"""Write data/fields.json: the fields of every leaf of CPUID, descriptors of leaf 2, names of processors.

    python tools/fields.py --linux RELEASE=TREE > src/vcpuid/data/fields.json

TREE is the source of that release of Linux. From it are read

    tools/arch/x86/kcpuid/cpuid.csv           fields; its header must say CC0-1.0, the public domain: any other licence is refused
    arch/x86/kernel/cpu/cpuid_0x2_table.c     facts: what the descriptors of leaf 2 stand for
    arch/x86/include/asm/intel-family.h       facts: Intel's models, each of which microarchitectures.csv must name

and, beside this script, fields-extra.csv, descriptors-extra.csv and microarchitectures.csv.

The result:

    titles               what a leaf is about: [leaf, title], or [leaf, title, hypervisor]
    rows                 [word, bits, name, description] or, of some vendors or hypervisors, [word, bits, name, description, who]
    descriptors          [descriptor, kind, bytes or pages, ways, bytes a line or entries] and perhaps a vendor, as in descriptors-extra.csv
    microarchitectures   [vendor, family, models, steppings, microarchitecture, design], as in microarchitectures.csv

A word is `leaf.sub-leaf.register` or `leaf.first-last.register`, in hexadecimal. Single bits that data/features.json has are left out:
decoding takes them from there, so run tools/features.py first. A row of some vendors comes before one of all, one of fields-extra.csv
before kcpuid's.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vcpuid.decode.meaning import meaning_of

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "src" / "vcpuid" / "data"
LICENCE = "CC0-1.0"

ENDLESS = {0xB, 0x1F, 0x80000026}
"""Topology leaves: their sub-leaves go on for as long as there are levels; kcpuid's table lists those of today's processors."""

Row = list[str]

ENCODED = re.compile(
    r" \((?:0-based|zero-based|24-based|log2)\)| - 1$|[,;] (?:minus-one notation|in (?:4K pages|quadwords|16-byte units))$"
)
"""What kcpuid's table says of how a number is written down: wrong beside a value of which that is undone."""

KINDS = {
    "L1_INST": "L1 code",
    "L1_DATA": "L1 data",
    "L2": "L2",
    "L3": "L3",
    "INST": "code TLB",
    "DATA": "data TLB",
    "DATA0": "data TLB 0",
    "STLB": "shared TLB",
}
SIZES = {"K": 1 << 10, "M": 1 << 20}


def cells(text: str, columns: int) -> Iterator[Row]:
    """Split a table's lines; the last column keeps its commas."""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield [cell.strip() for cell in line.split(",", columns - 1)]


def kcpuid(path: Path) -> tuple[list[Row], list[Row], str]:
    """Read kcpuid's table: rows, titles and the generator's name; ends the program where it is not in the public domain."""
    text = path.read_text(encoding="utf-8")
    licence = re.search(r"SPDX-License-Identifier:\s*(.*)", text.split("\n", 1)[0])
    if licence is None or licence[1].strip() != LICENCE:
        sys.exit(f"{path}: its licence is {licence[1] if licence else 'not told'}; only {LICENCE} may be taken")
    generator = re.search(r"Generator: (.*)", text)
    rows = [
        field(leaf, subleaves, register, bits, "", name, ENCODED.sub("", about) if converted(int(leaf, 16), name) else about)
        for leaf, subleaves, register, bits, name, about in cells(text, 6)
    ]
    titles = [[leaf.lower(), title] for leaf, title in re.findall(r"^# Leaf ([0-9A-F]+)H\n# (.+)$", text, re.MULTILINE)]
    return rows, titles, generator[1] if generator else "unknown"


def converted(leaf: int, name: str) -> bool:
    """Whether decoding shows another number than the field's own."""
    meaning = meaning_of(leaf, name)
    return meaning is not None and meaning(1).value not in (1, "\1")


def extra(text: str) -> tuple[list[Row], list[Row], list[str]]:
    """Read fields-extra.csv: rows, titles and sources."""
    titles = re.findall(r"^# title (?:(\w+) )?([0-9a-f]+): (.+)$", text, re.MULTILINE)
    sources = re.findall(r"^# source: (.+)$", text, re.MULTILINE)
    return [field(*row) for row in cells(text, 7)], [[leaf, title, *([who] if who else [])] for who, leaf, title in titles], sources


def field(leaf: str, subleaves: str, register: str, bits: str, who: str, name: str, about: str) -> Row:
    """Make a row."""
    last, _, first = subleaves.partition(":")
    if int(leaf, 16) in ENDLESS:
        first, last = "0", "255"
    span = f"{int(first):x}-{int(last):x}" if first else f"{int(last):x}"
    return [f"{int(leaf, 16):x}.{span}.{register}", bits, name, about, *([who] if who else [])]


def merge(added: list[Row], base: list[Row]) -> list[Row]:
    """Put the rows of some vendors first; of two rows for the same bits and vendors, keep the added one. Features are left out."""
    features = {row[0] for row in json.loads((DATA / "features.json").read_text(encoding="utf-8"))["rows"]}

    def is_feature(word: str, bits: str) -> bool:
        leaf, span, register = word.split(".")
        first, _, last = span.partition("-")
        subleaves = range(int(first, 16), int(last or first, 16) + 1)
        return all(f"{leaf}.{index:x}.{register}.{bits}" in features for index in subleaves)

    def told(row: Row) -> set[tuple[str, int, str]]:
        high, _, low = row[1].partition(":")
        return {(row[0], bit, row[4] if len(row) > 4 else "") for bit in range(int(low or high), int(high) + 1)}

    kept: list[Row] = []
    taken: set[tuple[str, int, str]] = set()
    for row in [*added, *base]:
        if taken.isdisjoint(told(row)) and (len(row) > 4 or not is_feature(row[0], row[1])):
            taken |= told(row)
            kept.append(row)
    return sorted(kept, key=order)


def order(row: Row) -> tuple[Any, ...]:
    """Sort by leaf, sub-leaf, register; rows of some vendors, then rows of all; the highest bit last."""
    leaf, subleaf, register = row[0].split(".")
    return int(leaf, 16), int(subleaf.split("-")[0], 16), register, len(row) < 5, int(row[1].split(":")[-1])


def descriptors(table: str, added: str) -> list[list[Any]]:
    """Read what the descriptors of leaf 2 stand for; where both files tell, the added one counts."""
    rows: dict[int, list[list[Any]]] = {}
    for number, kind, what, ways, unit, who in cells(added, 6):
        row = [
            number[2:],
            kind,
            int(what) if what.isdigit() else what,
            int(ways) if ways else None,
            int(unit) if unit else None,
            *([who] if who else []),
        ]
        rows.setdefault(int(number, 16), []).append(row)
    own = set(rows)
    for number, kind, count, unit, note in re.findall(r"CACHE_ENTRY\((\w+),\s*CACHE_(\w+),\s*SZ_(\d+)([KM])\s*\),\s*/\*(.*?)\*/", table):
        if int(number, 16) not in own:
            amount = int(count) * SIZES[unit]
            rows[int(number, 16)] = [[number[2:], KINDS[kind], amount, first(r"(\d+)[- ]way", note), first(r"(\d+) byte line", note)]]
    for number, kind, entries, note in re.findall(r"TLB_ENTRY\(\s*(\w+),\s*(?:TLB_)?(\w+),\s*(\d+)\s*\),\s*/\*(.*?)\*/", table, re.DOTALL):
        if int(number, 16) not in own:
            pages = " ".join(count + unit for count, unit in re.findall(r"(\d+)[ -]?([KMG])Byte", note))
            way = 0 if "full" in note else first(r"(\d+)[- ]way", note)
            rows[int(number, 16)] = [[number[2:], KINDS[kind.split("_")[0]], pages, way, int(entries)]]
    return [row for number in sorted(rows) for row in rows[number]]


def first(pattern: str, text: str) -> int | None:
    """Return the number that a pattern finds."""
    match = re.search(pattern, text)
    return int(match[1]) if match else None


def processors(text: str, header: str) -> list[Row]:
    """Read the names of processors; ends the program where Linux knows a model of Intel's that has none."""
    rows = list(cells(text, 6))

    def span(cell: str) -> range:
        first, _, last = cell.partition("-")
        return range(int(first, 16), int(last or first, 16) + 1)

    for symbol, family, model in re.findall(r"#define INTEL_(\w+)\s+IFM\((\w+), (0x\w+)\)", header):
        if symbol not in ("FAM5_START", "FAM6_LAST") and family.isdigit():
            named = (row for row in rows if row[0] == "intel" and int(row[1], 16) == int(family) and int(model, 16) in span(row[2]))
            if next(named, None) is None:
                sys.exit(f"microarchitectures.csv: no name for {symbol}, family {family} model {model}")
    return rows


def dump(rows: Iterable[list[Any]]) -> str:
    """Print rows, one a line."""
    return "[\n" + ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows) + "\n]"


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--linux", required=True, metavar="RELEASE=TREE")
    version, _, path = parser.parse_args().linux.partition("=")
    tree = Path(path)
    base, titles, generator = kcpuid(tree / "tools/arch/x86/kcpuid/cpuid.csv")
    added, more, sources = extra((HERE / "fields-extra.csv").read_text(encoding="utf-8"))
    release = f"Linux {version}"
    source = {
        "script": "tools/fields.py",
        "rows": [f"tools/arch/x86/kcpuid/cpuid.csv of {release}, {generator}, {LICENCE}", *sources],
        "descriptors": [
            f"arch/x86/kernel/cpu/cpuid_0x2_table.c of {release}",
            *re.findall(r"^# source: (.+)$", (HERE / "descriptors-extra.csv").read_text(encoding="utf-8"), re.MULTILINE),
        ],
        "microarchitectures": re.findall(r"^# source: (.+)$", (HERE / "microarchitectures.csv").read_text(encoding="utf-8"), re.MULTILINE),
    }
    parts = {
        "titles": [*titles, *more],
        "rows": merge(added, base),
        "descriptors": descriptors(
            (tree / "arch/x86/kernel/cpu/cpuid_0x2_table.c").read_text(encoding="utf-8"),
            (HERE / "descriptors-extra.csv").read_text(encoding="utf-8"),
        ),
        "microarchitectures": processors(
            (HERE / "microarchitectures.csv").read_text(encoding="utf-8"),
            (tree / "arch/x86/include/asm/intel-family.h").read_text(encoding="utf-8"),
        ),
    }
    print("{\n" + f'"source": {json.dumps(source)}' + "".join(f',\n"{key}": {dump(rows)}' for key, rows in parts.items()) + "\n}")


if __name__ == "__main__":
    main()
