"""The same answers from DuckDB, from Spark on two processes, and from another database whose SQL SQLGlot writes: row for row."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from support.captures import host
from support.fleets import HOSTS, kind
from vcpuid import InputError, UnavailableError, fleet
from vcpuid.fleet import statements
from vcpuid.fleet.adding import Visit
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.engines import Connection, DuckDb, Engine, spark_session, translated
from vcpuid.fleet.places import ParquetFolder
from vcpuid.fleet.store import Store

duckdb = pytest.importorskip("duckdb", reason="needs DuckDB (the extra fleet)")

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
DAY = 86400


def visits() -> Iterator[Visit]:
    """Hosts of several clusters over some days; each tenth changes its class, and some come late."""
    kinds = [kind(name) for name in HOSTS[:12]]
    for number in range(300):
        cluster, own = f"rack{number // 60}", kinds[(number // 60 + number % 3) % len(kinds)]
        first = number % 7 * DAY
        yield Visit(cluster, f"node{number % 60}", first, own)
        yield Visit(cluster, f"node{number % 60}", first + 5 * DAY, kinds[-1] if number % 10 == 0 else own)
    yield Visit("it's", 'o"clock', 3 * DAY, kinds[0])


ASKED: dict[str, str] = {
    "census": statements.census(),
    "census of a day": statements.census(4 * DAY),
    "census of a cluster": statements.census(cluster="rack2"),
    "census of a cluster on a day": statements.census(4 * DAY, "it's"),
    "names": statements.names([kind(name).id for name in HOSTS[:3]]),
    "facts": statements.facts([kind(HOSTS[0]).id]),
    "nothing": statements.facts([]),
    "host": statements.host("rack1/node7"),
    "host of several": statements.host("node7", 6 * DAY),
    "history": statements.history("it's/o\"clock"),
    "history of one removed": statements.history("rack3/node1"),
    "changed": statements.changed(4 * DAY, 9 * DAY),
    "changed in a cluster": statements.changed(4 * DAY, 20 * DAY, "rack3"),
}


def digests(engine: Engine) -> dict[str, str]:
    """One digest over the rows of each statement, in any order; and none is of no rows by mistake."""
    found = {what: sorted(map(repr, (tuple(row) for row in engine.rows(sql)))) for what, sql in ASKED.items()}
    assert [what for what, rows in found.items() if not rows] == ["nothing"]
    return {what: blake2b("\n".join(rows).encode(), digest_size=16).hexdigest() for what, rows in found.items()}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same fleet in a file of DuckDB's and in a folder of Parquet files."""
    folder = tmp_path_factory.mktemp("stores")
    file, parquet = folder / "hosts.duckdb", folder / "hosts.parquet"
    for path in (file, parquet):
        store = Store(path)
        store.add(visits())
        assert store.remove(["rack3/node1"], 20 * DAY - 1) == ("rack3/node1",)
    return file, parquet


@pytest.fixture(scope="module")
def by_duckdb(stores: tuple[Path, Path]) -> dict[str, str]:
    with duckdb.connect(str(stores[0]), read_only=True) as connection:
        return digests(DuckDb(connection))


def test_a_folder_of_parquet_answers_as_the_file_does(stores: tuple[Path, Path], by_duckdb: dict[str, str]) -> None:
    with ParquetFolder(stores[1]).look() as engine:
        assert digests(engine) == by_duckdb


def test_another_database_answers_the_same_in_its_own_sql(stores: tuple[Path, Path], by_duckdb: dict[str, str]) -> None:
    """SQLite stands for all that a connection reaches: it has no 64-bit BIGINT of its own, and yet all rows are the same."""
    pytest.importorskip("sqlglot", reason="needs SQLGlot (the extra sql)")
    with closing(sqlite3.connect(":memory:")) as other:
        with duckdb.connect(str(stores[0]), read_only=True) as connection:
            _copy(connection, other)
        engine = Connection(other, "sqlite")
        assert digests(engine) == by_duckdb
        assert fleet.open(engine).census("rack2").groups == fleet.open(stores[0]).census("rack2").groups


