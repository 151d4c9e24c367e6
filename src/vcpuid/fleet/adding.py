"""How hosts get into a store's tables, and out of them: visits woven into what was known of each host."""

from __future__ import annotations

import base64
import zlib
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vcpuid.errors import InputError
from vcpuid.fleet import statements
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.statements import GONE, OPEN
from vcpuid.formats.lines import format_snapshot, parse_snapshot

if TYPE_CHECKING:
    import duckdb

_LARGEST = 1 << 24
"""Bytes of a class's facts once they are unpacked: a snapshot of a processor with as many leaves as the forms allow has a tenth."""


NAME_LIMIT = 1024
"""Characters of a host's or a cluster's name; DNS and file systems have 255."""


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


Host = tuple[str, str]
"""Its cluster and its name."""


def spoken(host: Host) -> str:
    """Name a host as people and `fleet migrate` do."""
    cluster, name = host
    return f"{cluster}/{name}" if cluster else name


def add(connection: duckdb.DuckDBPyConnection, visits: Sequence[Visit]) -> Added:
    """Put visits into the tables; raises InputError for a name of more than NAME_LIMIT characters."""
    for name in (name for visit in visits for name in visit[:2] if len(name) > NAME_LIMIT):
        raise InputError(f"a name of more than {NAME_LIMIT} characters: {name[:60]!r} …")
    kinds = {visit.kind.id: visit.kind for visit in visits}
    numbers, new = _kinds(connection, kinds)
    clusters = _numbered(connection, "cluster_name", sorted({visit.cluster for visit in visits}))
    hosts = _hosts(connection, sorted({(visit.cluster, visit.name) for visit in visits}), clusters)
    seen = [(hosts[visit.cluster, visit.name], visit.seen, numbers[visit.kind.id]) for visit in visits]
    changed = _observe(connection, seen)
    _rewrite(connection, changed, {number: clusters[cluster] for (cluster, _), number in hosts.items()})
    others = tuple(spoken(host) for host, number in hosts.items() if number in changed and changed[number].changed)
    return Added(len(hosts), len(kinds), tuple(kind.name for kind in new), others)


def remove(connection: duckdb.DuckDBPyConnection, names: Iterable[str], when: int, *, forget: bool = False) -> tuple[str, ...]:
    """Let hosts be no members from a time on, or forget that they ever were; returns those that are removed by it.

    Raises InputError where no host is called so, or several are.
    """
    found: dict[int, tuple[int, Host]] = {}
    for name in names:
        sql = "select h.host, h.cluster, c.name, h.name from host h join cluster_name c on c.cluster = h.cluster"
        rows = connection.execute(f"{sql} where {statements.named(name)}").fetchall()
        if not rows:
            raise InputError(f"no host is called {name[:60]!r}")
        if len(rows) > 1:
            example = spoken(max((cluster, own) for _, _, cluster, own in rows))
            raise InputError(f"several hosts are called {name[:60]!r}: put the cluster before it, as in {example}")
        number, cluster, *host = rows[0]
        found[number] = (cluster, (host[0], host[1]))
    if forget:
        for table in ("observation", "host"):
            connection.execute(f"delete from {table} where host in (select unnest(?))", [list(found)])
        connection.execute("delete from class where kind not in (select kind from observation)")
        return tuple(spoken(host) for _, host in found.values())
    sql = f"select host from observation where ended = {OPEN} and kind = {GONE} and host in (select unnest(?))"
    gone = {number for (number,) in connection.execute(sql, [list(found)]).fetchall()}
    changed = _observe(connection, [(number, when, GONE) for number in found if number not in gone])
    _rewrite(connection, changed, {number: cluster for number, (cluster, _) in found.items()})
    return tuple(spoken(found[number][1]) for number in changed)


def _kinds(connection: duckdb.DuckDBPyConnection, kinds: dict[int, HostClass]) -> tuple[dict[int, int], list[HostClass]]:
    """Return the numbers that classes have in the store, by id, and those classes that are new to it."""
    rows = connection.execute("select class, kind from class where class in (select unnest(?))", [list(kinds)]).fetchall()
    found: dict[int, int] = dict(rows)
    new = [kind for id_, kind in kinds.items() if id_ not in found]
    last = _last(connection, "class", "kind")
    found.update({kind.id: last + number for number, kind in enumerate(new, 1)})
    _insert(connection, "class", [_row(found[kind.id], kind) for kind in new])
    return found, new


