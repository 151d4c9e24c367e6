"""A fleet in one DuckDB file: classes, hosts, and when each host was seen to be of which class.

A host is its cluster and its name; one that moves to another cluster is another member there. What is added is added as a whole or not at
all (one transaction), whatever ends the process, and twice is the same as once. One process writes at a time; others wait for it.
"""

from __future__ import annotations

import base64
import os
import time
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet import statements
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.members import FEW, Census, Count
from vcpuid.formats.lines import format_snapshot, parse_snapshot

if TYPE_CHECKING:
    import duckdb

SUFFIX = ".duckdb"
_VERSION = 1
_LARGEST = 1 << 24
"""Bytes of a class's facts once they are unpacked: a snapshot of a processor with as many leaves as the forms allow has a tenth."""

_LAST_MOMENT = 253_402_214_400
"""The last day of the year 9999, in seconds since 1970."""

_PATIENCE = 30.0
"""Seconds for which a writer waits for another."""


class Engine(Protocol):
    """What answers SQL: DuckDB, a Spark session, or whatever has `rows`."""

    def rows(self, sql: str) -> Iterable[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        ...


class Visit(NamedTuple):
    """A host as it was seen: in which cluster, when (seconds since 1970), and of which class."""

    cluster: str
    name: str
    seen: int
    kind: HostClass


@dataclass(frozen=True)
class Added:
    """What came of adding: how many hosts, of how many classes, which of these are new, and which hosts changed their class."""

    hosts: int = 0
    classes: int = 0
    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = field(default=())


class _DuckDb:
    """A DuckDB connection as an engine."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        return self._connection.execute(sql).fetchall()


@contextmanager
def _opened(path: Path, *, write: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store's file; raises UnavailableError without DuckDB or where another process keeps it, InputError where it is none."""
    try:
        import duckdb
    except ImportError:
        raise UnavailableError("a store needs DuckDB: pip install 'vcpuid[fleet]'; a folder of snapshots is a fleet without it") from None
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InputError("no regular file", source=str(path))
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection = duckdb.connect(os.path.abspath(path), read_only=not write, config=_CONFIG)
            break
        except duckdb.IOException as error:
            if not str(error).startswith(_LOCKED):
                raise InputError(_one_line(error), source=str(path)) from None
            if time.monotonic() > deadline:
                raise UnavailableError(f"{path}: another process has been writing for {_PATIENCE:.0f} seconds") from None
            time.sleep(0.05)
        except (duckdb.Error, RuntimeError) as error:
            raise InputError(f"no store of a fleet: {_one_line(error)}", source=str(path)) from None
    try:
        yield connection
    except (duckdb.Error, UnicodeError) as error:
        raise InputError(f"no store of a fleet: {_one_line(error)}", source=str(path)) from None
    finally:
        connection.close()


_LOCKED = "IO Error: Could not set lock on file"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "enable_external_access": False,
}
"""A store that somebody else made must not make DuckDB read other files or fetch code."""


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]