def _copy(connection: duckdb.DuckDBPyConnection, other: sqlite3.Connection) -> None:
    for table, columns in statements.TABLES.items():
        other.execute(f"create table {table} ({', '.join(f'{name} {type_}' for name, type_ in columns.items())})")
        rows = connection.execute(f"select * from {table}").fetchall()
        other.executemany(f"insert into {table} values ({', '.join('?' * len(columns))})", rows)


DIALECTS = ("trino", "snowflake", "bigquery", "clickhouse", "postgres", "spark", "databricks", "sqlite")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_statement_is_said_in_a_dialect_without_loss(dialect: str) -> None:
    """What SQLGlot writes for a dialect it reads there, and it is the statement that was meant."""
    sqlglot = pytest.importorskip("sqlglot", reason="needs SQLGlot (the extra sql)")
    for sql in ASKED.values():
        assert sqlglot.parse_one(translated(sql, dialect), read=dialect).sql("duckdb") == translated(sql, "duckdb")


def test_a_dialect_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlglot", reason="needs SQLGlot (the extra sql)")
    with closing(sqlite3.connect(":memory:")) as other, pytest.raises(InputError, match="'klingon' is no dialect"):
        Connection(other, "klingon")
    monkeypatch.setitem(__import__("sys").modules, "sqlglot", None)
    with pytest.raises(UnavailableError, match=r"vcpuid\[sql\]"):
        translated("select 1", "trino")


def test_spark_is_asked_of_parquet_alone(stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="vcpuid fleet copy makes one"):
        fleet.open(stores[0], engine=object())
    monkeypatch.setitem(__import__("sys").modules, "pyspark.sql", None)
    with pytest.raises(UnavailableError, match=r"vcpuid\[spark\]"):
        spark_session()


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """One session for all: a master and two executors, each a process of its own, which take each other's rows over sockets."""
    from pyspark.sql import SparkSession

    few = SparkSession.builder.config("spark.sql.shuffle.partitions", "2").config("spark.ui.enabled", "false")  # not 200, for 300 hosts
    few.master("local-cluster[2,1,1024]").getOrCreate()
    session = spark_session()
    session.sparkContext.setLogLevel("ERROR")
    yield session
    session.stop()


@pytest.mark.spark
@pytest.mark.long
def test_spark_on_two_processes_answers_as_duckdb_does(spark: Any, stores: tuple[Path, Path], by_duckdb: dict[str, str]) -> None:
    with ParquetFolder(stores[1], spark).look() as engine:
        assert digests(engine) == by_duckdb
    assert len(spark.sparkContext._jsc.sc().statusTracker().getExecutorInfos()) == 3  # the driver and two others


@pytest.mark.spark
@pytest.mark.long
def test_a_fleet_is_asked_of_a_session_that_somebody_has(spark: Any, stores: tuple[Path, Path]) -> None:
    """Its own names stay its own, and the answer is DuckDB's."""
    spark.sql("select 1 as mine").createOrReplaceTempView("host")
    asked, known = fleet.open(stores[1], engine=spark), fleet.open(stores[0])
    assert asked.census("rack2").groups == known.census("rack2").groups
    assert [row.mine for row in spark.sql("select mine from host").collect()] == [1]


def test_a_copy_is_the_same_store(stores: tuple[Path, Path], tmp_path: Path, by_duckdb: dict[str, str]) -> None:
    fleet.open(stores[0]).copy(tmp_path / "one.parquet")
    fleet.open(tmp_path / "one.parquet").copy(tmp_path / "two.duckdb")
    with duckdb.connect(str(tmp_path / "two.duckdb"), read_only=True) as connection:
        assert digests(DuckDb(connection)) == by_duckdb
    with pytest.raises(InputError, match="there are hosts in it already"):
        fleet.open(stores[0]).copy(tmp_path / "two.duckdb")
    with pytest.raises(InputError, match="no such store"):
        fleet.open(tmp_path / "none.duckdb").copy(tmp_path / "three.parquet")
    added = fleet.open(tmp_path / "one.parquet").add(replace(host(SKYLAKE), kernel="6.1.1"), "late", "rack1", seen=50 * DAY)
    assert (added.hosts, len(added.new)) == (1, 1)
    assert fleet.open(tmp_path / "one.parquet").host("rack1/late") == HostClass.of(replace(host(SKYLAKE), kernel="6.1.1"))
