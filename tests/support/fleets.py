"""Fleets made of captured hosts."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from support.captures import MACHINES, host
from vcpuid.cpuid import Snapshot
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.members import Census, Count, Unread

HOSTS = tuple(name for name in MACHINES if name.endswith(("@6.12", "@7.3")))


@cache
def kind(name: str) -> HostClass:
    return HostClass.of(host(name))


def census(names: Iterable[str], others: Iterable[tuple[str, Snapshot]] = (), unread: Iterable[Unread] = ()) -> Census:
    """Put captured hosts, and others, into a fleet; each is called as the capture is."""
    members = [*((name, kind(name)) for name in names), *((name, HostClass.of(snapshot)) for name, snapshot in others)]
    counts: dict[int, list[str]] = {}
    for name, one in members:
        counts.setdefault(one.id, []).append(name)
    classes = {one.id: one for _, one in members}
    return Census.of((Count("", id_, len(found), min(found)) for id_, found in counts.items()), classes, unread, counts)
