#!/usr/bin/env python3
"""Write src/vcpuid/data/qemu-distributions.json: machine types that distributions added, as far as CPUs care.

    python tools/qemu_distributions.py 'Ubuntu 22.04=src/qemu-jammy=REPOSITORY, COMMIT' 'CentOS Stream 10=…'

Each is a distribution, a source tree of its QEMU with its patches, and where that is to be found; of a machine type that several have the
last one counts. Its row: distribution, the release of its QEMU, that of an upstream machine type with a board like its own, how many
vCPUs it takes, whether the kernel has but a part of the interrupt chips, whether -smp fills sockets first, how unversioned models are
understood, and the properties that it sets on CPUs as [type of CPU, property, value], in order.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from csource import Source
from qemu_source import Boards, MachineSource

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
UPSTREAM = re.compile(r"pc-(?:q35|i440fx)-\d|isapc|microvm")


def rows(distribution: str, tree: Path) -> dict[str, list[Any]]:
    """Return the machine types of a tree that upstream does not have."""
    release = (tree / "VERSION").read_text(encoding="utf-8").strip()
    major, minor = map(int, release.split(".")[:2])
    source = Source([tree / "target/i386/cpu-qom.h", tree / "hw/core/machine.c", *sorted((tree / "hw/i386").glob("pc*.c"))])
    source.known["TYPE_X86_CPU"] = "x86_64-cpu"
    names = "".join(f'{{ "{model}-x86_64-cpu", "model-id", "QEMU Virtual CPU version \\1" }}, ' for model in ("qemu32", "qemu64", "athlon"))
    source.text = re.sub(r'PC_CPU_MODEL_IDS\("([^"]+)"\)', names, source.text)
    found = {}
    for machine in Boards(tree, (major, minor)).machines():
        if not UPSTREAM.match(machine.name):
            found[machine.name] = row(machine, distribution, f"{major}.{minor}", source)
    return found


def row(machine: MachineSource, distribution: str, release: str, source: Source) -> list[Any]:
    """Return the row of one machine type."""
    state = machine.state
    settings = [list(entry.values()) if isinstance(entry, dict) else entry for name in machine.compat for entry in source.table(name)]
    of_cpus = [setting for setting in settings if setting and str(setting[0]).endswith("x86_64-cpu")]
    return [
        distribution,
        release,
        "7.0" if state.get("enforce_amd_1tb_hole") == "false" else release,
        machine.cpu_max,
        state.get("default_kernel_irqchip_split") == "true",
        state.get("smp_props.prefer_sockets") == "true",
        "legacy" if state.get("default_cpu_version") == "CPU_VERSION_LEGACY" else "v1",
        of_cpus,
    ]


def main() -> None:
    """Write the table."""
    table: dict[str, list[Any]] = {}
    sources = {}
    for argument in sys.argv[1:]:
        distribution, tree, where = argument.split("=", 2)
        sources[distribution] = where
        table |= rows(distribution, Path(tree))
    body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(table.items()))
    text = f'{{\n "source": "tools/qemu_distributions.py",\n "sources": {json.dumps(sources)},\n "machines": {{\n{body}\n }}\n}}\n'
    (DATA / "qemu-distributions.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
