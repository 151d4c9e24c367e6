"""Classes of hosts: those that no rule can tell apart are one class, whatever they are called and whichever of their CPUs was read.

What is blanked is what names the CPU itself among its like: the manuals' APIC IDs and what stands beside them. Topology counts stay, since
rules read them (Linux's ht, QEMU's cache leaves of -cpu host).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from vcpuid.cpuid import CpuidTable, Entry, Snapshot, brand_string
from vcpuid.cpuid.by_name import PartialTable
from vcpuid.errors import InputError
from vcpuid.releases import number

NORMAL = 1
"""The version of `normal`: a class is known by it too, so that two ways of blanking never share a name."""

_APIC_ID = 0xFF000000
_BLANKED: dict[int, tuple[int, int, int, int]] = {
    0x1: (0, _APIC_ID, 0, 0),
    0xB: (0, 0, 0, 0xFFFFFFFF),
    0x1F: (0, 0, 0, 0xFFFFFFFF),
    0x8000001E: (0xFFFFFFFF, 0xFF, 0xFF, 0),
    0x80000026: (0, 0, 0, 0xFFFFFFFF),
}
"""By leaf, the bits of EAX, EBX, ECX and EDX that name a CPU: x2APIC ID, APIC ID, AMD's core and node ID."""

_READ_OF_CPUINFO = ("flags", "vmx_flags", "bugs", "microcode")


def normal(snapshot: Snapshot) -> Snapshot:
    """Blank what differs between hosts that are the same to every rule; the rest is the class's facts.

    Of the kernel's release major and minor stay: they choose the tables. Raises InputError for a guest's table, which is no host.
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
        cpuinfo={name: snapshot.cpuinfo[name] for name in _READ_OF_CPUINFO if name in snapshot.cpuinfo},
        params=snapshot.params,
        named=snapshot.named,
        kernel=_series(snapshot.kernel),
    )


def _blanked(table: CpuidTable) -> CpuidTable:
    if not any(function in _BLANKED for function, *_ in table):
        return table
    entries = [_without(entry, _BLANKED[entry.function]) if entry.function in _BLANKED else entry for entry in table]
    return table.like(entries) if isinstance(table, PartialTable) else CpuidTable(entries)


def _sorted(raw: CpuidTable) -> CpuidTable:
    """Put the leaves in order: programs ask the CPUID instruction in different ones, which says nothing of the processor."""
    return raw if isinstance(raw, PartialTable) else CpuidTable(sorted(raw))


def _without(entry: Entry, mask: tuple[int, int, int, int]) -> Entry:
    eax, ebx, ecx, edx = (value & ~blank for value, blank in zip(entry.registers, mask, strict=True))
    return entry._replace(eax=eax, ebx=ebx, ecx=ecx, edx=edx)


def _series(kernel: str | None) -> str | None:
    if kernel is None:
        return None
    try:
        major, minor = number(kernel)
    except InputError:
        return kernel
    return f"{major}.{minor}"


@dataclass(frozen=True)
class HostClass:
    """A class: its facts, a snapshot in which nothing names one host."""

    facts: Snapshot

    @classmethod
    def of(cls, snapshot: Snapshot) -> HostClass:
        """Return the class of a host; raises InputError for what is none."""
        return cls(normal(snapshot))

    @cached_property
    def id(self) -> int:
        """63 bits over the facts, the same in every process and on every machine: what every database has a column for."""
        digest = blake2b(f"{NORMAL} {self.facts.fingerprint}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") >> 1

    @property
    def name(self) -> str:
        """The id as people see it: sixteen hexadecimal digits."""
        return f"{self.id:016x}"

    @property
    def cpu(self) -> str:
        """What the processor calls itself, else its vendor."""
        table = self.facts.raw or self.facts.supported or CpuidTable()
        return brand_string(table).strip() or self.facts.vendor

    @property
    def microcode(self) -> str | None:
        """The microcode's revision as /proc/cpuinfo prints it; None where that is not told."""
        return self.facts.cpuinfo.get("microcode")