class _Sight:
    """What one look at a store shows."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        return (tuple(row) for row in self._engine.rows(sql))

    def classes(self, ids: list[int]) -> dict[int, HostClass]:
        """Return classes by their ids."""
        return {id_: _unpacked(id_, facts) for id_, facts in self.rows(statements.facts(ids))}


class Store:
    """A fleet in a database. `path` is DuckDB's file; or `engine` answers from tables like `statements.TABLES`, and nothing is added."""

    def __init__(self, path: Path | None = None, engine: Engine | None = None) -> None:
        self._path, self._engine = path, engine

    @contextmanager
    def _sight(self) -> Iterator[_Sight]:
        """Look at the store, once a question: nothing that somebody adds meanwhile is in one half of the answer alone.

        A store whose rows do not fit together is refused: somebody else changed it, or an engine answers otherwise than it should.
        """
        try:
            if self._engine is not None:
                yield _Sight(self._engine)
                return
            assert self._path is not None
            if not os.path.exists(self._path):
                raise InputError("no such store: vcpuid fleet add makes one", source=str(self._path))
            with _opened(self._path, write=False) as connection:
                _check_form(connection, self._path)
                connection.begin()
                yield _Sight(_DuckDb(connection))
        except (TypeError, ValueError, KeyError, AttributeError):
            raise InputError("its rows are not those of a store: it was changed by something else than vcpuid", source=self._name) from None

    def census(self, cluster: str | None = None, as_of: int | None = None) -> Census:
        """Count the classes of a cluster, or of all, as they are or were at a time (seconds since 1970)."""
        with self._sight() as seen:
            counts = [Count(*row) for row in seen.rows(statements.census(_time(as_of), cluster))]
            hosts: dict[int, int] = {}
            for count in counts:
                hosts[count.id] = hosts.get(count.id, 0) + count.hosts
            names: dict[int, list[str]] = {}
            few = [id_ for id_, number in hosts.items() if number <= FEW]
            for id_, name in seen.rows(statements.names(few, _time(as_of), cluster)):
                names.setdefault(id_, []).append(name)
            return Census.of(counts, seen.classes(sorted(hosts)), names=names)

    def hosts(self, names: Sequence[str], as_of: int | None = None) -> list[HostClass]:
        """Return the classes of hosts, each "NAME" or "CLUSTER/NAME"; raises InputError where there is none of a name, or several."""
        with self._sight() as seen:
            ids = [self._class_of(name, list(seen.rows(statements.host(name, _time(as_of))))) for name in names]
            classes = seen.classes(sorted(set(ids)))
            return [classes[id_] for id_ in ids]

    def _class_of(self, name: str, found: list[tuple[str, int]]) -> int:
        if not found:
            raise InputError(f"no host is called {name[:60]!r}", source=self._name)
        if len({id_ for _, id_ in found}) > 1:
            example = f"{max(cluster for cluster, _ in found)}/{name}"
            raise InputError(f"several hosts are called {name[:60]!r}: put the cluster before it, as in {example}", source=self._name)
        return found[0][1]

    def history(self, name: str) -> list[tuple[str, int, int, HostClass]]:
        """Return the observations of a host in the order of time: cluster, first and last seen, class."""
        with self._sight() as seen:
            rows = [(cluster, first, last, id_) for cluster, first, last, id_ in seen.rows(statements.history(name))]
            if any(not 0 <= moment < _LAST_MOMENT for _, first, last, _ in rows for moment in (first, last)):
                raise ValueError
            classes = seen.classes(sorted({id_ for *_, id_ in rows}))
            return [(cluster, first, last, classes[id_]) for cluster, first, last, id_ in rows]

    def changed(self, before: int, as_of: int | None = None) -> list[tuple[str, str]]:
        """Return cluster and name of the hosts that are of another class than they were at an earlier time."""
        with self._sight() as seen:
            return [(cluster, name) for cluster, name, _, _ in seen.rows(statements.changed(before, _time(as_of)))]

    @property
    def _name(self) -> str:
        return "the fleet" if self._path is None else str(self._path)

    def add(self, visits: Iterable[Visit]) -> Added:
        """Add hosts as they were seen, all or none; raises UnavailableError where another process keeps the file, or for an engine."""
        if self._path is None:
            raise UnavailableError("hosts are added to a file of DuckDB; what answers SQL here is only read")
        given = list(visits)
        new = not os.path.exists(self._path)
        with _opened(self._path, write=True) as connection:
            if new:
                _create(connection)
            _check_form(connection, self._path)
            connection.begin()
            added = _add(connection, given)
            connection.commit()
        return added


def _time(as_of: int | None) -> int:
    return statements.LATEST if as_of is None else as_of


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    connection.begin()
    for name, columns in statements.TABLES.items():
        connection.execute(f"create table if not exists {name} ({', '.join(f'{column} {kind}' for column, kind in columns.items())})")
    connection.execute("create table if not exists form (version BIGINT)")
    connection.execute(f"insert into form select {_VERSION} where not exists (select 1 from form)")
    connection.commit()


