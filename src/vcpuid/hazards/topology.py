"""Leaves that tell of threads, cores and packages, and contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, bits
from vcpuid.hazards.rule import HazardRule, Severity
from vcpuid.hazards.view import View

_SMT = 1


class LevelSubleaf(NamedTuple):
    """One sub-leaf of leaf 0xB or 0x1F: its type, the width of the ids below the next level, how many threads that has, the x2APIC id."""

    kind: int
    width: int
    threads: int
    x2apic: int


def levels(table: CpuidTable, function: int) -> list[LevelSubleaf]:
    """Read leaf 0xB or 0x1F, up to the first sub-leaf without a type."""
    if function > table.registers(0).eax:
        return []
    found: list[LevelSubleaf] = []
    for index in range(8):
        eax, ebx, ecx, edx = table.registers(function, index)
        if not ecx >> 8 & 0xFF:
            break
        found.append(LevelSubleaf(ecx >> 8 & 0xFF, eax & 0x1F, ebx & 0xFFFF, edx))
    return found


def _counts(view: View) -> Iterator[str]:
    """Compare how many threads the leaves give a package."""
    leaf1 = view.leaf(1).ebx >> 16 & 0xFF
    told = levels(view.table, 0x1F) or levels(view.table, 0xB)
    if told and told[-1].threads > 1 and view.tells(1):
        if not view.has(bits.HT):
            yield f"{told[-1].threads} threads in leaf 0xB, ht off"
        elif leaf1 <= 1:
            yield f"{told[-1].threads} threads in leaf 0xB, {leaf1} in leaf 1"
    if told and told[0].kind == _SMT and told[0].threads > told[-1].threads:
        yield f"a core has {told[0].threads} threads and its package {told[-1].threads}"
    for before, after in pairwise(told):
        if after.width < before.width:
            yield f"ids of the level above take {after.width} bits, those below {before.width}"
    for level in told:
        if level.threads > 1 << level.width:
            yield f"{level.threads} threads in ids of {level.width} bits"


def _both(view: View) -> Iterator[str]:
    """Compare leaf 0x1F with leaf 0xB."""
    new, old = levels(view.table, 0x1F), levels(view.table, 0xB)
    if new and old and new[0].kind == old[0].kind == _SMT:
        if new[0].width != old[0].width:
            yield f"a core's ids take {new[0].width} bits in leaf 0x1F, {old[0].width} in 0xB"
        if new[-1].width != old[-1].width:
            yield f"a package's ids take {new[-1].width} bits in leaf 0x1F, {old[-1].width} in 0xB"


def _leaf4(view: View) -> Iterator[str]:
    """Compare leaf 4's ids with those of leaf 0xB (Intel)."""
    told = levels(view.table, 0x1F) or levels(view.table, 0xB)
    caches = [entry for entry in view.table.leaf(4) if entry.eax & 0x1F]
    if view.is_amd or not caches or not told or told[-1].threads <= 1:
        return
    cores = (caches[0].eax >> 26) + 1
    fewest = 1 << told[-1].width - told[0].width if told[0].kind == _SMT else 1 << told[-1].width
    if cores < fewest and told[-1].threads // max(told[0].threads, 1) > cores:
        yield f"{cores} ids for cores in leaf 4, {fewest} in leaf 0xB"


def _ids(view: View) -> Iterator[str]:
    """Compare the ids that leaves give one thread."""
    if not view.tells(1):
        return
    first = view.leaf(1).ebx >> 24
    for number in (0xB, 0x1F):
        told = levels(view.table, number)
        if told and told[0].x2apic & 0xFF != first:
            yield f"APIC id {first:#x} in leaf 1, {told[0].x2apic:#x} in leaf {number:#x}"
    if view.is_amd and view.has(bits.TOPOEXT) and view.leaf(0x80000000).eax >= 0x8000001E:
        extended = view.leaf(0x8000001E).eax
        if extended & 0xFF != first:
            yield f"APIC id {first:#x} in leaf 1, {extended:#x} in leaf 0x8000001e"


def _amd(view: View) -> Iterator[str]:
    """Compare AMD's leaves: threads of a core in 0x8000001E, threads of a package in 0x80000008."""
    if not view.is_amd:
        return
    told = levels(view.table, 0xB)
    if view.has(bits.TOPOEXT) and view.leaf(0x80000000).eax >= 0x8000001E and told and told[0].kind == _SMT:
        threads = (view.leaf(0x8000001E).ebx >> 8 & 0xFF) + 1
        if threads != told[0].threads and told[0].threads:
            yield f"a core has {threads} threads in leaf 0x8000001e, {told[0].threads} in 0xB"
    count, width = (view.leaf(0x80000008).ecx & 0xFF) + 1, view.leaf(0x80000008).ecx >> 12 & 0xF
    if width and count > 1 << width:
        yield f"{count} threads in ids of {width} bits in leaf 0x80000008"
    if told and told[-1].threads > 1 and count > 1 and count != told[-1].threads:
        yield f"{count} threads of a package in leaf 0x80000008, {told[-1].threads} in 0xB"


def _threads_without_topoext(view: View) -> Iterator[str]:
    told = levels(view.table, 0xB)
    if view.is_amd and not view.has(bits.TOPOEXT) and told and told[0].kind == _SMT and told[0].threads > 1:
        yield f"{told[0].threads} threads a core"


def _twice(view: View) -> Iterator[str]:
    """Name APIC ids that two vCPUs have."""
    seen: set[int] = set()
    for table in (view.table, *view.others):
        told = levels(table, 0xB)
        number = told[0].x2apic if told else table.registers(1).ebx >> 24
        if number in seen:
            yield f"{number:#x}"
        seen.add(number)


_SCHEDULER = (
    "Guests believe one leaf or the other: Linux warns of it, builds wrong groups of threads, cores and caches for its scheduler, and may "
    "count more packages than there are, for which some licences charge."
)
_AS_QEMU = "let -smp make these leaves, of the newest machine type"

RULES = (
    HazardRule("topology.counts", Severity.RISK, _counts, _SCHEDULER, _AS_QEMU),
    HazardRule("topology.leaf-1f", Severity.RISK, _both, _SCHEDULER, _AS_QEMU),
    HazardRule("topology.leaf-4", Severity.RISK, _leaf4, _SCHEDULER, _AS_QEMU),
    HazardRule("topology.amd", Severity.RISK, _amd, _SCHEDULER, _AS_QEMU),
    HazardRule(
        "topology.ids", Severity.RISK, _ids,
        "Linux reports a firmware bug and may send interrupts to the wrong CPU, or not bring one up.",
        "give leaves 1, 0xB, 0x1F and 0x8000001E the vCPU's own APIC id, as QEMU does",
    ),
    HazardRule(
        "topology.id-twice", Severity.BREAKS, _twice,
        "Two vCPUs answer to one APIC id: the guest does not bring up the second.",
        "give each vCPU's table its own APIC id, as QEMU does",
    ),
    HazardRule(
        "topology.no-topoext", Severity.RISK, _threads_without_topoext,
        "Without TOPOEXT an AMD guest reads no threads: each counts as a core of its own, and core scheduling does not keep apart what "
        "shares one.",
        "add +topoext",
    ),
)  # fmt: skip