def _last(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> int:
    found: int = connection.execute(f"select coalesce(max({column}), 0) from {table}").fetchall()[0][0]
    return found


def _numbered(connection: duckdb.DuckDBPyConnection, table: str, wanted: list[str]) -> dict[str, int]:
    """Return the numbers of clusters; new ones get the next."""
    rows = connection.execute(f"select name, cluster from {table} where name in (select unnest(?))", [wanted]).fetchall()
    found: dict[str, int] = dict(rows)
    last = _last(connection, table, "cluster")
    new = {name: last + number for number, name in enumerate((name for name in wanted if name not in found), 1)}
    _insert(connection, table, [(number, name) for name, number in new.items()])
    return {**found, **new}


def _hosts(connection: duckdb.DuckDBPyConnection, wanted: list[Host], clusters: dict[str, int]) -> dict[Host, int]:
    """Return the numbers of hosts; those that the store did not have get the next ones, so that neighbours stay together."""
    sql = (
        "select g.place, h.host from host h "
        "join (select unnest(?::BIGINT[]) as place, unnest(?::BIGINT[]) as cluster, unnest(?::VARCHAR[]) as name) g "
        "on h.cluster = g.cluster and h.name = g.name"
    )
    given = [list(range(len(wanted))), [clusters[cluster] for cluster, _ in wanted], [name for _, name in wanted]]
    found = {wanted[place]: number for place, number in connection.execute(sql, given).fetchall()}
    last = _last(connection, "host", "host")
    new = {host: last + number for number, host in enumerate((host for host in wanted if host not in found), 1)}
    _insert(connection, "host", [(number, clusters[cluster], name) for (cluster, name), number in new.items()])
    return {**found, **new}


_Runs = list[list[int]]
"""A host's observations in the order of time, each first seen, last seen and the kind."""


@dataclass
class _Woven:
    """A host's runs with visits woven in: whether the store had any before, and whether a visit found it of another class than before."""

    runs: _Runs
    known: bool
    changed: bool = False
    touched: bool = False


def _observe(connection: duckdb.DuckDBPyConnection, seen: Sequence[tuple[int, int, int]]) -> dict[int, _Woven]:
    """Weave visits (host, when, kind) into what is known; returns the hosts of which anything is new, by number."""
    found: dict[int, _Woven] = {}
    sql = "select host, first_seen, first_seen + lasted, kind from observation where host in (select unnest(?)) order by first_seen"
    for number, first, last, kind in connection.execute(sql, [list({number for number, *_ in seen})]).fetchall():
        found.setdefault(number, _Woven([], True)).runs.append([first, last, kind])
    for number, when, kind in sorted(seen, key=lambda visit: visit[1]):
        woven = found.setdefault(number, _Woven([], False))
        before = len(woven.runs)
        if weave(woven.runs, when, kind):
            woven.touched = True
            woven.changed |= 0 < before < len(woven.runs)
    return {number: woven for number, woven in found.items() if woven.touched}


def _rewrite(connection: duckdb.DuckDBPyConnection, changed: dict[int, _Woven], clusters: dict[int, int]) -> None:
    """Write the observations of hosts anew: one ends where the next begins."""
    if known := [number for number, woven in changed.items() if woven.known]:
        connection.execute("delete from observation where host in (select unnest(?))", [known])
    rows = []
    for number in sorted(changed):
        runs = changed[number].runs
        ends = [*(first for first, _, _ in runs[1:]), OPEN]
        rows += [(number, clusters[number], first, last - first, end, kind) for (first, last, kind), end in zip(runs, ends, strict=True)]
    _insert(connection, "observation", rows)


def weave(runs: _Runs, seen: int, kind: int) -> bool:
    """Put a visit into a host's runs ([first, last, kind], by time), and tell whether anything changed.

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


def _joined(runs: _Runs) -> _Runs:
    """Make neighbours of one class one run."""
    found: _Runs = []
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
        given = ", ".join(f"unnest(?::{kind}[]) as {column}" for column, kind in statements.TABLES[table].items())
        connection.execute(f"insert into {table} select * from (select {given}) order by {statements.ORDER[table]}", columns)


def _row(number: int, kind: HostClass) -> tuple[int, int, str, str, str | None, str | None, str]:
    return number, kind.id, kind.facts.vendor, kind.cpu, kind.microcode, kind.facts.kernel, packed(kind)


_NEXT, _PART = "\f", "a part"
"""What stands between the facts of two kinds of cores, and before those of a class that is not whole."""


def packed(kind: HostClass) -> str:
    """Write a class's facts as a text of one line."""
    texts = ["".join(line + "\n" for line in format_snapshot(core)) for core in kind.cores]
    text = _NEXT.join(texts if kind.whole else [_PART, *texts])
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode()


def unpacked(id_: int, facts: str) -> HostClass:
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
