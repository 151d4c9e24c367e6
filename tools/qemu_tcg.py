#!/usr/bin/env python3
"""Write src/vcpuid/data/qemu-tcg.json: what QEMU's TCG can give a CPU, by release and feature word.

    cd oracle/facts/tcg
    python ../../../tools/qemu_tcg.py 7.2=qmp-7.2-tcg.json.gz 10.0=qmp-10.0-tcg.json.gz 11.1=qmp-11.1-tcg.json.gz

The facts are what qemu-system-x86_64 -machine none -accel tcg answers to query-cpu-definitions and to query-cpu-model-expansion (full) of
each model. TCG supports what "max" has, and what a model has that QEMU does not list among its unavailable features: "max" lacks the bits
of words that a feature of its own would have to open.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from vcpuid.qemu.catalog import HOST_MODELS, catalog

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
    words = {"FEAT_XSAVE_XCR0_LO": COMPONENTS if tables.number >= (10, 0) else COMPONENTS_7_2}
    for name in sorted(supported):
        word, mask = tables.flags[name]
        words[word] = words.get(word, 0) | mask
    return {"words": dict(sorted(words.items())), "max": {name: given["max"][name] for name in OF_MAX}}


def main() -> None:
    """Read the facts and write the table."""
    rows = {}
    for argument in sys.argv[1:]:
        release, _, path = argument.partition("=")
        rows[release] = row(release, json.loads(gzip.decompress(Path(path).read_bytes())))
    source = "query-cpu-definitions and query-cpu-model-expansion of QEMU 7.2.22, 10.0.13, 11.1.3 under TCG, by tools/qemu_tcg.py"
    (DATA / "qemu-tcg.json").write_text(json.dumps({"source": source, **rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
