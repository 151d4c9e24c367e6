#!/usr/bin/env python3
"""Write src/vcpuid/data/qemu-distributions.json: machine types that distributions added, as far as CPUs care.

    python tools/qemu_distributions.py 'Ubuntu 22.04=src/qemu-jammy=REPOSITORY, COMMIT' 'RHEL 9.8=…'
    sudo .venv/bin/python tools/qemu_distributions.py 'Ubuntu 24.04=!chroot roots/noble qemu-system-x86_64=PACKAGE, VERSION'

Each is a distribution, a source tree of its QEMU with its patches, and where that is to be found; of a machine type that several have the
last one counts. Or the program itself is asked on this machine's KVM, of those machine types that no tree has. Distributions that are not
named stay as the table has them. The row of a machine type: distribution, the release of its QEMU, that of an upstream machine type with a
board like its own, how many vCPUs it takes, whether the kernel has but a part of the interrupt chips, whether -smp fills sockets first, how
unversioned models are understood, the properties that it sets on CPUs as [type of CPU, property, value], in order, and the properties that
its QEMU sets with KVM on models otherwise than upstream's does, null where it leaves what that sets.

What a program sets shows where it makes a difference to a model.

Red Hat's trees are what `rpmbuild -bp` makes of its package. Those that the table has were made by hand, of the patches that concern
machine types (of RHEL 9.8: 0006, 0011, 0019, 0028, 0029 and kvm-x86-create-new-pc-q35-machine-type-for-rhel-9.8; of RHEL 10: 0013) and
hw/i386 of QEMU 10.0.13.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from csource import Source
from qemu_source import Boards, MachineSource
from vcpuid import data
from vcpuid.errors import QemuError
from vcpuid.live.qmp import Qmp
from vcpuid.qemu.catalog import catalog

DATA = Path(__file__).resolve().parent.parent / "src" / "vcpuid" / "data"
UPSTREAM = re.compile(r"pc-(?:q35|i440fx)-\d|isapc|microvm")


def rows(distribution: str, tree: Path) -> dict[str, list[Any]]:
    """Return the machine types of a tree that upstream does not have."""
    release = (tree / "VERSION").read_text(encoding="utf-8").strip()
    major, minor = map(int, release.split(".")[:2])
    source = Source([tree / "target/i386/cpu-qom.h", tree / "hw/core/machine.c", *sorted((tree / "hw/i386").glob("pc*.c"))])
    source.known["TYPE_X86_CPU"] = "x86_64-cpu"
    kvm = Source([tree / "target/i386/kvm/kvm-cpu.c"])
    own = dict(row for row in kvm.table("kvm_default_props") if row[0])
    with_kvm = otherwise(dict(upstream(f"{major}.{minor}")), own)
    names = "".join(f'{{ "{model}-x86_64-cpu", "model-id", "QEMU Virtual CPU version \\1" }}, ' for model in ("qemu32", "qemu64", "athlon"))
    source.text = re.sub(r'PC_CPU_MODEL_IDS\("([^"]+)"\)', names, source.text)
    found = {}
    for machine in Boards(tree, (major, minor)).machines():
        if not UPSTREAM.match(machine.name):
            found[machine.name] = [*row(machine, distribution, f"{major}.{minor}", source), with_kvm]
    return found


def upstream(release: str) -> list[list[str]]:
    """Return the properties that a release sets on models with KVM, with their values."""
    defaults: list[list[str]] = data.load(f"qemu-{release}")["kvm_defaults"]
    return defaults


def otherwise(theirs: dict[str, str], own: dict[str, str]) -> dict[str, str | None]:
    """Return what a distribution sets otherwise than upstream, None for what it does not set."""
    return {name: own.get(name) for name in (*theirs, *own) if own.get(name) != theirs.get(name)}


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


HOLE = 1010
"""GB for PCI that a CPU with 40 bits can address, unless the board keeps AMD's addresses below 1 TB free, as it does since 7.1."""
NEWEST_WITHOUT_HOLE = "7.0"


