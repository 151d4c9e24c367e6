"""Write data/messages.json: what programs say of CPUs, and the MSRs that they name by number.

    python tools/messages.py > messages.json && mv messages.json src/vcpuid/data/messages.json

The rows are those of messages.csv and msrs.csv beside this script, which are read and checked: a row's pattern matches its example. What
this adds is `probes`, texts of which each match holds at least one, so that few patterns need be tried on a text.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from re import _constants as code  # type: ignore[attr-defined]  # the standard library's own parser of patterns has no public name
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

HERE = Path(__file__).resolve().parent

LAYERS = {
    "manager": (
        "OpenStack Nova", "KubeVirt", "Kubernetes scheduler (KubeVirt, Harvester)", "oVirt engine", "Proxmox VE", "LXD", "Incus",
        "XenServer / XCP-ng",
    ),
    "libvirt": ("libvirt",),
    "vmm": (
        "QEMU", "Firecracker", "Cloud Hypervisor", "VMware ESXi, Workstation", "VMware vCenter", "VirtualBox", "Xen hypervisor",
        "Xen tools (libxenguest)",
    ),
    "kernel": ("Linux", "kmod"),
}  # fmt: skip
"""Programs by layer; a program that none names runs in the guest."""

_NAME = r"(?!and\b)[A-Za-z0-9_.\-]{1,80}"
_LAST = rf"(?:,?[ \t]{{1,9}}and[ \t]{{1,9}}{_NAME}(?![\w.\-]|[ \t]{{1,9}}\w))?"
LIST = rf"{_NAME}(?:[ \t]{{0,80}},[ \t]{{0,80}}{_NAME}){{0,1000}}{_LAST}"
"""What <LIST> stands for in a pattern: names with commas between them, in one line, before the last one perhaps an "and"."""


def layer(program: str) -> str:
    """Return the layer that a program belongs to."""
    return next((name for name, programs in LAYERS.items() if program in programs or program.split()[0] in programs), "guest")


def probes(pattern: str) -> list[str]:
    """Find texts, in lower case, of which every match of a pattern holds one; raises ValueError where there are none of some length."""
    best = _required(parser.parse(pattern))
    if not best or min(map(len, best)) < 3:
        raise ValueError(f"no literal text in {pattern!r}")
    return sorted(best)


def _required(parsed: Sequence[Any]) -> set[str]:
    """Give the set, of those that could be given, whose shortest text is longest."""
    options: list[set[str]] = []
    run = ""
    for op, argument in [*parsed, (None, None)]:
        if op is code.LITERAL:
            run += chr(argument)
            continue
        if run:
            options.append({run.lower()})
            run = ""
        if op is code.SUBPATTERN:
            options.append(_required(argument[3]))
        elif op in (code.MAX_REPEAT, code.MIN_REPEAT) and argument[0] > 0:
            options.append(_required(argument[2]))
        elif op is code.BRANCH:
            branches = [_required(branch) for branch in argument[1]]
            options.append(set().union(*branches) if all(branches) else set())
    return max((option for option in options if option), key=lambda texts: min(map(len, texts)), default=set())


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Read a table."""
    with path.open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(line for line in file if not line.startswith("#"))


def message(row: dict[str, str]) -> dict[str, object]:
    """Make a row of the table; raises ValueError where its pattern does not match its example, or it wraps what is no layer."""
    row = {**row, "pattern": row["pattern"].replace("<LIST>", LIST)}
    if re.search(row["pattern"], row["example"], re.MULTILINE | re.ASCII) is None:
        raise ValueError(f"{row['id']}: the pattern does not match its example")
    if set(row["wraps"].split()) - {*LAYERS, "guest"}:
        raise ValueError(f"{row['id']}: wraps has what is no layer")
    return {
        **row,
        "layer": layer(row["program"]),
        "features": row["features"].split(),
        "wraps": row["wraps"].split(),
        "probes": probes(row["pattern"]),
    }


def document() -> str:
    """Read the tables and return the file."""
    listed = [json.dumps(message(row), ensure_ascii=False) for row in rows(HERE / "messages.csv")]
    msrs = [json.dumps([int(row["msr"], 16), row["name"], row["features"].split()]) for row in rows(HERE / "msrs.csv")]
    source = {
        "script": "tools/messages.py",
        "rows": "each names the function that prints it and how its text is known",
        "msrs": "names: Linux, arch/x86/include/asm/msr-index.h, kvm_para.h and hyperv-tlfs.h; features: Intel SDM vol. 4, AMD APM vol. 2",
    }
    comma = ",\n"
    return f'{{\n"source": {json.dumps(source)},\n"rows": [\n{comma.join(listed)}\n],\n"msrs": [\n{comma.join(msrs)}\n]\n}}\n'


def main() -> None:
    """Print the table."""
    print(document(), end="")


if __name__ == "__main__":
    main()
