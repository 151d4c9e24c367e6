"""The software on a fleet's members: one that is named is the same on all, else each has its own, as far as its snapshot tells.

A guest that moves between QEMUs needs a machine type that all of them have. So where they differ, one without a version (q35) is that of
the oldest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError, QemuError
from vcpuid.fleet.members import Census, Group, of_whom
from vcpuid.fleet.proof import CUT
from vcpuid.kvm.effect import advised
from vcpuid.qemu.catalog import resolve_machine
from vcpuid.setup import NEWEST, Setup, Stack


def settled(census: Census, stack: Stack | None = None) -> tuple[Setup, ...]:
    """Settle the software on each class, on each kind of its cores; kernel and QEMU are its own where the stack names none.

    Raises InputError as `Setup.of`.
    """
    if not census.groups:
        raise InputError("there is no host of which anything is known")
    return on_each([group.facts for group in census.cores], stack)


def on_each(hosts: Sequence[Snapshot], stack: Stack | None = None) -> tuple[Setup, ...]:
    """Settle the software on each of some hosts; raises InputError as `Setup.of`."""
    setups = [advised(Setup.of(host, stack)) for host in hosts]
    if len({setup.vmm.number for setup in setups}) == 1:
        return tuple(setups)
    stack = stack or Stack()
    machine = _shared(eldest(setups), stack.machine)
    made = [advised(Setup.of(host, replace(stack, machine=machine))) for host in hosts]
    return tuple(replace(setup, remarks=(*setup.remarks, *_differing(setup, machine, stack.machine))) for setup in made)


def _shared(setup: Setup, machine: str) -> str:
    """Return the full name of a machine type where it is an alias that each QEMU takes for its own newest."""
    try:
        return resolve_machine(setup.vmm.tables, machine) if machine in ("q35", "pc") else machine
    except QemuError:  # said where a guest is asked about
        return machine


def _differing(setup: Setup, machine: str, asked: str) -> Iterator[str]:
    yield f"QEMU {setup.vmm}"
    if machine != asked:
        yield f"QEMUs differ, so {asked} is {machine}, the oldest one's: guests that move between them are to name it"


def eldest(setups: Iterable[Setup]) -> Setup:
    """Return a setup with the oldest QEMU: what it knows, the others know too."""
    return min(setups, key=lambda setup: setup.vmm.number)


def newest(setups: Iterable[Setup]) -> Setup:
    """Return a setup with the newest QEMU: it has a name for whatever any of them gives."""
    return max(setups, key=lambda setup: setup.vmm.number)


def qemus(setups: Iterable[Setup]) -> str:
    """Name the QEMUs in a sentence, the oldest first."""
    found = {str(setup.vmm): setup.vmm.number for setup in setups}
    *others, last = sorted(found, key=lambda name: (found[name], name))
    return f"{', '.join(others)} and {last}" if others else last


def chosen(setups: Sequence[Setup], how: str = "--qemu") -> str:
    """Name the QEMUs; of one that neither a host tells nor anybody asked for, say that it is the newest known, and how to name another."""
    untold = [setup for setup in setups if "qemu" in setup.assumed]
    if not untold:
        return qemus(setups)
    if len(untold) < len(setups):
        return f"{qemus(setups)} ({untold[0].vmm}, {NEWEST}, on hosts that do not tell theirs; {how} names another)"
    who = "the host does not tell its own" if len(setups) == 1 else "the hosts do not tell theirs"
    return f"{qemus(setups)} ({NEWEST}; {who}, {how} names another)"


def on_which(setups: Sequence[Setup]) -> str:
    """Name in a line the software that the hosts have in common, and of QEMU where it comes from, as `chosen` does."""
    return f"QEMU {chosen(setups)}, {eldest(setups).machine}"


def remarks(census: Census, *settled_on: Sequence[Setup]) -> tuple[str, ...]:
    """Return what is to be said of the software on the classes, and of those that are not whole: each once, and of whom."""

    def said(group: Group, setups: Iterable[Setup]) -> Iterator[str]:
        for setup in setups:
            yield from setup.remarks
        if not group.kind.whole:
            yield CUT

    given = zip(census.cores, zip(*settled_on, strict=True), strict=True)
    return of_whom((group, said(group, setups)) for group, setups in given)
