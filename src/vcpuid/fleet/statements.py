"""The questions to a store, as SQL that DuckDB, Spark and their like understand alike.

Columns are BIGINT and VARCHAR, names are no engine's own functions, and numbers stand in the text, since engines differ in how they take
parameters. Two observations of a host never begin in the same second, and one ends where the next begins: so what held at a time is found
without looking at a host's other observations.
"""

from __future__ import annotations

from collections.abc import Sequence

TABLES = {
    "class": {
        "kind": "BIGINT", "class": "BIGINT", "vendor": "VARCHAR", "cpu": "VARCHAR", "microcode": "VARCHAR", "kernel": "VARCHAR",
        "facts": "VARCHAR",
    },
    "cluster_name": {"cluster": "BIGINT", "name": "VARCHAR"},
    "host": {"host": "BIGINT", "cluster": "BIGINT", "name": "VARCHAR"},
    "observation": {
        "host": "BIGINT", "cluster": "BIGINT", "first_seen": "BIGINT", "lasted": "BIGINT", "ended": "BIGINT", "kind": "BIGINT",
    },
}  # fmt: skip
"""The tables and their columns.

A class is known by its id, `class`, everywhere, and within the store by a small number, its `kind`; clusters and hosts have numbers, too.
An observation is a time through which a host was seen to be of one class: `first_seen`, in seconds since 1970, and `lasted` seconds on. It
holds until it is `ended` by the next one, the newest for ever (`OPEN`). One of the kind `GONE` says that the host was removed.
"""

GONE = 0
"""The kind of a host that is no member any more: no class has it."""

OPEN = 1 << 62
"""When the newest observation of a host ends."""

LATEST = OPEN - 1
"""A time after all."""

ORDER = {
    "class": "kind", "cluster_name": "cluster", "host": "host",
    "observation": f"ended < {OPEN}, cluster, kind, host, first_seen",
}  # fmt: skip
"""How tables are written: neighbours are alike then, which takes less room. What holds now comes first, all of it ended at one time."""


def text(value: str) -> str:
    """Write a text as SQL does everywhere."""
    return "'" + value.replace("'", "''") + "'"


def _numbers(given: Sequence[int]) -> str:
    return ", ".join(map(str, given)) or "null"


def _held(as_of: int, observation: str = "o") -> str:
    return f"{observation}.first_seen <= {as_of} and {observation}.ended > {as_of}"


_MEMBER = f"coalesce(o.kind, -1) <> {GONE}"
"""Of a host that is not removed. What it joins is joined from the left: a row that lacks its class is found out, and not passed over."""


def _within(cluster: str | None) -> str:
    return "" if cluster is None else f" and o.cluster in (select cluster from cluster_name where name = {text(cluster)})"


def census(as_of: int = LATEST, cluster: str | None = None) -> str:
    """How many hosts of each class each cluster has: cluster, class, hosts, one of them."""
    counted = (
        "select o.cluster as cluster, o.kind as kind, count(*) as hosts, min(o.host) as host from observation o "
        f"where {_MEMBER} and {_held(as_of)}{_within(cluster)} group by o.cluster, o.kind"
    )
    return (
        "select c.name as cluster, k.class as class, s.hosts as hosts, h.name as example "
        f"from ({counted}) s left join cluster_name c on c.cluster = s.cluster left join class k on k.kind = s.kind "
        "left join host h on h.host = s.host"
    )


def names(ids: Sequence[int], as_of: int = LATEST, cluster: str | None = None) -> str:
    """The hosts of some classes: class, name."""
    return (
        "select k.class as class, h.name as name from observation o join class k on k.kind = o.kind left join host h on h.host = o.host "
        f"where k.class in ({_numbers(ids)}) and {_held(as_of)}{_within(cluster)}"
    )


def facts(ids: Sequence[int]) -> str:
    """The facts of some classes: class, facts."""
    return f"select class, facts from class where class in ({_numbers(ids)})"


def host(name: str, as_of: int = LATEST) -> str:
    """The class of a host by its name, or by its cluster and name: cluster, class."""
    return (
        "select c.name as cluster, k.class as class from host h join cluster_name c on c.cluster = h.cluster "
        f"join observation o on o.host = h.host left join class k on k.kind = o.kind where {named(name)} and {_MEMBER} and {_held(as_of)}"
    )


def named(name: str) -> str:
    """Say that a row of `host`, h, and its `cluster_name`, c, are of a host that is called so."""
    if "/" not in name:
        return f"h.name = {text(name)}"
    cluster, _, own = name.rpartition("/")
    return f"(h.name = {text(name)} or (c.name = {text(cluster)} and h.name = {text(own)}))"


def history(name: str) -> str:
    """What a host was: cluster, first seen, last seen, class, in the order of time; null for the class where it was removed."""
    return (
        "select c.name as cluster, o.first_seen as first_seen, o.first_seen + o.lasted as last_seen, k.class as class "
        "from host h join cluster_name c on c.cluster = h.cluster join observation o on o.host = h.host "
        "left join class k on k.kind = o.kind "
        f"where {named(name)} order by o.first_seen, c.name"
    )


def changed(before: int, after: int, cluster: str | None = None) -> str:
    """The hosts whose class is another at the second time than at the first: cluster, name, class before, class after.

    Null is the class before of a host that came, and after of one that was removed.
    """
    was = f"select o.host as host, o.kind as kind from observation o where {_held(before)} and o.ended <= {after}{_within(cluster)}"
    now = f"select o.host as host, o.kind as kind from observation o where {_held(after)} and o.first_seen > {before}{_within(cluster)}"
    return (
        "select c.name as cluster, h.name as name, a.class as before_class, b.class as after_class "
        f"from ({now}) n left join ({was}) w on w.host = n.host "
        "join host h on h.host = n.host join cluster_name c on c.cluster = h.cluster "
        "left join class a on a.kind = w.kind left join class b on b.kind = n.kind "
        f"where coalesce(w.kind, {GONE}) <> n.kind order by c.name, h.name"
    )
