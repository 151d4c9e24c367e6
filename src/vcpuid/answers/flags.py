"""The flags of /proc/cpuinfo, on a host or in its guest, as far as they are certain, and those that are not told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vcpuid.answers.certainty import hanging, rests
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.linux.cpuinfo import CpuInfo, cpuinfo, named
from vcpuid.linux.tables import tables
from vcpuid.path.pipeline import Path, guest_snapshot
from vcpuid.setup import Setup, Stack
from vcpuid.told.assumptions import Assumption, as_dicts, assumed
from vcpuid.told.completions import first_leaves, nameless
from vcpuid.told.doubt import doubts
from vcpuid.told.facts import Fact, NotTold

SCHEMA = "vcpuid/linux-flags/1"
"""The form of `Told.as_dict`."""

EVERY_FLAG = "every flag"
"""What is not told of a processor that does not say who made it, and which it is."""


class Told(NamedTuple):
    """The lines as far as they are certain, and the names of which the host does not tell enough to say whether they stand there.

    `assumes` are the settings that nobody gave and that are taken to be the usual ones, each with the names that hang on it.
    """

    info: CpuInfo
    not_told: tuple[NotTold, ...] = ()
    assumes: Mapping[Assumption, tuple[str, ...]] = FrozenMap()

    def as_dict(self, setup: Setup, path: Mapping[str, object] | None = None) -> dict[str, object]:
        """For JSON; `path` is the path to the guest whose Linux it is."""
        lines = {line: list(names) for line, names in self.info._asdict().items()}
        not_told = [found.as_dict() for found in self.not_told]
        head = {"schema": SCHEMA, "setup": setup.as_dict(vmm=False), "remarks": list(setup.remarks), "path": path}
        return {**head, **lines, "not_told": not_told, "assumes": as_dicts(self.assumes)}


Name = tuple[str, str]
"""A name with the line that it stands on."""


def certain(info: CpuInfo, hanging: Mapping[Name, tuple[Fact, ...]], assumes: Mapping[Assumption, tuple[Name, ...]] = FrozenMap()) -> Told:
    """Take the names out that depend on facts which are not told: `hanging` gives those facts."""
    lines = ((name for name in names if (line, name) not in hanging) for line, names in info._asdict().items())
    open_ = (NotTold(_spelled(name), facts) for name, facts in hanging.items())
    resting = FrozenMap((taken, tuple(map(_spelled, names))) for taken, names in assumes.items())
    return Told(CpuInfo(*(tuple(names) for names in lines)), tuple(open_), resting)


def _spelled(name: Name) -> str:
    line, flag = name
    return flag if line == "flags" else f"{line.replace('_', ' ')}: {flag}"


def told(setup: Setup) -> Told:
    """Say what /proc/cpuinfo shows of a settled host, and what the host does not tell enough to know."""
    if blind := first_leaves(setup.host):
        return Told(CpuInfo((), (), ()), (NotTold(EVERY_FLAG, blind),))
    found, info = doubts(setup, lambda other: named(cpuinfo(other))), cpuinfo(setup)
    if found and _shown(setup) and not setup.params.linux:
        info, found = _settled(setup, info, found)
    return certain(info, found, {} if _shown(setup) else assumed(setup, lambda other: named(cpuinfo(other)), found))


def _settled(setup: Setup, info: CpuInfo, hanging: Mapping[Name, tuple[Fact, ...]]) -> tuple[CpuInfo, dict[Name, tuple[Fact, ...]]]:
    """Let the host's own lines decide on names that hang on what it does not tell: its kernel knew that. Returns what is left open."""
    seen, known = cpuinfo(setup, observed=True)._asdict(), tables(setup.kernel.tables)
    orders = {"flags": known.shown_features, "bugs": known.shown_bugs, "vmx_flags": known.shown_vmx}
    told = {name for name in hanging if name[0] in setup.host.cpuinfo}
    lines = []
    for line, names in info._asdict().items():
        on = {name for name in names if (line, name) not in told} | {name for name in seen[line] if (line, name) in told}
        lines.append(tuple(name for name, _ in orders[line] if name in on))
    return CpuInfo(*lines), {name: facts for name, facts in hanging.items() if name not in told}


def _shown(setup: Setup) -> bool:
    """Whether the host's own /proc/cpuinfo is at hand: then its kernel and its command line are those that made it."""
    return "flags" in setup.host.cpuinfo


def flags_inside(path: Path, kernel: Stack) -> tuple[Told, Setup]:
    """Say what /proc/cpuinfo shows in the guest under a kernel of its own; return that, and the guest as a host of this kernel."""
    if blind := nameless(path.host):
        return Told(CpuInfo((), (), ()), (NotTold(EVERY_FLAG, blind),)), inside(path, kernel)

    def names(of: Path) -> Mapping[Name, bool]:
        return named(cpuinfo(inside(of, kernel)))

    found = hanging(path.cpu, path.setup, path.vmm, lambda other: None if other is None else names(other))
    guest = inside(path, kernel)
    return certain(cpuinfo(guest), found, rests(path, names, found)), guest


def inside(path: Path, kernel: Stack) -> Setup:
    """Return a path's guest as a host of this kernel."""
    return Setup.of(guest_snapshot(path), kernel)
