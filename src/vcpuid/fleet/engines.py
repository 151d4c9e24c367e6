"""What answers a store's questions: DuckDB by default, a Spark session, or a connection to any other database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from vcpuid.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import duckdb


class Engine(Protocol):
    """What answers SQL; its tables are those of `vcpuid.fleet.statements.TABLES`."""

    def rows(self, sql: str) -> Iterable[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        ...


class DuckDb:
    """A DuckDB connection as an engine."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        return self._connection.execute(sql).fetchall()


class Spark:
    """A Spark session as an engine: Spark's own, or whatever has its `sql`. The tables are those, or the views, that it finds by name."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def rows(self, sql: str) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        return map(tuple, self._session.sql(sql).collect())


class Connection:
    """A connection of Python's database interface (PEP 249) as an engine; SQLGlot writes the statements in the database's `dialect`.

    `dialect` is a name of SQLGlot's: trino, snowflake, bigquery, clickhouse (with join_use_nulls = 1), postgres, sqlite and others. Raises
    UnavailableError without SQLGlot, InputError for a dialect that it does not know.
    """

    def __init__(self, connection: Any, dialect: str) -> None:
        translated("select 1", dialect)
        self._connection, self._dialect = connection, dialect

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement's result."""
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(translated(sql, self._dialect))
            return [tuple(row) for row in cursor.fetchall()]


def translated(sql: str, dialect: str) -> str:
    """Write a statement in another database's SQL; raises as `Connection` does."""
    try:
        import sqlglot
    except ImportError:
        raise UnavailableError("other databases need SQLGlot, which writes SQL as they want it: pip install 'vcpuid[sql]'") from None
    try:
        (found,) = sqlglot.transpile(sql, read="duckdb", write=dialect)
    except ValueError as error:
        raise InputError(f"{dialect[:40]!r} is no dialect of SQLGlot's: {str(error).partition(chr(10))[0]}") from None
    return found


def spark_session(master: str | None = None) -> Any:
    """Return a Spark session: that of this process where it has one, else one of `master`'s, or of the place that Spark's settings name.

    Raises UnavailableError without PySpark or Java, and where Spark cannot be reached.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise UnavailableError("Spark needs PySpark: pip install 'vcpuid[spark]', and a Java runtime of 17 or newer") from None
    asked = SparkSession.builder.appName("vcpuid fleet").config("spark.ui.enabled", "false")
    try:
        return (asked if master is None else asked.master(master)).getOrCreate()
    except (PySparkException, OSError, RuntimeError) as error:
        raise UnavailableError(f"Spark does not start: {str(error).partition(chr(10))[0][:200]}") from None
