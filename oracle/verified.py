"""Remakes a committed capture and compares it, line by line or row by row.

The frequency of the TSC is the machine's on which a capture is made. Where nothing else differs, that is said, and counts as the same.
"""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any

from emulated import Emulator
from kernels import find_kernel
from played import Player
from remade import DEPRECATED, is_rows, lines_of, made_by, remake
from vcpuid.errors import UnavailableError

SHOWN = 40
"""Lines of a difference that are shown."""

TSC = re.compile(r"^(KHZ )\d+$|\b(40000010\.[0-9a-f]+ f\d )[0-9a-f]{8}|(host \()\d+(?= kHz\))")
"""Where captures show it: KVM_GET_TSC_KHZ, the leaf of VMware that QEMU fills, and a warning of QEMU's. For Xen's leaf see `time_scale`."""


def verify(path: Path, emulator: Emulator, *, kernel: str | None = None, rows: int = 1) -> int:
    """Remake a capture and print whether it is the same; returns the exit status, 1 where it is not.

    `kernel` replaces the one that a capture of lines names; `rows` is how many rows of a file of rows to remake (0: all of this QEMU's).
    Raises InputError for a file that is no capture, UnavailableError where what made it is not to be had.
    """
    return _verify_rows(path, emulator, rows) if is_rows(path) else _verify_lines(path, emulator, kernel)


def _verify_lines(path: Path, emulator: Emulator, kernel: str | None) -> int:
    committed = lines_of(path)
    if committed.qemu is not None and committed.qemu != f"{emulator.version()} tcg":
        made_with = f"{path.name} was made with QEMU {committed.qemu}, not {emulator.version()}"
        raise UnavailableError(f"{made_with}: name another by --root or --qemu")
    made = committed.make(emulator, find_kernel(kernel or f"linux-image-{committed.kernel}"), committed.cpu)
    if not committed.names_qemu:
        made = [line for line in made if not line.startswith("QEMU ")]
    return _report(path.name, committed.lines, made)


def _report(name: str, committed: list[str], made: list[str]) -> int:
    if committed == made:
        print(f"{name}: the same, {len(made)} lines")
        return 0
    if without_tsc(committed) == without_tsc(made):
        print(f"{name}: the same but for the frequency of this machine's TSC, {len(made)} lines")
        return 0
    print("\n".join([f"{name}: differs", *_changes(committed, made)]))
    return 1


def without_tsc(value: Any) -> Any:
    """Replace the frequency of the machine's TSC in a capture's lines, or in a part of a row.

    Where lines tell it (KHZ), its words in Xen's leaf are replaced as well: the frequency, and the scale that KVM makes of it.
    """
    if isinstance(value, str):
        return TSC.sub(lambda match: f"{match[1] or match[2] or match[3]}TSC", value)
    if not isinstance(value, list):
        return value
    shown = {int(line.split()[1]) for line in value if isinstance(line, str) and re.fullmatch(r"KHZ \d+", line)}
    words = {f" {time_scale(khz)}": " TSC TSC" for khz in shown if khz} | {f" {khz:08x}": " TSC" for khz in shown if khz}
    return [_replaced(without_tsc(each), words) for each in value]


def _replaced(value: Any, words: dict[str, str]) -> Any:
    for word, name in words.items() if isinstance(value, str) else ():
        value = value.replace(word, name)
    return value


def time_scale(khz: int) -> str:
    """Work out the fraction of 32 bits and the shift that turn a TSC into nanoseconds, as kvm_get_time_scale does (arch/x86/kvm/x86.c)."""
    scaled, ticks, shift = 10**9, khz * 1000, 0
    while ticks > 2 * scaled:
        ticks >>= 1
        shift -= 1
    while ticks <= scaled:
        if ticks & 1 << 31:
            scaled >>= 1
        else:
            ticks <<= 1
        shift += 1
    return f"{(scaled << 32) // ticks:08x} {shift & 0xFFFFFFFF:08x}"


def _changes(committed: list[str], made: list[str]) -> list[str]:
    changes = [line for line in difflib.unified_diff(committed, made, lineterm="", n=0) if not line.startswith(("---", "+++"))]
    return [*changes[:SHOWN], *([f"… {len(changes) - SHOWN} more"] if len(changes) > SHOWN else [])]


def _verify_rows(path: Path, emulator: Emulator, count: int) -> int:
    same = by_tsc = 0
    with Player(emulator) as player:
        wanted = made_by(path, player)[: count or None]
        for row, host in wanted:
            made = remake(player, row, host)
            told = {key: value for key, value in row.items() if key != "vcpus_kept"}
            if "stderr" in told:
                told["stderr"] = [line for line in told["stderr"] if not line.startswith(DEPRECATED)]
            different = [key for key, value in told.items() if without_tsc(value) != without_tsc(made.get(key))]
            if different:
                print(f"{row['machine']} -cpu {row.get('cpu', '')} on {row['host']}: {', '.join(different)} differ")
                for key in different:
                    print("\n".join(_changes(*(json.dumps(each.get(key), indent=1).splitlines() for each in (told, made)))))
            else:
                same += 1
                by_tsc += any(value != made[key] for key, value in told.items())
    but = f", {by_tsc} of them but for the frequency of this machine's TSC" if by_tsc else ""
    print(f"{path.name}: {same} of {len(wanted)} rows the same{but}")
    return 0 if same == len(wanted) else 1
