"""What a host has been: its classes in the order of time, and what changed from one to the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from vcpuid.fleet.adding import spoken
from vcpuid.fleet.changes import changed
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.fleet import Fleet
from vcpuid.fleet.store import Changed


class Observation(NamedTuple):
    """A time through which a host was of one class: in which cluster, from when to when it was seen so, and what was new about it.

    Without a class it was removed.
    """

    cluster: str
    first: int
    last: int
    id: int | None
    changes: tuple[str, ...]


def of_host(fleet: Fleet, name: str) -> tuple[Observation, ...]:
    """Return a host's observations; raises InputError where there is no host of that name, and for a folder, which keeps no history."""
    found: list[Observation] = []
    before: HostClass | None = None
    for cluster, first, last, kind in fleet.history(name):
        changes = ("removed",) if kind is None else () if before is None else tuple(changed(before, kind))
        found.append(Observation(cluster, first, last, None if kind is None else kind.id, changes))
        before = kind or before
    return tuple(found)


class Changes(NamedTuple):
    """Hosts of which the same changed between two days: their classes' ids before and after, None where they were no members."""

    names: tuple[str, ...]
    before: str | None
    after: str | None
    changes: tuple[str, ...]


def between_days(found: Iterable[Changed]) -> tuple[Changes, ...]:
    """Put together the hosts that changed from the same class to the same, the most first."""
    groups: dict[tuple[HostClass | None, HostClass | None], list[str]] = {}
    for one in found:
        groups.setdefault((one.before, one.after), []).append(spoken((one.cluster, one.name)))
    made = [Changes(tuple(names), _id(before), _id(after), _changes(before, after)) for (before, after), names in groups.items()]
    return tuple(sorted(made, key=lambda group: (-len(group.names), group.names)))


def _id(kind: HostClass | None) -> str | None:
    return None if kind is None else kind.name


def _changes(before: HostClass | None, after: HostClass | None) -> tuple[str, ...]:
    if before is None or after is None:
        return ("new" if before is None else "removed",)
    return tuple(changed(before, after))
