"""The flags of /proc/cpuinfo, on a host or in its guest, as far as they are certain, and those that are not told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vcpuid.answers.certainty import hanging
from vcpuid.linux.cpuinfo import CpuInfo, cpuinfo, named
from vcpuid.path.pipeline import Path, guest_snapshot
from vcpuid.setup import Setup, Stack
from vcpuid.told.completions import first_leaves, nameless
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact, NotTold

SCHEMA = "vcpuid/linux-flags/1"
"""The form of `Told.as_dict`."""

EVERY_FLAG = "every flag"
"""What is not told of a processor that does not say who made it, and which it is."""


class Told(NamedTuple):
    """The lines as far as they are certain, and the names of which the host does not tell enough to say whether they stand there."""

    info: CpuInfo
    not_told: tuple[NotTold, ...] = ()

    def as_dict(self, setup: Setup, path: Mapping[str, object] | None = None) -> dict[str, object]:
        """For JSON; `path` is the path to the guest whose Linux it is."""
        lines = {line: list(names) for line, names in self.info._asdict().items()}
        not_told = [found.as_dict() for found in self.not_told]
        head = {"schema": SCHEMA, "setup": setup.as_dict(vmm=False), "remarks": list(setup.remarks), "path": path}
        return {**head, **lines, "not_told": not_told}


def certain(info: CpuInfo, hanging: Mapping[tuple[str, str], tuple[Fact, ...]]) -> Told:
    """Take the names out that depend on facts which are not told; `hanging` gives those facts by the names' line and spelling."""
    lines = ((name for name in names if (line, name) not in hanging) for line, names in info._asdict().items())
    spelled = (NotTold(name if line == "flags" else f"{line.replace('_', ' ')}: {name}", facts) for (line, name), facts in hanging.items())
    return Told(CpuInfo(*(tuple(names) for names in lines)), tuple(spelled))


def told(setup: Setup) -> Told:
    """Say what /proc/cpuinfo shows of a settled host, and what the host does not tell enough to know."""
    if blind := first_leaves(setup.host):
        return Told(CpuInfo((), (), ()), (NotTold(EVERY_FLAG, blind),))
    return certain(cpuinfo(setup), doubts(setup, lambda other: named(cpuinfo(other))))


def flags_inside(path: Path, kernel: Stack) -> tuple[Told, Setup]:
    """Say what /proc/cpuinfo shows in the guest under a kernel of its own; return that, and the guest as a host of this kernel."""
    if blind := nameless(path.host):
        return Told(CpuInfo((), (), ()), (NotTold(EVERY_FLAG, blind),)), _inside(path, kernel)
    found = hanging(path.cpu, path.setup, path.vmm, lambda other: None if other is None else named(cpuinfo(_inside(other, kernel))))
    inside = _inside(path, kernel)
    return certain(cpuinfo(inside), found), inside


def _inside(path: Path, kernel: Stack) -> Setup:
    return Setup.of(guest_snapshot(path), kernel)
