"""A fleet that is kept: classes, hosts, and when each host was seen to be of which class.

A host is its cluster and its name; one that moves to another cluster is another member there. What is added is added as a whole or not at
all, whatever ends the process, and twice is the same as once. A host that is removed was a member until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vcpuid.errors import InputError
from vcpuid.fleet import adding, statements
from vcpuid.fleet.adding import Added, Visit
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.engines import Engine
from vcpuid.fleet.folder import without_ending
from vcpuid.fleet.members import FEW, Census, Count
from vcpuid.fleet.places import FOLDER, Brought, DuckDbFile, Keeper, ParquetFolder

_LAST_MOMENT = 253_402_214_400
"""The last day of the year 9999, in seconds since 1970."""


class Changed(NamedTuple):
    """A host whose class is another at a second time than at a first; None where it was no member then."""

    cluster: str
    name: str
    before: HostClass | None
    after: HostClass | None


class _Sight:
    """What one look at a store shows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a statement's result; raises ValueError for a name that no store has."""
        for row in self._engine.rows(sql):
            if any(isinstance(cell, str) and len(cell) > adding.NAME_LIMIT for cell in row):
                raise ValueError
            yield tuple(row)

    def classes(self, ids: Iterable[int | None]) -> dict[int, HostClass]:
        """Return classes by their ids; None is no class's."""
        wanted = sorted({id_ for id_ in ids if id_ is not None})
        return {id_: adding.unpacked(id_, facts) for id_, facts in self._engine.rows(statements.facts(wanted))}


class Store:
    """A fleet in a database: the file or the folder at `path`, with a Spark `session` that answers where there is one, or an `engine`."""

    def __init__(self, path: Path | None = None, engine: Engine | None = None, session: Any = None) -> None:
        self._place: Keeper
        if path is None:
            assert engine is not None
            self._place = Brought(engine)
        else:
            self._place = ParquetFolder(path, session) if path.suffix == FOLDER else DuckDbFile(path)

    @contextmanager
    def _sight(self) -> Iterator[_Sight]:
        """Look at the store, once a question: nothing that somebody adds meanwhile is in one half of the answer alone.

        A store whose rows do not fit together is refused: somebody else changed it, or an engine answers otherwise than it should.
        """
        try:
            with self._place.look() as engine:
                yield _Sight(engine)
        except InputError as error:
            raise InputError(error.cause, source=error.source or self._place.name, line=error.line) from None
        except (TypeError, ValueError, KeyError, AttributeError):
            why = "its rows are not those of a store: it was changed by something else than vcpuid"
            raise InputError(why, source=self._place.name) from None

    def census(self, cluster: str | None = None, as_of: int | None = None) -> Census:
        """Count the classes of a cluster, or of all, as they are or were at a time (seconds since 1970)."""
        with self._sight() as seen:
            counts = [Count(*row) for row in seen.rows(statements.census(_time(as_of), cluster))]
            hosts: dict[int, int] = {}
            for count in counts:
                hosts[count.id] = hosts.get(count.id, 0) + count.hosts
            names: dict[int, list[str]] = {}
            few = sorted(id_ for id_, number in hosts.items() if number <= FEW)
            for id_, name in seen.rows(statements.names(few, _time(as_of), cluster)) if few else ():
                names.setdefault(id_, []).append(name)
            return Census.of(counts, seen.classes(hosts), names=names)

    def hosts(self, names: Sequence[str], as_of: int | None = None) -> list[HostClass]:
        """Return the classes of hosts, each "NAME" or "CLUSTER/NAME"; raises InputError where there is none of a name, or several."""
        with self._sight() as seen:

            def known(name: str) -> list[tuple[str, int]]:
                return list(seen.rows(statements.host(name, _time(as_of))))

            ids = [self._class_of(name, known(name) or known(without_ending(name))) for name in names]
            classes = seen.classes(ids)
            return [classes[id_] for id_ in ids]

    def _class_of(self, name: str, found: list[tuple[str, int]]) -> int:
        if not found:
            raise InputError(f"no host is called {name[:60]!r}", source=self._place.name)
        if len({id_ for _, id_ in found}) > 1:
            example = f"{max(cluster for cluster, _ in found)}/{name}"
            raise InputError(f"several hosts are called {name[:60]!r}: put the cluster before it, as in {example}", source=self._place.name)
        return found[0][1]

    def history(self, name: str) -> list[tuple[str, int, int, HostClass | None]]:
        """Return the observations of a host in the order of time: cluster, first and last seen, class; None where it was removed."""
        with self._sight() as seen:
            rows = [(cluster, first, last, id_) for cluster, first, last, id_ in seen.rows(statements.history(name))]
            if any(not 0 <= moment < _LAST_MOMENT for _, first, last, _ in rows for moment in (first, last)):
                raise ValueError
            classes = seen.classes(id_ for *_, id_ in rows)
            return [(cluster, first, last, None if id_ is None else classes[id_]) for cluster, first, last, id_ in rows]

    def changes(self, before: int, after: int | None = None, cluster: str | None = None) -> list[Changed]:
        """Return the hosts whose class is another at the second time, by default now, than at the first, by cluster and name."""
        with self._sight() as seen:
            rows = list(seen.rows(statements.changed(before, _time(after), cluster)))
            classes = seen.classes(id_ for row in rows for id_ in row[2:])
            known = [(place, name, *(None if id_ is None else classes[id_] for id_ in ids)) for place, name, *ids in rows]
            return [Changed(*row) for row in known]

    def add(self, visits: Iterable[Visit]) -> Added:
        """Add hosts as they were seen, all or none; raises UnavailableError where another process keeps the place, or for an engine."""
        given = list(visits)
        with self._place.change() as connection:
            return adding.add(connection, given)

    def copy(self, path: Path) -> None:
        """Copy it, history and all, to a new file or folder; raises InputError where there is a store already, else as `add` does."""
        Store(path)._place.fill(self._place)

    def remove(self, names: Iterable[str], when: int, *, forget: bool = False) -> tuple[str, ...]:
        """Remove hosts, all or none: see `vcpuid.fleet.adding.remove`, and `add` for what else is raised."""
        with self._place.change() as connection:
            return adding.remove(connection, list(names), when, forget=forget)


def _time(as_of: int | None) -> int:
    return statements.LATEST if as_of is None else as_of
