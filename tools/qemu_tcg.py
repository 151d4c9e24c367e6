#!/usr/bin/env python3
"""Write src/vcpuid/data/qemu-tcg.json: what QEMU's TCG can give a CPU, by release and feature word.

    cd oracle/facts/tcg
    python ../../../tools/qemu_tcg.py 7.2=qmp-7.2-tcg.json.gz 10.0=qmp-10.0-tcg.json.gz 11.1=qmp-11.1-tcg.json.gz
    python ../../../tools/qemu_tcg.py 8.2=@src/qemu-8.2.0

Releases that are not named stay as the table has them. The facts are what qemu-system-x86_64 -machine none -accel tcg answers to
query-cpu-definitions and to query-cpu-model-expansion (full) of each model. TCG supports what "max" has, and what a model has that QEMU
does not list among its unavailable features: "max" lacks the bits of words that a feature of its own would have to open. Of a source tree
the macros of feature_word_info are read, and "max" from max_x86_cpu_*.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

from csource import Source
from vcpuid.qemu.catalog import HOST_MODELS, catalog
from vcpuid.releases import number

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
COMPONENTS, COMPONENTS_7_2 = 0x21F, 0x2FF
"""XSAVE's components, which have no property: x87, SSE, AVX, MPX, PKRU; in 7.2 AVX512's too, which no model is then told to lack."""
OF_MAX = ("vendor", "family", "model", "stepping", "model-id")


def row(release: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return one release's row: masks by feature word, and the identity of "max"."""
    tables, given = catalog(release), facts["expansions"]
    unavailable = {model["name"]: set(model["unavailable-features"]) for model in facts["definitions"]}
    supported = {name for name in tables.flags if given["max"].get(name)}
    for model, props in given.items():
        if model not in HOST_MODELS:
            supported |= {name for name in tables.flags if props.get(name) and name not in unavailable[model]}
    words = {"FEAT_XSAVE_XCR0_LO": COMPONENTS if tables.number >= (9, 2) else COMPONENTS_7_2}
    for name in sorted(supported):
        word, mask = tables.flags[name]
        words[word] = words.get(word, 0) | mask
    return {"words": dict(sorted(words.items())), "max": {name: given["max"][name] for name in OF_MAX}}


DEFINED = {"TARGET_X86_64", "CONFIG_SOFTMMU", "CONFIG_LINUX", "CONFIG_TCG"}
"""What is defined where qemu-system-x86_64 is built on Linux."""
_CONDITION = re.compile(r"^[ \t]*#[ \t]*(if|ifdef|ifndef|elif|else|endif)\b(.*)$")


def of_system(text: str) -> str:
    """Drop the lines that are not for qemu-system-x86_64; conditions that are no `defined` count as true."""
    kept: list[str] = []
    taken: list[tuple[bool, bool]] = []  # of each open condition: whether this branch holds, and whether one of it did
    for line in text.splitlines():
        match = _CONDITION.match(line)
        if match is None:
            if all(holds for holds, _ in taken):
                kept.append(line)
            continue
        word, rest = match[1], match[2].strip()
        if word == "endif":
            taken.pop()
        elif word in ("else", "elif"):
            _, before = taken.pop()
            holds = not before and (word == "else" or condition(rest))
            taken.append((holds, before or holds))
        else:
            holds = (rest in DEFINED) is (word == "ifdef") if word != "if" else condition(rest)
            taken.append((holds, holds))
    return "\n".join(kept)


def condition(text: str) -> bool:
    """Evaluate `defined A || !defined B`."""
    found = re.findall(r"(!?)\s*defined\s*\(?\s*(\w+)", text)
    return not found or any((name in DEFINED) is not bool(negated) for negated, name in found)


def of_tree(release: str, tree: Path) -> dict[str, Any]:
    """Return the row of one release by its source."""
    tables, target = catalog(release), tree / "target" / "i386"
    source = Source([target / "cpu-qom.h", target / "cpu.h", target / "cpu.c"], keep=of_system)
    source.known["QEMU_HW_VERSION"] = "2.5+"  # include/qemu/hw-version.h: frozen since 2.5
    source.known["KVM_CPUID_FEATURES"] = 0
    found = source.table("feature_word_info")
    words = {}
    for position, name in enumerate(source.enumerators("FEATURE_WORDS")):
        word = tables.words[position]
        named = sum(1 << bit for bit in word.names) or (1 << 32) - 1
        mask = found[source.symbol(name)].get("tcg_features", 0) & named
        if mask and not word.name.startswith(("FEAT_XSAVE_XCR0_HI", "FEAT_XSAVE_XSS", "FEAT_KVM")):
            words[word.name] = mask
    text = source.text[source.text.index("max_x86_cpu_properties[]") :]
    given: dict[str, str] = {}
    for name, value in re.findall(r'object_property_set_(?:int|str)\([\w()]+,\s*"([\w-]+)",\s*("[^"]*" \w+|[A-Z0-9]\w*)', text):
        given.setdefault(name, value)  # the first is a 64-bit CPU's
    found_max = {name: source.evaluate(given[name]) for name in OF_MAX}
    if "max_x86_cpu_realize(" in source.text:  # there family, model and stepping are set, which an expansion does not show
        found_max |= dict.fromkeys(("family", "model", "stepping"), 0)
    return {"words": dict(sorted(words.items())), "max": found_max}


def main() -> None:
    """Read the facts and write the table."""
    path = DATA / "qemu-tcg.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    sources, rows = table["sources"], {release: row for release, row in table.items() if release not in ("source", "sources")}
    for argument in sys.argv[1:]:
        release, _, given = argument.partition("=")
        if given.startswith("@"):
            tree = Path(given[1:])
            rows[release], sources[release] = (
                of_tree(release, tree),
                f"the source of {(tree / 'VERSION').read_text(encoding='utf-8').strip()}",
            )
        else:
            facts = json.loads(gzip.decompress(Path(given).read_bytes()))
            rows[release], sources[release] = row(release, facts), "query-cpu-definitions and query-cpu-model-expansion under TCG"
    head = {"source": "tools/qemu_tcg.py", "sources": {name: sources[name] for name in sorted(rows, key=number)}}
    path.write_text(json.dumps(head | {name: rows[name] for name in sorted(rows, key=number)}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
