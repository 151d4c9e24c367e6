"""The kinds of captures: how each is made, line by line or as a row. README.md tells what they mean."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emulated import Emulator, FailedError, run
from played import Player
from vcpuid.errors import InputError
from vcpuid.live.qmp import Qmp
from vcpuid.qemu.catalog import catalog

OF_ANY_DEVICE = frozenset({"realized", "memory", "start-powered-off"})
"""Properties of an expansion that say nothing of the CPU."""


def kernel_lines(emulator: Emulator, kernel: Path, cpu: str) -> list[str]:
    """Make a capture as in tests/captures/kvm."""
    lines = run(emulator, kernel, cpu, "kvm_dump.c")
    if not any(line.startswith("SUP ") for line in lines):
        raise FailedError(f"KVM did not come up in the guest; the last line: {lines[-1]}")
    return [*_head(emulator, cpu), *lines]


def lookup_lines(emulator: Emulator, kernel: Path, cpu: str) -> list[str]:
    """Make a capture as in tests/captures/guest."""
    release, _, lines = whole(run(emulator, kernel, cpu, "kvm_lookup.c"))
    return [*_head(emulator, cpu), release, *lines[:-1]]


def states_lines(emulator: Emulator, kernel: Path, cpu: str) -> list[str]:
    """Make a capture as in tests/captures/vcpu."""
    release, cpuinfo, lines = whole(run(emulator, kernel, cpu, "kvm_states.c"))
    flags = next(line.removeprefix("CPUINFO flags ") for line in cpuinfo if line.startswith("CPUINFO flags "))
    return [*_head(emulator, cpu), release, f"CPUINFO flags  {flags}", *lines]


def _head(emulator: Emulator, cpu: str) -> list[str]:
    return [f"CPU {cpu}", f"QEMU {emulator.version()} tcg"]


def whole(lines: list[str]) -> tuple[str, list[str], list[str]]:
    """Split into the kernel's line, CPUINFO lines and the program's, whose last one says END. Raises FailedError without it."""
    if lines[-1] != "END":
        raise FailedError(f"the program did not come to its end in the guest; the last line: {lines[-1]}")
    count = sum(line.startswith("CPUINFO ") for line in lines)
    return lines[0], lines[1 : 1 + count], lines[1 + count :]


def qemu_row(player: Player, host: Sequence[str], cpu: str, machine: str, smp: str, more: Sequence[str] = ()) -> dict[str, Any]:
    """Make a row as in sets.jsonl.gz of tests/captures/qemu, without the host's name. Of 3 vCPUs or more it keeps two, first and last.

    `more` are further arguments, which the row then names.
    """
    started = player.start(host, cpu, machine, smp, more)
    vcpus = started.vcpus
    row = {"qemu": release_of(player), "machine": machine, "cpu": cpu, "smp": smp, "rc": started.rc, "stderr": started.stderr}
    if more:
        row["more"] = list(more)
    if len(vcpus) > 2:
        return {**row, "vcpus": [vcpus[0], vcpus[-1]], "vcpus_kept": "first,last"}
    return {**row, "vcpus": vcpus}


def models_row(player: Player, host: Sequence[str], machine: str, expand: Sequence[str], realize: Sequence[str]) -> dict[str, Any]:
    """Make a row as in qmp.jsonl.gz of tests/captures/qemu, without the host's name. `realize` needs the tables of this QEMU's release."""
    row: dict[str, Any] = {"qemu": release_of(player), "machine": machine}
    command = player.command(host)
    with Qmp(command, machine=machine) as qemu:
        row["definitions"] = sorted(
            [model["name"], model.get("alias-of"), model.get("deprecated", False), model["unavailable-features"]]
            for model in qemu.ask("query-cpu-definitions")
        )
        row["expansions"] = {cpu: _expansion(qemu, cpu) for cpu in expand}
    row["realized"] = {cpu: _realized(command, machine, cpu, release_of(player)) for cpu in realize}
    return row


def _expansion(qemu: Qmp, cpu: str) -> dict[str, Any]:
    model, *settings = cpu.split(",")
    pairs = [setting.partition("=") for setting in settings]
    if not all(value in ("on", "off") for _, _, value in pairs):
        raise InputError(f"{cpu!r} is not MODEL,property=on|off,...")
    found = qemu.expand(model, {name: value == "on" for name, _, value in pairs})
    known = {name: value for name, value in found.items() if name not in OF_ANY_DEVICE}
    return {
        "on": sorted(name for name, value in known.items() if value is True),
        "other": {name: value for name, value in known.items() if not isinstance(value, bool)},
    }


def _realized(command: Sequence[str], machine: str, cpu: str, release: str) -> list[str]:
    with Qmp(command, machine=machine, cpu=cpu) as qemu:
        path = qemu.ask("query-cpus-fast")[0]["qom-path"]
        return sorted(name for name in catalog(release).flags if qemu.ask("qom-get", path=path, property=name))


def release_of(player: Player) -> str:
    """Give major and minor of the QEMU's release."""
    return ".".join(player.version.split(".")[:2])


def host_lines(named: str) -> list[str]:
    """Read a host's lines off a file, or off one key of a file like tests/captures/qemu/hosts.json.gz, as FILE:KEY. Raises InputError."""
    path, _, key = named.partition(":")
    text = read(Path(path))
    lines = text.splitlines()
    if key:
        try:
            lines = json.loads(text)[key]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"no host {key}", source=path) from None
    found = [line for line in lines if re.match(r"(RAW|SUP|MSR|HV|TSC|STATE) ", line)]
    if not any(line.startswith("SUP ") for line in found):
        raise InputError("no host: it has no line SUP", source=named)
    return found


def read(path: Path) -> str:
    """Read a text file, gzipped or not. Raises InputError."""
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()
    except (OSError, EOFError, ValueError) as error:
        raise InputError(getattr(error, "strerror", None) or "not UTF-8 text, gzipped or not", source=str(path)) from None
