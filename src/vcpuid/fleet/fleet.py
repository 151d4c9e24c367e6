"""A fleet: where its hosts are kept, and the questions to all of them at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet.adding import Added, Visit
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.engines import Engine, Spark
from vcpuid.fleet.folder import Folder
from vcpuid.fleet.members import Census
from vcpuid.fleet.places import FILE, FOLDER
from vcpuid.fleet.store import Changed, Store
from vcpuid.setup import Stack

if TYPE_CHECKING:
    from vcpuid.fleet.baseline import Baseline
    from vcpuid.fleet.blame import Blame
    from vcpuid.fleet.moves import Circles, Move
    from vcpuid.fleet.named import NamedModels
    from vcpuid.fleet.upgrade import Upgrade


NO_HISTORY = "a folder of snapshots has no history: vcpuid fleet add keeps one"


class Fleet:
    """Hosts in clusters, by class.

    Questions take the software as a `Stack`: the machine type is the same on all hosts, QEMU and kernel are each host's own where none are
    named. `cluster` asks about one cluster, `as_of` about a time in seconds since 1970, of which a store alone knows.
    """

    def __init__(self, kept: Folder | Store) -> None:
        self._kept = kept

    def add(self, snapshot: Snapshot, name: str, cluster: str = "", seen: int | None = None) -> Added:
        """Add a host as it was seen, now if no time is given; raises as `add_all` does, and InputError for a guest's table."""
        return self.add_all([Visit(cluster, name, int(time.time()) if seen is None else seen, HostClass.of(snapshot))])

    def add_all(self, visits: Iterable[Visit]) -> Added:
        """Add hosts, all or none; raises UnavailableError for a folder, and where another process keeps the store."""
        return self._store("put the host's file into it").add(visits)

    def remove(self, names: Iterable[str], when: int | None = None, *, forget: bool = False) -> tuple[str, ...]:
        """Let hosts be no members from a time on, now if none is given; with `forget` they never were, and their history is gone.

        Returns those that were members, as "CLUSTER/NAME". Raises InputError where there is none of a name, or several, and else as
        `add_all` does.
        """
        return self._store("take the host's file away").remove(names, int(time.time()) if when is None else when, forget=forget)

    def copy(self, path: str | os.PathLike[str]) -> None:
        """Copy a store, history and all, to a new NAME.duckdb or NAME.parquet; raises InputError where there are hosts in it already."""
        self._store("vcpuid fleet add makes a store of it").copy(_store_path(Path(path)))

    def _store(self, instead: str) -> Store:
        if not isinstance(self._kept, Store):
            raise UnavailableError(f"a folder of snapshots has no index: {instead}")
        return self._kept

    def census(self, cluster: str | None = None, as_of: int | None = None) -> Census:
        """Count the classes; raises InputError for a cluster of which there is none."""
        found = self._kept.census(cluster, as_of)
        if cluster is not None and not found.groups and not found.unread:
            raise InputError(f"there is no host in cluster {cluster[:60]!r}")
        return found

    def host(self, name: str, as_of: int | None = None) -> HostClass:
        """Return a host's class; `name` is "NAME", or "CLUSTER/NAME" where several are called so. Raises InputError where there is none."""
        return self._kept.hosts((name,), as_of)[0]

    def history(self, name: str) -> list[tuple[str, int, int, HostClass | None]]:
        """Return a host's observations in the order of time: cluster, first and last seen, class, None where it was removed.

        Raises InputError where there is none.
        """
        if not isinstance(self._kept, Store):
            raise InputError(NO_HISTORY)
        rows = self._kept.history(name)
        if not rows:
            raise InputError(f"no host is called {name[:60]!r}")
        return rows

    def changes(self, before: int, after: int | None = None, cluster: str | None = None) -> list[Changed]:
        """Return the hosts whose class is another at the second time, by default now, than at the first; raises InputError for a folder."""
        if not isinstance(self._kept, Store):
            raise InputError(NO_HISTORY)
        return self._kept.changes(before, after, cluster)

    def baseline(
        self, stack: Stack | None = None, *, cluster: str | None = None, as_of: int | None = None, require: Iterable[str] = (),
        manager: str | None = None,
    ) -> Baseline:  # fmt: skip
        """Find the best -cpu for all: see `vcpuid.fleet.baseline.baseline`."""
        from vcpuid.fleet.baseline import baseline

        return baseline(self.census(cluster, as_of), stack, require, manager)

    def models(self, stack: Stack | None = None, *, cluster: str | None = None, as_of: int | None = None) -> NamedModels:
        """Tell which named models run on whom: see `vcpuid.fleet.named.named_models`."""
        from vcpuid.fleet.named import named_models

        return named_models(self.census(cluster, as_of), stack)

    def blame(self, stack: Stack | None = None, *, cluster: str | None = None, as_of: int | None = None) -> Blame:
        """Tell who costs which features: see `vcpuid.fleet.blame.blame`."""
        from vcpuid.fleet.blame import blame

        return blame(self.census(cluster, as_of), stack)

    def migrate(self, a: str, b: str, cpu: str, stack: Stack | None = None, *, as_of: int | None = None) -> Move:
        """Tell what comes of moving a guest from one host to another: see `vcpuid.fleet.moves.move`."""
        from vcpuid.fleet.moves import between, move

        one, other = self._kept.hosts((a, b), as_of)
        return between(lambda here, there: move(cpu, here, there), one, other, stack)

    def migrate_domain(
        self, a: str, b: str, domain: str, stack: Stack | None = None, *, libvirt: str | None = None, as_of: int | None = None,
    ) -> Move:  # fmt: skip
        """Tell what comes of moving a domain, its XML: see `vcpuid.fleet.moves.move_domain`."""
        from vcpuid import releases
        from vcpuid.fleet.moves import between, move_domain

        release = releases.libvirt(libvirt)
        one, other = self._kept.hosts((a, b), as_of)
        return between(lambda here, there: move_domain(domain, here, there, release), one, other, stack)

    def drift(self, cpu: str, before: Stack, after: Stack, *, cluster: str | None = None, as_of: int | None = None) -> Upgrade:
        """Tell what an upgrade changes on each class: see `vcpuid.fleet.upgrade.upgrade`."""
        from vcpuid.fleet.upgrade import upgrade

        return upgrade(cpu, self.census(cluster, as_of), before, after)

    def circles(self, cpu: str, stack: Stack | None = None, *, cluster: str | None = None, as_of: int | None = None) -> Circles:
        """Put the classes together between which a guest moves freely: see `vcpuid.fleet.moves.circles`."""
        from vcpuid.fleet.moves import circles

        return circles(cpu, self.census(cluster, as_of), stack)


