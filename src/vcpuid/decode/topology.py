"""How logical processors hang together: the levels of a package, by shifts of the APIC ID.

Leaf 0x1F, 0xB or AMD's 0x80000026 tell levels; AMD's 0x8000001E and 0x80000008 and the old fields of leaves 1 and 4 stand in for them.
The counts are what APIC IDs have room for, or how many processors a leaf says there are; one CPU's table tells no more. Where CPUs are
not alike it tells of its own kind, and the tables of all of them tell the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple

from vcpuid.cpuid import bits
from vcpuid.cpuid.registers import CpuidTable, Entry
from vcpuid.cpuid.vendors import signature
from vcpuid.decode.caches import Cache, caches
from vcpuid.decode.meaning import AMD_DOMAINS, CACHES, DOMAINS
from vcpuid.decode.parties import parties


class Level(NamedTuple):
    """A level of the topology: instances of `name` share the APIC ID's bits from `shift` on, and hold `processors` logical ones."""

    name: str
    shift: int
    processors: int


class Processor(NamedTuple):
    """A logical processor of a package by its APIC ID, and the caches that it has."""

    apic_id: int
    caches: tuple[Cache, ...]


class Members(tuple[Processor, ...]):
    """The processors of a package by their APIC IDs.

    All of them have this same list, and what is worked out of it is remembered by it: so its hash is taken once.
    """

    @cached_property
    def _hash(self) -> int:
        return super().__hash__()

    def __hash__(self) -> int:
        return self._hash


