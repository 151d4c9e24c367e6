#!/usr/bin/env python3
"""Write src/vcpuid/data/qemu-boards.json: the options of each machine type's kind, and its PCI hole above 4 GB.

    sudo .venv/bin/python tools/qemu_boards.py 7.2='qemu-system-x86_64' 10.0='chroot roots/trixie qemu-system-x86_64' \
        11.1='chroot roots/backports qemu-system-x86_64'
    python tools/qemu_boards.py 8.2=@src/qemu-8.2.0 9.2=@src/qemu-9.2.0

Releases that are not named stay as the table has them. Each program is started with one machine of each kind, stopped, and asked for the
properties of /machine and of its PCI host; of a machine that does not start without further arguments (nitro), its class is asked. What
none of them tells, of the kinds that only newer releases have, is left out. Of a source tree the options are those that the nearest
programs have, older or newer, as far as the tree registers them; a condition on which it does so is not read. Their holes, which are the
same in all releases, are taken over.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from csource import Source
from qemu_source import NITRO
from vcpuid.errors import QemuError
from vcpuid.live.qmp import Qmp
from vcpuid.releases import number

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


OF_DEVICES = {"rtc-time": "struct tm", "smram": "link<memory-region>"}
"""Options that a device on the board adds, which all releases have: the second where all older and newer tables of a kind have it."""

FILES = {
    "pc-q35": ("x86.c", "pc.c", "pc_q35.c"),
    "pc-i440fx": ("x86.c", "pc.c", "pc_piix.c"),
    "isapc": ("x86.c", "pc.c", "isapc.c"),
    "microvm": ("x86.c", "microvm.c"),
    "nitro": (),
}
"""Where in hw/i386 a kind of machine registers its options, besides hw/core/machine.c and hw/cxl/cxl-host.c."""
_ADDED = re.compile(r'object_(?:class_)?property_add(_\w+)?\(\s*[^,]*,\s*("[\w-]+"|[A-Z]\w+),\s*("[\w -]+")?')
_KINDS = {"_bool": "bool", "_str": "string"}
_CXL_NEEDS_PCI = re.compile(r"if \(pcmc->pci_enabled\) \{\s*cxl_machine_init")
"""Since 9.0 a PC without PCI has no options for CXL."""


def registered(tree: Path, kind: str) -> dict[str, str | None]:
    """Give the options that a kind of machine registers in a tree, each with its type; None where the tree spells that out elsewhere."""
    i386 = tree / "hw" / "i386"
    paths = [tree / "hw" / "core" / "machine.c", *(i386 / name for name in FILES[kind])]
    if kind != "isapc" or not _CXL_NEEDS_PCI.search((i386 / "pc.c").read_text(encoding="utf-8")):
        paths.append(tree / "hw" / "cxl" / "cxl-host.c")
    headers = sorted((tree / "include" / "hw" / "i386").glob("*.h"))
    source = Source([*headers, *(path for path in paths if path.exists())])
    found: dict[str, str | None] = {}
    for form, name, type_ in _ADDED.findall(source.text):
        named = name.strip('"') if name.startswith('"') else str(source.symbol(name))
        found[named.replace("_", "-") if named != "rtc_state" else named] = type_.strip('"') or _KINDS.get(form)
    return found


def of_tree(tree: Path, nearest: list[Row]) -> tuple[str, Row]:
    """Give the kinds that all of these tables have, and nitro where the tree has it, with the options that the tree registers."""
    found: Row = {}
    for name in nearest[-1]:
        having = [row[name] for row in nearest if name in row]
        if len(having) < len(nearest) and not (name == "nitro" and (tree / NITRO).exists()):
            continue
        told = {option: kind for row in having for option, kind in row["options"].items()}
        own = registered(tree, name)
        kept = {option: own[option] or told[option] for option in own if option in told}
        kept |= {option: told[option] for option in OF_DEVICES if all(option in row["options"] for row in having)}
        found[name] = {"pci_hole64": having[0]["pci_hole64"], "options": dict(sorted(kept.items()))}
    return f"the source of {(tree / 'VERSION').read_text(encoding='utf-8').strip()}", found


def main() -> None:
    """Write the table."""
    asked = dict(argument.split("=", 1) for argument in sys.argv[1:])
    path = DATA / "qemu-boards.json"
    table = json.loads(path.read_text(encoding="utf-8"))
    rows, sources = table["boards"], table["sources"]
    for name, command in asked.items():
        if not command.startswith("@"):
            sources[name], rows[name] = release(shlex.split(command))
    programs = sorted((name for name, source in sources.items() if source[0].isdigit()), key=number)
    for name, command in asked.items():
        if command.startswith("@"):
            older = [other for other in programs if number(other) < number(name)][-1:]
            newer = [other for other in programs if number(other) > number(name)][:1]
            sources[name], rows[name] = of_tree(Path(command[1:]), [rows[other] for other in (*older, *newer)])
    lines = []
    for name, row in sorted(rows.items(), key=lambda item: number(item[0])):
        body = ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in row.items())
        lines.append(f"  {json.dumps(name)}: {{\n{body}\n  }}")
    told = {name: sources[name] for name in sorted(rows, key=number)}
    text = f'{{\n "source": "tools/qemu_boards.py",\n "sources": {json.dumps(told)},\n "boards": {{\n' + ",\n".join(lines) + "\n }\n}\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