def open(
    source: str | os.PathLike[str] | Engine | Sequence[str | os.PathLike[str]],
    engine: object = None,
    *,
    told: Callable[[int], None] = lambda number: None,
) -> Fleet:
    """Open a fleet: a folder of snapshots, a store (NAME.duckdb or NAME.parquet, made when the first host is added), or what answers SQL.

    Several snapshots, or folders of them, in a list or a tuple are a fleet as well.

    What answers SQL is a Spark session, or has `rows(sql)`, which returns tuples (`vcpuid.fleet.engines`), and has tables like
    `vcpuid.fleet.statements.TABLES`. With a Spark session as `engine`, Spark answers from a NAME.parquet. While a folder is read, `told`
    hears now and then how many of its files are. Raises InputError for a file that is no store's, for a folder of which hardly a file can
    be read, and for an engine that cannot read it.
    """
    if isinstance(source, list | tuple):
        return open(source[0], engine, told=told) if len(source) == 1 else Fleet(Folder(*map(Path, source), told=told))
    if not isinstance(source, str | os.PathLike):
        return Fleet(Store(engine=source if hasattr(source, "rows") else Spark(source)))
    path = Path(source)
    if path.suffix == FOLDER:
        return Fleet(Store(path, session=engine))
    if engine is not None:
        raise InputError(f"Spark reads a folder NAME{FOLDER}: vcpuid fleet copy makes one of a store", source=str(path))
    if os.path.isdir(path):  # unlike Path's own, it takes a name that is too long for one that is not there
        return Fleet(Folder(path, told=told))
    return Fleet(Store(_store_path(path)))


def _store_path(path: Path) -> Path:
    if path.suffix not in (FILE, FOLDER):
        raise InputError(f"a fleet is a folder of snapshots, or a store whose name ends in {FILE} or {FOLDER}", source=str(path))
    return path