class Topology(NamedTuple):
    """A package: `levels` from the innermost out, the last one the package itself; `apic_id` that of the CPU that the table is of.

    `mixed` says that the package's CPUs are not all like this one. Then `members` are those of the package of which tables were given,
    by their APIC IDs; it is empty where there is but one.
    """

    levels: tuple[Level, ...]
    apic_id: int
    source: str
    caches: tuple[Cache, ...] = ()
    mixed: bool = False
    members: Members = Members()

    @property
    def processors(self) -> int:
        """Logical processors of the package."""
        return self.levels[-1].processors

    def counts(self) -> dict[str, int]:
        """Say how many instances of each level the package has, threads first.

        Of a mixed package they are those of its members; of one of which only this CPU is known, they are what it would have if all its
        CPUs were like this one.
        """
        if self.members:
            return {"thread": len(self.members), **_instances(self.members, self.levels)}
        return {"thread": self.processors, **{level.name: -(-self.processors // max(level.processors, 1)) for level in self.levels}}


@lru_cache(8)
def _instances(members: Members, levels: tuple[Level, ...]) -> dict[str, int]:
    """Count the instances of each level among CPUs."""
    return {level.name: len({member.apic_id >> level.shift for member in members}) for level in levels}


class Cpus:
    """The CPUs of one machine by their tables; what takes all of them is worked out once, however many are asked about."""

    def __init__(self, tables: Sequence[CpuidTable]) -> None:
        self._tables = tables
        self._packages: dict[int, dict[int, Members]] = {}

    def topology(self, table: CpuidTable) -> Topology:
        """Read the topology of the table of one of them; the others count where CPUs are not alike.

        Not alike are those of a part that says so, and those of which the tables tell of other caches: no flag tells of a die with more L3.
        """
        found = _own(table)
        if len(self._tables) < 2 or not (found.mixed or self._kinds - {_kind(table)}):
            return found
        package = found.levels[-1].shift
        return found._replace(mixed=True, members=self._by_package(package).get(found.apic_id >> package, Members()))

    @cached_property
    def _kinds(self) -> set[tuple[tuple[Entry, ...], ...]]:
        return {_kind(table) for table in self._tables}

    @cached_property
    def _processors(self) -> list[Processor]:
        found = {each.apic_id: Processor(each.apic_id, each.caches) for each in map(_own, self._tables)}
        return [found[number] for number in sorted(found)]

    def _by_package(self, shift: int) -> dict[int, Members]:
        """Give the members of the packages of which several are known, by the bits of the APIC ID from `shift` on."""
        if shift not in self._packages:
            groups = ((number, Members(group)) for number, group in groupby(self._processors, lambda each: each.apic_id >> shift))
            self._packages[shift] = {number: members for number, members in groups if len(members) > 1}
        return self._packages[shift]


def topology(table: CpuidTable, others: Sequence[CpuidTable] = ()) -> Topology:
    """Read the topology of a table; `others` are those of the machine's CPUs, this one too. Of many, ask `Cpus`."""
    return Cpus(others).topology(table)


def _kind(table: CpuidTable) -> tuple[tuple[Entry, ...], ...]:
    """Give what tells of a CPU's caches."""
    return tuple(map(table.leaf, CACHES))


def _own(table: CpuidTable) -> Topology:
    apic_id, source, levels = next(_sources(table))
    return Topology(tuple(levels), apic_id, source, caches(table), mixed(table))


def mixed(table: CpuidTable) -> bool:
    """Whether CPUs are not alike: Intel's hybrid parts, and AMD's of several kinds of cores or with complexes of several sizes."""
    if parties(table).vendor == "intel":
        return table.has(bits.HYBRID_CPU)
    return any(entry.eax >> 30 for entry in table.leaf(0x80000026))


def _sources(table: CpuidTable) -> Iterator[tuple[int, str, list[Level]]]:
    for function, domains in ((0x80000026, AMD_DOMAINS), (0x1F, DOMAINS), (0xB, DOMAINS)):
        entries = [entry for entry in table.leaf(function) if entry.ecx >> 8 & 0xFF and entry.ebx & 0xFFFF]
        if entries:
            yield (
                entries[0].edx,
                f"{function:#x}",
                _levels([(entry.ecx >> 8 & 0xFF, entry.eax & 0x1F, entry.ebx & 0xFFFF) for entry in entries], domains),
            )
    yield _legacy(table)


def _levels(told: list[tuple[int, int, int]], domains: dict[int, str]) -> list[Level]:
    """Name what each level's instances are. A leaf's level n has the shift to level n + 1, and counts processors of that."""
    kinds = [domains.get(kind, f"level type {kind}") for kind, _, _ in told]
    inside = domains is AMD_DOMAINS  # AMD's level names the domain of which it counts processors, Intel's the one that is counted
    names = kinds if inside else [*kinds[1:], "package"]
    found = [Level(name, shift, count) for name, (_, shift, count) in zip(names, told, strict=True)]
    if found[-1].name == "socket":
        found[-1] = found[-1]._replace(name="package")
    return found


def _legacy(table: CpuidTable) -> tuple[int, str, list[Level]]:
    one = table.registers(1)
    logical = (one.ebx >> 16 & 0xFF) if table.has(bits.HT) else 1
    apic_id, source, threads, units = one.ebx >> 24, "0x1", 1, 1
    width = 0
    if (size := table.get(0x80000008)) is not None and size.ecx and table.has(bits.CMP_LEGACY):
        logical, width, source = (size.ecx & 0xFF) + 1, size.ecx >> 12 & 0xF, "0x80000008"
        if (ids := table.get(0x8000001E)) is not None and table.has(bits.TOPOEXT):
            apic_id, source, sharers = ids.eax, "0x8000001e", (ids.ebx >> 8 & 0xFF) + 1
            if signature(one.eax)[0] < ZEN:
                units = sharers
            else:
                threads = sharers
    elif (cache := table.get(4)) is not None and cache.eax & 0x1F:
        cores, source = (cache.eax >> 26) + 1, "0x4"
        threads = max(logical // cores, 1)
    elif parties(table).vendor == "intel":
        threads = logical  # Intel's processors of several cores have leaf 4
    logical = max(logical, 1)
    levels = [Level("package", width or (logical - 1).bit_length(), logical)]
    if 1 < units <= logical:
        levels.insert(0, Level("compute unit", (units - 1).bit_length(), units))
    if logical > 1:
        threads = min(threads, logical)
        levels.insert(0, Level("core", (threads - 1).bit_length(), threads))
    return apic_id, source, levels


ZEN = 0x17
"""The first family of AMD in which leaf 0x8000001E counts threads of a core; before, in Bulldozer's, it counts cores of a compute unit."""
