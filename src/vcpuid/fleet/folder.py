"""Snapshots as a fleet, in a folder or named one by one: a file is a host, called like the file; a folder within a folder is a cluster."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vcpuid.errors import InputError, VcpuidError
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.members import FEW, Census, Count, Unread
from vcpuid.fleet.reading import readings
from vcpuid.formats.absent import or_longer
from vcpuid.sources.folders import files

_ENDINGS = (".gz", ".txt", ".json", ".snapshot")
"""What is no part of a host's name at the end of a file's."""


def host_name(path: Path) -> str:
    """Return the host that a file is about: node7.example.org.txt.gz is node7.example.org."""
    return without_ending(path.name)


def without_ending(file: str) -> str:
    """Return a file's name without what is no part of its host's."""
    name = file
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or file


_NONE = "no file in it"


class Folder:
    """Snapshots in folders or files, read when it is asked for; it keeps no history. Two files of one name in one cluster are two hosts.

    A file that is named twice is one host; those of several places that would be called alike are called by their paths.

    `told` hears now and then how many files are read. Raises InputError where there is no file, or hardly one that can be read.
    """

    def __init__(self, *places: Path, told: Callable[[int], None] = lambda number: None) -> None:
        self._places = ", ".join(map(str, dict.fromkeys(places)))
        self._members: list[tuple[str, Path, str, HostClass]] = []
        self._unread: list[tuple[str, Path, Unread]] = []
        given = list(readings(_once(members(dict.fromkeys(places))), self._places, told))
        called = Counter((cluster, host_name(path)) for cluster, path, _ in given)
        for cluster, path, found in given:
            name = host_name(path)
            if len(places) > 1 and called[cluster, name] > 1:
                name = str(path)
            if isinstance(found, HostClass):
                self._members.append((cluster, path, name, found))
            else:
                self._unread.append((cluster, path, Unread(name, cause(found))))
        if not given:
            raise InputError(_NONE, source=self._places)
        empty = (place for place in places if os.path.isdir(place) and next(files(str(place)), None) is None)
        self._unread += [("", place, Unread(str(place), _NONE)) for place in empty]

    def census(self, cluster: str | None = None, as_of: int | None = None) -> Census:
        """Count the classes of a cluster, or of all; raises InputError for a day, since the files tell of today alone."""
        if as_of is not None:
            raise InputError("a folder of snapshots has no history: vcpuid fleet add keeps one", source=self._places)
        counts: dict[tuple[str, int], list[str]] = {}
        classes: dict[int, HostClass] = {}
        for place, _, name, kind in self._members:
            if cluster in (None, place):
                counts.setdefault((place, kind.id), []).append(name)
                classes[kind.id] = kind
        unread = [found for place, _, found in self._unread if cluster in (None, place)]
        found = [Count(place, id_, len(names), min(names)) for (place, id_), names in counts.items()]
        names: dict[int, list[str]] = {}
        for (_, id_), some in counts.items():
            names.setdefault(id_, []).extend(some)
        return Census.of(found, classes, unread, {id_: some for id_, some in names.items() if len(some) <= FEW})

    def hosts(self, names: Sequence[str], as_of: int | None = None) -> list[HostClass]:
        """Return the classes of hosts, each by its name, that of its file, or the file's path.

        Raises InputError where there is none of a name, or several.
        """
        if as_of is not None:
            raise InputError("a folder of snapshots has no history: vcpuid fleet add keeps one", source=self._places)
        return [self._host(name) for name in names]

    def _host(self, name: str) -> HostClass:
        found = {kind.id: kind for place, path, _, kind in self._members if name in _names(place, path)}
        if len(found) == 1:
            return next(iter(found.values()))
        for place, path, unread in self._unread:
            if name in _names(place, path):
                raise InputError(f"host {name} cannot be read: {unread.why}", source=self._places)
        why = or_longer(f"no host is called {name[:60]!r}", name, (called for _, _, called, _ in self._members))
        if found:
            inner = next((f"{place}/{name}" for place, path, *_ in self._members if name in (host_name(path), path.name) and place), None)
            how = "two files tell of it, take one away" if inner is None else f"put the cluster before it, as in {inner}"
            why = f"several hosts are called {name[:60]!r}: {how}"
        raise InputError(why, source=self._places)


def _names(place: str, path: Path) -> set[str]:
    """Return what a host may be called: like its file, with its ending or without, also behind its cluster; or by the file's path."""
    called = {host_name(path), path.name}
    return {*called, *(f"{place}/{name}" for name in called), str(path)}


def members(places: Iterable[Path]) -> Iterator[tuple[str, Path]]:
    """Give the files that are named, and those of folders, each with the cluster that its folder names, "" where there is none."""
    for place in places:
        if not os.path.isdir(place):
            yield "", place
            continue
        for path in map(Path, files(str(place))):
            cluster = path.parent.relative_to(place).as_posix()
            yield "" if cluster == "." else cluster, path


def _once(found: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """Leave out a file that came already, as itself or of its folder."""
    seen = set[Path]()
    for cluster, path in found:
        if path not in seen:
            seen.add(path)
            yield cluster, path


def cause(error: VcpuidError) -> str:
    """Say what is wrong with a file, and in which line, without its path, which is told beside it."""
    if not isinstance(error, InputError):
        return str(error)
    return error.cause if error.line is None else f"line {error.line}: {error.cause}"
