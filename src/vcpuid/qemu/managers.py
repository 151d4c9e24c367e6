"""Names for CPUs that managers of guests have invented: what each stands for, as the argument of QEMU's -cpu.

QEMU itself knows none of them. Whoever asks about a guest may have no other name for its CPU: so they are understood wherever a -cpu is
asked for, with a remark. data/manager-cpus.json has them, each manager's with its source.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import NamedTuple

from vcpuid import data
from vcpuid.setup import Setup


class Understood(NamedTuple):
    """A -cpu in QEMU's words, and what is to be said of it; `remark` is None where it was in these words before."""

    cpu: str
    remark: str | None


def manager_cpu(name: str) -> tuple[str, str] | None:
    """Return who has invented a name for -cpu, and the -cpu argument that it stands for; None where nobody is known to have."""
    row = data.load("manager-cpus")["rows"].get(name)
    return None if row is None else (row[0], row[1])


def worked_out(name: str) -> tuple[str, str] | None:
    """Return who has a name for a CPU that is another one on every host, and how it comes about; None for any other name."""
    row = data.load("manager-cpus")["worked_out"].get(name)
    return None if row is None else (row[0], row[1])


def source_of(manager: str) -> str:
    """Say where a manager's names were read."""
    found: str = data.load("manager-cpus")["sources"][manager]
    return found


def proxmox_flags() -> frozenset[str]:
    """Give the flags that Proxmox VE lets one VM set."""
    return frozenset(data.load("manager-cpus")["proxmox_flags"]["names"])


def proxmox_models() -> dict[str, str]:
    """Give the models that Proxmox VE knows, each with the vendor= that it sets, "" for none."""
    rows: dict[str, list[str]] = data.load("manager-cpus")["proxmox_models"]["vendors"]
    return {name: vendor for vendor, names in rows.items() for name in names}


def manager_name(cpu: str, manager: str) -> str | None:
    """Return what a manager calls a -cpu argument that one of its names stands for, None where it has no name for it."""
    rows = data.load("manager-cpus")["rows"].items()
    return next((name for name, (who, stands_for) in rows if who == manager and _same(stands_for, cpu)), None)


def _same(one: str, other: str) -> bool:
    model, *settings = one.split(",")
    other_model, *others = other.split(",")
    return model == other_model and sorted(settings) == sorted(others)


def understood(cpu: str) -> Understood:
    """Put a -cpu argument into QEMU's words: one whose model is a manager's name, or one in Proxmox VE's form; what follows is kept."""
    own = _from_proxmox(cpu)
    name, comma, rest = (own or cpu).partition(",")
    found = manager_cpu(name)
    argument = f"{name if found is None else found[1]}{comma}{rest}"
    if own is not None:
        return Understood(argument, f"{cpu} is what Proxmox VE writes for -cpu {argument}")
    if found is None:
        return Understood(cpu, None)
    manager, stands_for = found
    return Understood(argument, f"{name} is {manager}'s name for -cpu {stands_for}")


_PROXMOX_ONLY = re.compile(r"(?:^cputype=|,(?:flags=[+-]|hidden=|phys-bits=host(?:,|$)))")
"""What only Proxmox VE's form of a CPU has."""


def _from_proxmox(cpu: str) -> str | None:
    """Read the option `cpu` of Proxmox VE's qm.conf, as host,flags=+aes;-pcid,hidden=1; None for what is not in its form.

    The form is qm.conf(5)'s, what each part is for QEMU is CPUConfig.pm's of qemu-server.
    """
    if not _PROXMOX_ONLY.search(cpu):
        return None
    model, *parts = cpu.removeprefix("cputype=").split(",")
    settings = []
    for part in parts:
        name, _, value = part.partition("=")
        if name == "flags":
            settings += value.split(";")
        elif name == "hidden":
            settings += ["kvm=off"] if value == "1" else []
        elif part == "phys-bits=host":
            settings.append("host-phys-bits=on")
        else:
            settings.append(part)
    return ",".join((model, *filter(None, settings)))


def remarked(cpu: str, setup: Setup) -> tuple[str, Setup]:
    """Do the same with the remark among the setup's."""
    found = understood(cpu)
    if found.remark is None or found.remark in setup.remarks:
        return found.cpu, setup
    return found.cpu, replace(setup, remarks=(*setup.remarks, found.remark))