def _check_form(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Refuse what is no store of this form: tables alone are read, no views that somebody put in their place."""
    wanted = {*statements.TABLES, "form"}
    rows = connection.execute("select table_name, table_type from information_schema.tables").fetchall()
    if not wanted <= {name for name, kind in rows if kind == "BASE TABLE"}:
        raise InputError("no store of a fleet: it lacks the tables of one", source=str(path))
    found = connection.execute("select max(version) from form").fetchall()[0][0]
    if found != _VERSION:
        raise InputError(f"the store is of form {found}, which this vcpuid does not know: it writes form {_VERSION}", source=str(path))


def _add(connection: duckdb.DuckDBPyConnection, visits: list[Visit]) -> Added:
    kinds = {visit.kind.id: visit.kind for visit in visits}
    known = {row[0] for row in connection.execute("select class from class where class in (select unnest(?))", [list(kinds)]).fetchall()}
    new = [kind for id_, kind in kinds.items() if id_ not in known]
    _insert(connection, "class", [_row(kind) for kind in new])
    hosts = _numbered(connection, visits)
    changed = _observe(connection, visits, hosts)
    return Added(len(hosts), len(kinds), tuple(kind.name for kind in new), tuple(changed))


Host = tuple[str, str]
"""Its cluster and its name."""


def _numbered(connection: duckdb.DuckDBPyConnection, visits: list[Visit]) -> dict[Host, int]:
    """Return the numbers of the visits' hosts; those that the store did not have get the next ones, so that neighbours stay together."""
    wanted = sorted({(visit.cluster, visit.name) for visit in visits})
    sql = (
        "select h.cluster, h.name, h.host from host h "
        "join (select unnest(?::VARCHAR[]) as cluster, unnest(?::VARCHAR[]) as name) g on h.cluster = g.cluster and h.name = g.name"
    )
    rows = connection.execute(sql, [[cluster for cluster, _ in wanted], [name for _, name in wanted]]).fetchall()
    found: dict[Host, int] = {(cluster, name): number for cluster, name, number in rows}
    (last,) = connection.execute("select coalesce(max(host), 0) from host").fetchall()[0]
    new = [host for host in wanted if host not in found]
    found.update({host: last + number for number, host in enumerate(new, 1)})
    _insert(connection, "host", [(found[cluster, name], name, cluster) for cluster, name in new])
    return found


def _observe(connection: duckdb.DuckDBPyConnection, visits: list[Visit], hosts: dict[Host, int]) -> list[str]:
    """Weave the visits into what is known of their hosts, and write the hosts' observations anew; returns the hosts that changed."""
    known: dict[int, list[list[int]]] = {}
    sql = "select host, first_seen, last_seen, class from observation where host in (select unnest(?)) order by first_seen"
    for number, first, last, id_ in connection.execute(sql, [list(hosts.values())]).fetchall():
        known.setdefault(number, []).append([first, last, id_])
    changed: dict[str, None] = {}
    touched: set[int] = set()
    for visit in sorted(visits, key=lambda visit: visit.seen):
        number = hosts[visit.cluster, visit.name]
        runs = known.setdefault(number, [])
        before = len(runs)
        if weave(runs, visit.seen, visit.kind.id):
            touched.add(number)
            if before and len(runs) > before:
                changed[f"{visit.cluster}/{visit.name}" if visit.cluster else visit.name] = None
    if touched:
        connection.execute("delete from observation where host in (select unnest(?))", [sorted(touched)])
        _insert(connection, "observation", [(number, *run) for number in sorted(touched) for run in known[number]])
    return list(changed)


def weave(runs: list[list[int]], seen: int, kind: int) -> bool:
    """Put a visit into a host's runs ([first, last, class], by time), and tell whether anything changed.

    Of two visits in one second the later one counts. One that comes late, within the time of a run of another class, splits that run, and
    of what was seen between its ends nothing is known any more: hosts are best added in the order of time.
    """
    place = bisect_right(runs, seen, key=lambda run: run[0])
    run = runs[place - 1] if place else None
    if run is not None and seen <= run[1] and kind == run[2]:
        return False
    around = [] if run is None else [run]
    if run is not None and seen <= run[1]:  # its ends were seen too, unless this is one of them
        around = [[end, end, run[2]] for end in dict.fromkeys((run[0], run[1])) if end != seen]
    later = runs[place : place + 1]
    woven = sorted([*around, [seen, seen, kind], *later])
    runs[max(place - 1, 0) : place + len(later)] = _joined(woven)
    return True


def _joined(runs: list[list[int]]) -> list[list[int]]:
    """Make neighbours of one class one run."""
    found: list[list[int]] = []
    for first, last, kind in runs:
        if found and found[-1][2] == kind:
            found[-1][1] = last
        else:
            found.append([first, last, kind])
    return found


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows, a column at a time: as many statements of one row each would take a hundred times as long."""
    if rows:
        columns = [list(column) for column in zip(*rows, strict=True)]
        kinds = statements.TABLES[table].values()
        given = ", ".join(f"unnest(?::{kind}[])" for kind in kinds)
        connection.execute(f"insert into {table} select {given}", columns)


def _row(kind: HostClass) -> tuple[int, str, str, str | None, str | None, str]:
    return kind.id, kind.facts.vendor, kind.cpu, kind.microcode, kind.facts.kernel, _packed(kind)


_NEXT, _PART = "\f", "a part"
"""What stands between the facts of two kinds of cores, and before those of a class that is not whole."""


def _packed(kind: HostClass) -> str:
    texts = ["".join(line + "\n" for line in format_snapshot(core)) for core in kind.cores]
    text = _NEXT.join(texts if kind.whole else [_PART, *texts])
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def _unpacked(id_: int, facts: str) -> HostClass:
    """Read a class's facts; raises InputError where they are not those of the id."""
    try:
        unpacker = zlib.decompressobj()
        text = unpacker.decompress(base64.b64decode(facts, validate=True), _LARGEST).decode()
    except (ValueError, zlib.error):
        raise InputError(f"class {id_:016x} cannot be read") from None
    texts = text.split(_NEXT)
    whole = texts[0] != _PART
    cores = texts if whole else texts[1:]
    kind = HostClass(tuple(parse_snapshot(core.splitlines(keepends=True), f"class {id_:016x}") for core in cores), whole)
    if kind.id != id_:
        raise InputError(f"class {id_:016x} has the facts of another: it was changed, or written by another vcpuid")
    return kind
