"""Classes of hosts: those that no rule can tell apart are one class, whatever they are called and whichever of their CPUs was read.

What is blanked is what `vcpuid.decode` lists as one CPU's own: APIC IDs, serial numbers, clocks of the moment. Topology counts stay, since
rules read them (Linux's ht, QEMU's cache leaves of -cpu host). A machine whose cores are of several kinds is of a class with all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from vcpuid.cpuid import CpuidTable, Entry, Snapshot, brand_string
from vcpuid.cpuid.by_name import PartialTable
from vcpuid.decode import PER_CPU, mixed, parties, per_cpu
from vcpuid.decode.layout import canonical
from vcpuid.errors import InputError
from vcpuid.releases import series

NORMAL = 2
"""The version of `normal`: a class is known by it too, so that two ways of blanking never share a name."""

_KIND_OF_CORE = 0x1A
"""Intel's leaf whose EAX is larger on a core for speed than on one for thrift."""

_LEAVES = frozenset(leaf for leaf, _ in PER_CPU)
"""The few leaves in which something is one CPU's own; layouts are looked up for these alone."""

READ_OF_CPUINFO = ("flags", "vmx_flags", "bugs", "microcode")
"""The lines of /proc/cpuinfo that rules read."""


def normal(snapshot: Snapshot) -> Snapshot:
    """Blank what differs between hosts that are the same to every rule; the rest is the class's facts.

    Of the kernel's and QEMU's releases that stays which chooses the tables. Raises InputError for a guest's table, which is no host.
    """
    if snapshot.table is not None:
        raise InputError("a table made for a guest, which is no host")
    return Snapshot(
        raw=_sorted(_blanked(snapshot.raw)),
        supported=None if snapshot.supported is None else _blanked(snapshot.supported),
        emulated=snapshot.emulated,
        hyperv=snapshot.hyperv,
        msrs=snapshot.msrs,
        hardware_msrs=snapshot.hardware_msrs,
        cpuinfo={name: snapshot.cpuinfo[name] for name in READ_OF_CPUINFO if name in snapshot.cpuinfo},
        params=snapshot.params,
        named=snapshot.named,
        kernel=_series(snapshot.kernel),
        qemu=_series(snapshot.qemu),
    )


def _blanked(table: CpuidTable) -> CpuidTable:
    whose = parties(table)
    entries = [_without(entry, whose.of(entry[0])) if canonical(entry[0]) in _LEAVES else entry for entry in table]
    return table.like(entries) if isinstance(table, PartialTable) else CpuidTable(entries)


def _sorted(raw: CpuidTable) -> CpuidTable:
    """Put the leaves in order: programs ask the CPUID instruction in different ones, which says nothing of the processor."""
    return raw if isinstance(raw, PartialTable) else CpuidTable(sorted(raw))


def _without(entry: Entry, who: str) -> Entry:
    function, index, flags, *registers = entry
    return Entry(function, index, flags, *(value & ~blank for value, blank in zip(registers, per_cpu(function, index, who), strict=True)))


def _series(release: str | None) -> str | None:
    if release is None:
        return None
    try:
        return series(release)
    except InputError:
        return release


@dataclass(frozen=True)
class HostClass:
    """A class: the facts of each kind of core that its hosts have, a snapshot in which nothing names one host; most have one kind.

    `whole` is False where their CPUs are not all alike, and one of them is all that was read.
    """

    cores: tuple[Snapshot, ...]
    whole: bool = True

    @classmethod
    def of(cls, *cpus: Snapshot) -> HostClass:
        """Return the class of a host whose CPUs tell this, in any order; raises InputError for what is no host."""
        kinds = {_digest(core): core for core in map(normal, cpus)}
        cores = sorted(kinds, key=lambda key: (-kinds[key].raw.registers(_KIND_OF_CORE).eax, key))
        return cls(tuple(kinds[key] for key in cores), len(cpus) > 1 or not any(mixed(core.raw) for core in kinds.values()))

    @cached_property
    def id(self) -> int:
        """63 bits over the facts, the same in every process and on every machine: what every database has a column for."""
        told = f"{NORMAL} {self.whole} {' '.join(map(_digest, self.cores))}"
        return int.from_bytes(blake2b(told.encode(), digest_size=8).digest(), "big") >> 1

    @property
    def name(self) -> str:
        """The id as people see it: sixteen hexadecimal digits."""
        return f"{self.id:016x}"

    @property
    def facts(self) -> Snapshot:
        """The facts of the first kind of core: all but the processor's tables are those of the others too."""
        return self.cores[0]

    @property
    def cpu(self) -> str:
        """What the processor calls itself, else its vendor."""
        table = self.facts.raw or self.facts.supported or CpuidTable()
        return brand_string(table).strip() or self.facts.vendor

    @property
    def microcode(self) -> str | None:
        """The microcode's revision as /proc/cpuinfo prints it; None where that is not told."""
        return self.facts.cpuinfo.get("microcode")


def _digest(facts: Snapshot) -> str:
    """Return what a class is known by: what rules read, and besides it names, which MSRs KVM refused, and the QEMU where it is told."""
    told = "" if facts.qemu is None else f" QEMU {facts.qemu}"
    return f"{facts.fingerprint} {sorted(facts.named.items())} {sorted(facts.msrs.refused)}{told}"
