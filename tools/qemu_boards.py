#!/usr/bin/env python3
"""Write src/vcpuid/data/qemu-boards.json: the options of each machine type's kind, and its PCI hole above 4 GB.

    sudo .venv/bin/python tools/qemu_boards.py 7.2='qemu-system-x86_64' 10.0='chroot roots/trixie qemu-system-x86_64' \
        11.1='chroot roots/backports qemu-system-x86_64'

Each program is started with one machine of each kind, stopped, and asked for the properties of /machine and of its PCI host; of a machine
that does not start without further arguments (nitro), its class is asked. What none of them tells, of the kinds that only newer releases
have, is left out.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from vcpuid.errors import QemuError
from vcpuid.live.qmp import Qmp

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
KINDS = {"pc-q35": "q35", "pc-i440fx": "pc", "isapc": "isapc", "microvm": "microvm", "nitro": "nitro"}
HOSTS = ("q35", "i440fx")
"""Below which name of /machine a PC's PCI host is."""

Row = dict[str, Any]


def options(properties: list[Row]) -> dict[str, str]:
    """Give the properties that can be options, each with its type."""
    kept = ((row["name"], row["type"]) for row in properties if not row["type"].startswith("child<") and row["name"] != "type")
    return dict(sorted(kept))


def hole(qemu: Qmp) -> int | None:
    """Ask for the size of the PCI hole above 4 GB; None where the machine has no PCI host of a PC."""
    for name in HOSTS:
        try:
            return int(qemu.ask("qom-get", path=f"/machine/{name}", property="pci-hole64-size"))
        except QemuError:
            continue
    return None


def kind(command: list[str], name: str) -> Row:
    """Ask for one kind of machine."""
    try:
        with Qmp(command, machine=name, accel="tcg") as qemu:
            return {"pci_hole64": hole(qemu), "options": options(qemu.ask("qom-list", path="/machine"))}
    except QemuError:
        with Qmp(command, machine="none", accel="tcg") as qemu:
            return {"pci_hole64": None, "options": options(qemu.ask("qom-list-properties", typename=f"{name}-machine"))}


def release(command: list[str]) -> tuple[str, Row]:
    """Ask a program for its release, and for all of its kinds."""
    with Qmp(command, machine="none", accel="tcg") as qemu:
        version = ".".join(str(qemu.version["qemu"][part]) for part in ("major", "minor", "micro"))
        names = {row["name"] for row in qemu.ask("query-machines")} | {row.get("alias") for row in qemu.ask("query-machines")}
    found: Row = {known: kind(command, name) for known, name in KINDS.items() if name in names}
    # An ISA machine's memory is laid out as other PCs' is, with a hole of no size (pc_init_isa).
    found["isapc"]["pci_hole64"] = 0
    return version, found


def main() -> None:
    """Write the table."""
    asked = dict(argument.split("=", 1) for argument in sys.argv[1:])
    table = {name: release(shlex.split(command)) for name, command in asked.items()}
    source = f"QEMU {', '.join(version for version, _ in table.values())}, tools/qemu_boards.py"
    lines = []
    for name, (_, row) in table.items():
        body = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items())
        lines.append(f"  {json.dumps(name)}: {{\n{body}\n  }}")
    text = f'{{\n "source": {json.dumps(source)},\n "boards": {{\n' + ",\n".join(lines) + "\n }\n}\n"
    (DATA / "qemu-boards.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
