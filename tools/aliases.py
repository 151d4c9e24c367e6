"""Write data/aliases.json: what compilers, Xen and the manuals call features, beyond the names that data/features.json has.

    python tools/aliases.py --xen RELEASE=TREE > src/vcpuid/data/aliases.json

TREE is Xen's source, of which xen/include/public/arch-x86/cpufeatureset.h is read (facts: names and places). The rest comes from
aliases.csv beside this script. A name that means something already is left out, as is one of a bit that is no known feature. Rows are
[place, name]. Run tools/features.py first.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

from vcpuid.cpuid.feature_table import key_of

HERE = Path(__file__).resolve().parent
DATA = HERE.parent / "src" / "vcpuid" / "data"

_WORD = re.compile(
    r"CPUID level 0x0*([0-9a-f]+)(?::(\d+))?\.(e[abcd]x), word (\d+)|MSR_ARCH_CAPS 0x([0-9a-f]+)\.eax, word (\d+)", re.IGNORECASE
)
_FEATURE = re.compile(r"^XEN_CPUFEATURE\((\w+),\s*(\d+)\*32\s*\+\s*(\d+)\)", re.MULTILINE)

Row = tuple[str, str]


def xen(header: str) -> Iterator[Row]:
    """Read Xen's names; a word of it is a register of CPUID, or an MSR of which both halves are counted from one word."""
    words = {}
    for leaf, index, register, word, msr, msr_word in _WORD.findall(header):
        words[int(word or msr_word)] = f"msr.{msr}" if msr else f"{leaf.lower()}.{index or 0}.{register}"
    for name, word, bit in _FEATURE.findall(header):
        yield f"{words[int(word)]}.{bit}", name.lower()


def rows(text: str) -> Iterator[Row]:
    """Read aliases.csv."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            place, name = line.split(",")
            yield place.strip(), name.strip()


def known(features: list[list[object]]) -> tuple[set[str], set[str]]:
    """Give the places of data/features.json and the keys of its names, which are the texts in its rows but for places and descriptions."""

    def texts(cell: object) -> Iterator[str]:
        if isinstance(cell, str):
            yield cell
        elif isinstance(cell, list):
            for part in cell:
                yield from texts(part)

    names = {key_of(re.sub("^[A-Z0-9]+_(FEATURE|BUG)_", "", text)) for row in features for cell in row[1:5] for text in texts(cell)}
    return {str(row[0]) for row in features}, names


def main() -> None:
    """Read the arguments, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xen", required=True, metavar="RELEASE=TREE")
    release, _, tree = parser.parse_args().xen.partition("=")
    places, names = known(json.loads((DATA / "features.json").read_text(encoding="utf-8"))["rows"])
    listed = (HERE / "aliases.csv").read_text(encoding="utf-8")
    header = (Path(tree) / "xen/include/public/arch-x86/cpufeatureset.h").read_text(encoding="utf-8")
    found = {(place, key_of(name)): (place, name) for place, name in (*rows(listed), *xen(header))}
    new = sorted(row for (place, key), row in found.items() if place in places and key not in names)
    sources = re.findall(r"^# source: (.+)$", listed, re.MULTILINE)
    source = {"script": "tools/aliases.py", "rows": [*sources, f"Xen {release}, xen/include/public/arch-x86/cpufeatureset.h"]}
    body = ",\n".join(json.dumps(row, separators=(",", ":")) for row in new)
    print(f'{{\n"source": {json.dumps(source)},\n"rows": [\n{body}\n]\n}}')


if __name__ == "__main__":
    main()
