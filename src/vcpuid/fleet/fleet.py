"""A fleet: where its hosts are kept, and the questions to all of them at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.folder import Folder
from vcpuid.fleet.members import Census
from vcpuid.fleet.store import SUFFIX, Added, Engine, Store, Visit
from vcpuid.setup import Stack

if TYPE_CHECKING:
    from vcpuid.fleet.baseline import Baseline
    from vcpuid.fleet.blame import Blame
    from vcpuid.fleet.moves import Circles, Move
    from vcpuid.fleet.named import NamedModels
    from vcpuid.fleet.upgrade import Upgrade


class Fleet:
    """Hosts in clusters, by class.

    Questions take the software as a `Stack`: QEMU and machine type are the same on all hosts, the kernel is each host's own where none is
    named. `cluster` asks about one cluster, `as_of` about a time in seconds since 1970, of which a store alone knows.
    """

    def __init__(self, kept: Folder | Store) -> None:
        self._kept = kept

    def add(self, snapshot: Snapshot, name: str, cluster: str = "", seen: int | None = None) -> Added:
        """Add a host as it was seen, now if no time is given; raises as `add_all` does, and InputError for a guest's table."""
        return self.add_all([Visit(cluster, name, int(time.time()) if seen is None else seen, HostClass.of(snapshot))])

    def add_all(self, visits: Iterable[Visit]) -> Added:
        """Add hosts, all or none; raises UnavailableError for a folder, and where another process keeps the store."""
        if not isinstance(self._kept, Store):
            raise UnavailableError("a folder of snapshots has no index: put the host's file into it")
        return self._kept.add(visits)

    def census(self, cluster: str | None = None, as_of: int | None = None) -> Census:
        """Count the classes; raises InputError for a cluster of which there is none."""
        found = self._kept.census(cluster, as_of)
        if cluster is not None and not found.groups and not found.unread:
            raise InputError(f"there is no host in cluster {cluster[:60]!r}")
        return found

    def host(self, name: str, as_of: int | None = None) -> HostClass:
        """Return a host's class; `name` is "NAME", or "CLUSTER/NAME" where several are called so. Raises InputError where there is none."""
        return self._kept.hosts((name,), as_of)[0]

    def history(self, name: str) -> list[tuple[str, int, int, HostClass]]:
        """Return a host's observations in the order of time: cluster, first and last seen, class. Raises InputError where there is none."""
        if not isinstance(self._kept, Store):
            raise InputError("a folder of snapshots has no history: vcpuid fleet add keeps one")
        rows = self._kept.history(name)
        if not rows:
            raise InputError(f"no host is called {name[:60]!r}")
        return rows

    def changed(self, before: int, as_of: int | None = None, *, cluster: str | None = None) -> dict[str, int]:
        """Count by cluster the hosts that are of another class than at an earlier time; raises InputError for a folder."""
        if not isinstance(self._kept, Store):
            raise InputError("a folder of snapshots has no history: vcpuid fleet add keeps one")
        found: dict[str, int] = {count.cluster: 0 for count in self.census(cluster, as_of).counts}
        for place, _ in self._kept.changed(before, as_of):
            if cluster in (None, place):
                found[place] = found.get(place, 0) + 1
        return found

    def baseline(
        self, stack: Stack | None = None, *, cluster: str | None = None, as_of: int | None = None, require: Iterable[str] = (),
    ) -> Baseline:  # fmt: skip
        """Find the best -cpu for all: see `vcpuid.fleet.baseline.baseline`."""
        from vcpuid.fleet.baseline import baseline

        return baseline(self.census(cluster, as_of), stack, require)

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


def open(source: str | os.PathLike[str] | Engine) -> Fleet:
    """Open a fleet: a folder of snapshots, a store's file (NAME.duckdb, made when the first host is added), or what answers SQL.

    An engine has `rows(sql)`, which returns tuples, and tables like `vcpuid.fleet.statements.TABLES`. Raises InputError for a file that is
    no store's.
    """
    if not isinstance(source, str | os.PathLike):
        return Fleet(Store(engine=source))
    path = Path(source)
    if os.path.isdir(path):  # unlike Path's own, it takes a name that is too long for one that is not there
        return Fleet(Folder(path))
    if path.suffix != SUFFIX:
        raise InputError(f"a fleet is a folder of snapshots, or a store's file that ends in {SUFFIX}", source=str(path))
    return Fleet(Store(path))
