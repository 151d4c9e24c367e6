"""Who is in a fleet: how many hosts of each class there are in each cluster, and who could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.fleet.classes import HostClass

_NAMED = 3
FEW = 8
"""Hosts that are named one by one."""


class Count(NamedTuple):
    """The hosts of one class in one cluster: how many, and the first by name."""

    cluster: str
    id: int
    hosts: int
    example: str


class Unread(NamedTuple):
    """A member of which there is no snapshot that can be read, and why."""

    name: str
    why: str


class Group(NamedTuple):
    """A class, with the number of its hosts, the first by name, and where there are few of them the names of all.

    `core` is the place of one of its kinds of cores, where it is about that alone.
    """

    kind: HostClass
    hosts: int
    example: str
    names: tuple[str, ...]
    core: int | None = None

    @property
    def facts(self) -> Snapshot:
        """What is known of the core, of the first kind where all are meant."""
        return self.kind.cores[self.core or 0]

    @property
    def cores(self) -> tuple[Group, ...]:
        """One for each kind of core."""
        if len(self.kind.cores) == 1:
            return (self,)
        return tuple(self._replace(core=place) for place in range(len(self.kind.cores)))

    @property
    def cpu(self) -> str:
        """What the processor calls itself, and which of its kinds of cores is meant."""
        return self.kind.cpu if self.core is None else f"{self.kind.cpu}, core {self.core + 1} of {len(self.kind.cores)}"

    @property
    def spoken(self) -> str:
        """Name the hosts in a sentence."""
        return spoken((self,))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        kind = self.kind
        core = None if self.core is None else self.core + 1
        told = {"cpu": kind.cpu, "core": core, "microcode": kind.microcode, "kernel": kind.facts.kernel, "qemu": kind.facts.qemu}
        return {"class": kind.name, "hosts": self.hosts, "who": self.spoken, "names": list(self.names), **told}


@dataclass(frozen=True)
class Census:
    """The members that were asked about, by class, the largest class first; `unread` are those of which nothing is known.

    `counts` are the same members by class and cluster.
    """

    groups: tuple[Group, ...]
    unread: tuple[Unread, ...] = ()
    counts: tuple[Count, ...] = ()

    @classmethod
    def of(
        cls, counts: Iterable[Count], classes: Mapping[int, HostClass], unread: Iterable[Unread] = (),
        names: Mapping[int, Sequence[str]] = FrozenMap(),
    ) -> Census:  # fmt: skip
        """Put together the counts of all clusters asked about; `names` are those of the hosts of classes that have few."""
        hosts: dict[int, int] = {}
        example: dict[int, str] = {}
        given = sorted(counts)
        for count in given:
            hosts[count.id] = hosts.get(count.id, 0) + count.hosts
            example[count.id] = min(example.get(count.id, count.example), count.example)
        groups = [Group(classes[id_], number, example[id_], tuple(sorted(names.get(id_, ())))) for id_, number in hosts.items()]
        return cls(tuple(sorted(groups, key=lambda group: (-group.hosts, group.example))), tuple(unread), tuple(given))

    @property
    def hosts(self) -> int:
        """How many hosts there are that can be read."""
        return hosts_of(self.groups)

    @cached_property
    def cores(self) -> tuple[Group, ...]:
        """Each class with each of its kinds of cores: what a guest may run on."""
        return tuple(core for group in self.groups for core in group.cores)

    def as_dict(self) -> dict[str, object]:
        """For JSON: how many, and who could not be read."""
        return {"hosts": self.hosts, "unread": [{"name": name, "why": why} for name, why in self.unread]}

    @property
    def who_is_missing(self) -> str:
        """Name in a sentence who could not be read."""
        named = ", ".join(f"{name} ({why})" for name, why in self.unread[:_NAMED])
        more = len(self.unread) - _NAMED
        return named + (f" and {more} more" if more > 0 else "")


def _classes(groups: Iterable[Group]) -> list[Group]:
    """Return each class once, of whichever of its cores it was spoken."""
    return list({group.kind.id: group for group in groups}.values())


def hosts_of(groups: Iterable[Group]) -> int:
    """Count the hosts of some classes."""
    return sum(group.hosts for group in _classes(groups))


def of_whom(said: Iterable[tuple[Group, Iterable[str]]]) -> tuple[str, ...]:
    """Give what is to be said of some classes, each text once, and of whom where it is not said of all."""
    given = [(group, tuple(texts)) for group, texts in said]
    found: dict[str, list[Group]] = {}
    for group, texts in given:
        for text in dict.fromkeys(texts):
            found.setdefault(text, []).append(group)
    return tuple(text if len(groups) == len(given) else f"{spoken(groups)}: {text}" for text, groups in found.items())


def spoken(groups: Sequence[Group]) -> str:
    """Name the hosts of some classes in a sentence: all where they are few, else how many and the first."""
    groups = _classes(groups)
    hosts, names = hosts_of(groups), [name for group in groups for name in group.names]
    if hosts == 1:
        return groups[0].example
    if hosts <= FEW and len(names) == hosts:
        return " ".join(sorted(names))
    return f"{hosts} hosts ({min(group.example for group in groups)} and others)"
