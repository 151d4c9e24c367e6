#!/usr/bin/env python3
"""Writes src/vcpuid/data/qemu-caches.json: the caches QEMU shows where a CPU model has none, and leaf 2's descriptors.

    tools/qemu_caches.py RELEASE=QEMU-SOURCE-TREE … > src/vcpuid/data/qemu-caches.json

Trees in the order of their releases, the last one being 10.1 or later (it has the legacy caches as three sets). A descriptor names the
first of the releases given that knows it, null for the first of all.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

KINDS = {"DATA_CACHE": 1, "INSTRUCTION_CACHE": 2, "UNIFIED_CACHE": 3}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20}
FIELDS = ("type", "level", "size", "line_size", "associativity", "partitions", "sets", "lines_per_tag")
FLAGS = ("self_init", "no_invd_sharing", "inclusive", "complex_indexing")
SETS = {"intel-leaf2": "legacy_intel_cpuid2_cache_info", "intel": "legacy_intel_cache_info", "amd": "legacy_amd_cache_info"}


def value(text: str) -> Any:
    """Read an initializer's value: a number, a size with its unit, a flag, a name."""
    text = text.strip()
    if text in KINDS:
        return KINDS[text]
    if match := re.fullmatch(r"([\d.]+) \* (\w+)", text):
        return int(float(match[1]) * UNITS[match[2]])
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdigit() else text.removeprefix("CPU_TOPOLOGY_LEVEL_").lower()


def fields(body: str) -> dict[str, Any]:
    """Read `.name = value` pairs."""
    return {name: value(text) for name, text in re.findall(r"\.(\w+)\s*=\s*([^,}]+)", body)}


def descriptors(source: str) -> dict[int, list[int]]:
    """Read cpuid2_cache_descriptors."""
    table = source[source.index("cpuid2_cache_descriptors[] = {") :]
    rows = re.findall(r"\[(0x\w+)\] = \{(.*?)\}", table[: table.index("\n};")], re.DOTALL)
    names = ("type", "level", "size", "associativity", "line_size")
    return {int(code, 16): [fields(body)[name] for name in names] for code, body in rows}


def caches(source: str, name: str) -> list[list[Any]]:
    """Read one CPUCaches: L1D, L1I, L2, L3."""
    body = re.search(rf"\b{name} = {{\n(.*?)\n}};", source, re.DOTALL)
    assert body is not None, name
    rows = []
    for cache in re.findall(r"&\(CPUCacheInfo\) \{(.*?)\}", body[1], re.DOTALL):
        found = fields(cache)
        rows.append([*(found.get(field, 0) for field in FIELDS), *(int(found.get(flag, 0)) for flag in FLAGS), found["share_level"]])
    return rows


def main() -> None:
    """Print the table."""
    trees = [argument.partition("=") for argument in sys.argv[1:]]
    since: dict[int, list[Any]] = {}
    for number, (release, _, tree) in enumerate(trees):
        source = (Path(tree) / "target/i386/cpu.c").read_text(encoding="utf-8")
        for code, row in descriptors(source).items():
            since.setdefault(code, [code, *row, release if number else None])
    releases = ", ".join(release for release, _, _ in trees)
    print("{")
    print(f'"source": "QEMU {releases} target/i386/cpu.c, tools/qemu_caches.py",')
    print(f'"columns": {json.dumps([*FIELDS, *FLAGS, "share_level"])},')
    print('"legacy": {')
    print(",\n".join(f"{json.dumps(key)}: [\n" + ",\n".join(map(json.dumps, caches(source, name))) + "\n]" for key, name in SETS.items()))
    print("},")
    print('"descriptors": [')
    print(",\n".join(json.dumps(since[code]) for code in sorted(since)))
    print("]\n}")


if __name__ == "__main__":
    main()
