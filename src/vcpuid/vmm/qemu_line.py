"""QEMU's command line as a process shows it: what of it makes the guest's CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_DEFAULT_CPU, _DEFAULT_MACHINE = "qemu64", "pc"
"""QEMU's own for x86-64, where none is named."""
_VALUES = {"cpu": "cpu", "M": "machine", "machine": "machine", "smp": "smp", "global": "globals"}


@dataclass(frozen=True, slots=True)
class QemuLine:
    """What -cpu, -machine, -smp and every -global say; `unread` names options whose files say more of it."""

    cpu: str = _DEFAULT_CPU
    machine: str = _DEFAULT_MACHINE
    smp: str = "1"
    globals: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def read_line(arguments: Sequence[str], program: str) -> QemuLine | None:
    """Read a command line that may begin with other programs (`chroot`, `taskset`); None where `program` is not in it."""
    place = next((at for at, word in enumerate(arguments) if word.rpartition("/")[2] == program), None)
    if place is None:
        return None
    found: dict[str, list[str]] = {"cpu": [], "machine": [], "smp": [], "globals": []}
    unread: list[str] = []
    words = iter(arguments[place + 1 :])
    for word in words:
        name = word[2:] if word.startswith("--") else word[1:] if word.startswith("-") else ""
        if name in _VALUES:
            found[_VALUES[name]].append(next(words, ""))
        elif name == "readconfig":
            unread.append(f"-readconfig {next(words, '')}")
    machine = _machine(found["machine"])
    return QemuLine((found["cpu"] or [_DEFAULT_CPU])[-1], machine, ",".join(found["smp"]) or "1", tuple(found["globals"]), tuple(unread))


def _machine(given: Sequence[str]) -> str:
    """Put several -machine together: the last type counts, and the options of all; those of the accelerator are its own."""
    name, options = _DEFAULT_MACHINE, []
    for text in given:
        for place, part in enumerate(text.split(",")):
            key, equals, value = part.partition("=")
            if (not equals and place == 0) or key == "type":
                name = value if equals else part
            elif part and key != "accel":
                options.append(part)
    return ",".join((name, *options))