def of_program(distribution: str, command: list[str], known: Iterable[str]) -> dict[str, list[Any]]:
    """Ask a program for its machine types that neither upstream nor a table has."""
    with Qmp(command, machine="none") as qemu:
        release = "{major}.{minor}".format(**qemu.version["qemu"])
        most = {row["name"]: row["cpu-max"] for row in qemu.ask("query-machines")}
    names = [name for name in most if name.startswith(("pc-q35-", "pc-i440fx-")) and not UPSTREAM.match(name) and name not in known]
    found: dict[str, list[Any]] = {}
    for name in sorted(names):
        board = name.split("-")[1]
        versions, plain, _ = models_on(command, f"pc-{board}-{release}")
        with_kvm = set_with_kvm(release, plain)
        own_versions, own, (split, prefers_sockets) = models_on(command, name)
        if own_versions != versions:
            raise SystemExit(f"{name} understands models in a way of its own, which only its source tells")
        like = release if keeps_hole(command, name, board) else NEWEST_WITHOUT_HOLE
        found[name] = [distribution, release, like, most[name], split, prefers_sockets, "v1", set_on_cpus(plain, own), with_kvm]
    return found


def set_with_kvm(release: str, expanded: dict[str, dict[str, Any]]) -> dict[str, str | None]:
    """Return what a program sets with KVM otherwise than upstream: what no model shows so, and what all have beyond."""
    tables, theirs = catalog(release), dict(upstream(release))
    shown = {name: expanded[name] for name in expanded if name in tables.models}
    found: dict[str, str | None] = {
        name: None for name, value in theirs.items() if any(row[name] is not (value == "on") for row in shown.values())
    }
    for name, (word, mask) in tables.flags.items():
        if name not in theirs and all(row[name] and not tables.models[model].features.get(word, 0) & mask for model, row in shown.items()):
            found[name] = "on"
    return found


def models_on(command: list[str], machine: str) -> tuple[dict[str, Any], dict[str, dict[str, Any]], tuple[bool, bool]]:
    """Return what names of models stand for on a machine type, each model's properties, and the two switches of its row."""
    with Qmp(command, machine=machine, arguments=("-smp", "4")) as qemu:
        versions = {row["name"]: row.get("alias-of") for row in qemu.ask("query-cpu-definitions")}
        models = {name: qemu.expand(name) for name in versions if name != "host"}
        chips = {row["name"]: row["type"] for row in qemu.ask("qom-list", path=f"/machine/{machine.split('-')[1]}")}
        sockets = {row["props"]["socket-id"] for row in qemu.ask("query-hotpluggable-cpus")}
    return versions, models, (chips["ioapic"] != "child<kvm-ioapic>", len(sockets) > 1)


def keeps_hole(command: list[str], machine: str, board: str) -> bool:
    """Tell whether a board takes what AMD's processors keep below 1 TB for missing."""
    host = {"q35": "q35-pcihost", "i440fx": "i440FX-pcihost"}[board]
    cpu = "EPYC,vendor=AuthenticAMD,phys-bits=40,host-phys-bits=off,check=off"
    with suppress(QemuError), Qmp(command, machine=machine, cpu=cpu, arguments=("-global", f"{host}.pci-hole64-size={HOLE}G")):
        return False
    return True


def set_on_cpus(plain: dict[str, dict[str, Any]], own: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Return the properties that a machine type sets: those of all CPUs, and those of single models; not what follows from them."""
    of_all = {name: value for name, value in own["base"].items() if plain["base"][name] != value}
    rows = [["x86_64-cpu", name, spelled(value)] for name, value in sorted(of_all.items())]
    for model in sorted(name for name in own if name not in ("base", "max") and not re.search(r"-v\d+$", name)):
        changed = {name: value for name, value in own[model].items() if plain[model][name] != value and name not in of_all}
        rows += [[f"{model}-x86_64-cpu", name, spelled(value)] for name, value in sorted(changed.items())]
    return rows


def spelled(value: object) -> str:
    """Spell a value as settings do."""
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def main() -> None:
    """Write the table."""
    path = DATA / "qemu-distributions.json"
    given = json.loads(path.read_text(encoding="utf-8"))
    table: dict[str, list[Any]] = given["machines"]
    sources: dict[str, str] = given["sources"]
    for argument in sys.argv[1:]:
        distribution, tree, where = argument.split("=", 2)
        table = {name: row for name, row in table.items() if row[0] != distribution}
        sources[distribution] = where
        table |= of_program(distribution, shlex.split(tree[1:]), table) if tree.startswith("!") else rows(distribution, Path(tree))
    sources = {distribution: where for distribution, where in sources.items() if any(row[0] == distribution for row in table.values())}
    body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(table.items()))
    text = f'{{\n "source": "tools/qemu_distributions.py",\n "sources": {json.dumps(sources)},\n "machines": {{\n{body}\n }}\n}}\n'
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
