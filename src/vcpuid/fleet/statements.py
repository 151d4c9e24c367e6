"""The questions to a store, as SQL that DuckDB, Spark and their like understand alike.

Columns are BIGINT and VARCHAR, names are no engine's own functions, and numbers stand in the text, since engines differ in how they take
parameters. Two observations of a host never begin in the same second.
"""

from __future__ import annotations

TABLES = {
    "class": {"class": "BIGINT", "vendor": "VARCHAR", "cpu": "VARCHAR", "microcode": "VARCHAR", "kernel": "VARCHAR", "facts": "VARCHAR"},
    "host": {"host": "BIGINT", "name": "VARCHAR", "cluster": "VARCHAR"},
    "observation": {"host": "BIGINT", "first_seen": "BIGINT", "last_seen": "BIGINT", "class": "BIGINT"},
}
"""The tables and their columns. An observation is a time through which a host was seen to be of one class, in seconds since 1970."""

LATEST = (1 << 62) - 1
"""A time after all."""


def text(value: str) -> str:
    """Write a text as SQL does everywhere."""
    return "'" + value.replace("'", "''") + "'"


def _newest(as_of: int) -> str:
    """The observation of each host that had begun by a time."""
    return (
        "select o.host as host, o.class as class from observation o join "
        f"(select host, max(first_seen) as begun from observation where first_seen <= {as_of} group by host) n "
        "on o.host = n.host and o.first_seen = n.begun"
    )


def census(as_of: int = LATEST, cluster: str | None = None) -> str:
    """How many hosts of each class each cluster has: cluster, class, hosts, the first by name."""
    where = "" if cluster is None else f" where h.cluster = {text(cluster)}"
    return (
        "select h.cluster as cluster, s.class as class, count(*) as hosts, min(h.name) as example "
        f"from ({_newest(as_of)}) s join host h on h.host = s.host{where} group by h.cluster, s.class"
    )


def names(ids: list[int], as_of: int = LATEST, cluster: str | None = None) -> str:
    """The hosts of some classes: class, name."""
    where = "" if cluster is None else f" and h.cluster = {text(cluster)}"
    return (
        f"select s.class as class, h.name as name from ({_newest(as_of)}) s join host h on h.host = s.host "
        f"where s.class in ({', '.join(map(str, ids)) or 'null'}){where}"
    )


def facts(ids: list[int]) -> str:
    """The facts of some classes: class, facts."""
    return f"select class, facts from class where class in ({', '.join(map(str, ids)) or 'null'})"


def host(name: str, as_of: int = LATEST) -> str:
    """The class of a host by its name, or by its cluster and name: cluster, class."""
    return f"select h.cluster as cluster, s.class as class from ({_newest(as_of)}) s join host h on h.host = s.host where {_named(name)}"


def _named(name: str) -> str:
    if "/" not in name:
        return f"h.name = {text(name)}"
    cluster, _, own = name.rpartition("/")
    return f"(h.name = {text(name)} or (h.cluster = {text(cluster)} and h.name = {text(own)}))"


def history(name: str) -> str:
    """The classes that a host had: cluster, first seen, last seen, class, in the order of time."""
    return (
        "select h.cluster as cluster, o.first_seen as first_seen, o.last_seen as last_seen, o.class as class "
        f"from observation o join host h on h.host = o.host where {_named(name)} order by o.first_seen"
    )


def changed(before: int, after: int) -> str:
    """The hosts whose class is another at the second time than at the first: cluster, host, class before, class after."""
    return (
        "select h.cluster as cluster, h.name as name, a.class as before_class, b.class as after_class "
        f"from ({_newest(before)}) a join ({_newest(after)}) b on a.host = b.host join host h on h.host = a.host "
        "where a.class <> b.class order by h.cluster, h.name"
    )
