"""Makes a capture once more, as a committed one was made: the same CPU or the same row, on another kernel or another QEMU."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from emulated import Emulator
from kernels import find_kernel
from kinds import kernel_lines, lookup_lines, models_row, qemu_row, read, release_of, states_lines
from played import Player
from vcpuid.errors import InputError, UnavailableError

UNNAMED = {"CASE": "11.1.3 tcg", "SUP": "7.2.22 tcg"}
"""What made the captures that do not tell it, by their first line after the head: found by remaking them."""

DEPRECATED = "qemu-system-x86_64: warning: Machine type '"
"""How a line begins that sets.jsonl.gz leaves out: it says nothing of the CPU."""

Row = dict[str, Any]


class Lines(NamedTuple):
    """A capture of lines: what makes it, its CPU, the kernel's release, the QEMU that made it, whether it names that QEMU itself."""

    lines: list[str]
    make: Callable[[Emulator, Path, str], list[str]]
    cpu: str
    kernel: str
    qemu: str | None
    names_qemu: bool


def is_rows(path: Path) -> bool:
    """Tell a file of rows from a capture of lines."""
    return ".jsonl" in path.name


def lines_of(path: Path) -> Lines:
    """Read a capture of lines. Raises InputError for what is none, UnavailableError for one that no command here can make."""
    lines = read(path).splitlines()
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(" ")
        if name not in ("CPU", "QEMU", "Bochs", "KERNEL", "CPUINFO"):
            break
        told.setdefault(name, value)
    else:
        raise InputError("no capture: it has no lines of any kind", source=str(path))
    makers = {"RAW": kernel_lines, "CASE": lookup_lines, "SUP": states_lines}
    if name not in makers or "CPU" not in told or "KERNEL" not in told:
        raise InputError("no capture of a kernel: it has no lines CPU and KERNEL ahead of RAW, CASE or SUP", source=str(path))
    if told["CPU"].startswith("bochs "):
        raise UnavailableError(f"{path.name} was made with Bochs, which no command here runs")
    qemu = told.get("QEMU", UNNAMED.get(name))
    return Lines(lines, makers[name], told["CPU"], told["KERNEL"], qemu, "QEMU" in told)


def rows_of(path: Path, release: str) -> list[tuple[Row, list[str]]]:
    """Read the rows that a release of QEMU made, each with its host's lines. Raises InputError for a file that is none of rows."""
    try:
        rows: list[Row] = [json.loads(line) for line in read(path).splitlines()]
    except ValueError:
        raise InputError("no rows of JSON, one a line", source=str(path)) from None
    hosts: dict[str, list[str]] = json.loads(read(path.parent / "hosts.json.gz"))
    return [(row, hosts[row["host"]]) for row in rows if row.get("qemu") == release]


def remake(player: Player, row: Row, host: list[str]) -> Row:
    """Make a row once more, of the kind that it is, with the keys that it has."""
    if "definitions" in row:
        return {**models_row(player, host, row["machine"], list(row["expansions"]), list(row["realized"])), "host": row["host"]}
    made = {**qemu_row(player, host, row["cpu"], row["machine"], row["smp"], row.get("more", ())), "host": row["host"]}
    made["stderr"] = [line for line in made["stderr"] if not line.startswith(DEPRECATED)]
    if "vcpus" not in row:  # options.jsonl.gz
        return {key: made[key] for key in row}
    if row["vcpus"] is None:  # a refusal in random.jsonl.gz
        made["vcpus"] = made["vcpus"] or None
    return made


def again(path: Path, emulator: Emulator, *, kernel: str | None, of: str | None) -> list[str]:
    """Give the lines of a new file: a capture of lines on another kernel, or what this QEMU makes of the rows that the release `of` made.

    Raises InputError where the one that is needed is not given, UnavailableError where something is lacking.
    """
    if not is_rows(path):
        capture = lines_of(path)
        return capture.make(emulator, find_kernel(kernel or f"linux-image-{capture.kernel}"), capture.cpu)
    if of is None:
        raise InputError("of which release of QEMU are the rows to ask again? Name it by --of", source=str(path))
    rows = rows_of(path, of)
    if not rows:
        raise InputError(f"no row was made with QEMU {of}", source=str(path))
    with Player(emulator) as player:
        return [json.dumps(remake(player, row, host)) for row, host in rows]


def made_by(path: Path, player: Player) -> list[tuple[Row, list[str]]]:
    """Read the rows that this QEMU's release made. Raises UnavailableError where there is none."""
    rows = rows_of(path, release_of(player))
    if not rows:
        raise UnavailableError(f"no row of {path.name} was made with QEMU {player.version}: name another by --root or --qemu")
    return rows
