"""Where a store is kept: a file of DuckDB's, a folder of Parquet files, or with somebody else, who answers SQL.

A place gives one look at all tables as they are at one moment, and changes them as a whole or not at all, whatever ends the process. One
process changes a place at a time; others wait for it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet import statements
from vcpuid.fleet.connections import SPILL, in_memory, locked, opened
from vcpuid.fleet.engines import DuckDb, Engine, Spark

if TYPE_CHECKING:
    import duckdb

FILE, FOLDER = ".duckdb", ".parquet"
"""How the names of stores end."""

_NO_STORE = "no such store: vcpuid fleet add makes one"
_FORM = 2


class Keeper(Protocol):
    """Where a store is kept; `name` is what errors call it."""

    name: str

    def look(self) -> Any:
        """Give an engine that sees the tables as they are at one moment, as a context; raises InputError for what is no store."""
        ...

    def change(self) -> Any:
        """Give a DuckDB connection whose changes are kept, as a context, unless it is left by an exception.

        Raises UnavailableError where another process changes it all the time, and where nothing can be changed.
        """
        ...

    def files(self) -> list[str]:
        """Return the folders that are to be read of."""
        ...

    def show(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the tables those of the schema `other` of a connection that may read `files`."""
        ...

    def fill(self, source: Keeper) -> None:
        """Copy all tables of another place; raises InputError where there are hosts already, and else as `change`."""
        ...


class Brought:
    """An engine that somebody brought along, with tables like `statements.TABLES`."""

    name = "the fleet"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @contextmanager
    def look(self) -> Iterator[Engine]:
        """Give the engine: what it sees at one moment is its own affair."""
        yield self._engine

    def change(self) -> Any:
        """Refuse: tables that others keep are theirs."""
        raise UnavailableError("hosts are added to a file of DuckDB or a folder of Parquet files; what answers SQL here is only read")

    def files(self) -> list[str]:
        """Refuse, as `change` does."""
        return list(self.change())

    def show(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Refuse, as `change` does."""
        self.change()

    def fill(self, source: Keeper) -> None:
        """Refuse, as `change` does."""
        self.change()


class DuckDbFile:
    """A file of DuckDB's, which a transaction changes."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, str(path)

    @contextmanager
    def look(self) -> Iterator[Engine]:
        """Open the file; while it is open nobody changes it."""
        if not os.path.exists(self._path):
            raise InputError(_NO_STORE, source=self.name)
        with opened(self._path, write=False) as connection:
            _check_form(connection, self.name)
            connection.begin()
            yield DuckDb(connection)

    def files(self) -> list[str]:
        """Return the file's folder: DuckDB looks for others beside it."""
        if not os.path.exists(self._path):
            raise InputError(_NO_STORE, source=self.name)
        return [str(self._path.absolute().parent)]

    def show(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Attach the file."""
        connection.execute(f"attach {statements.text(str(self._path.absolute()))} as other (read_only)")

    @contextmanager
    def change(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file, make it where there is none, and commit."""
        with self._changed() as connection:
            yield connection

    def fill(self, source: Keeper) -> None:
        """Insert the rows."""
        with self._changed(source.files()) as connection:
            _refuse_hosts(connection, "host", self.name)
            source.show(connection)
            for table, columns in statements.TABLES.items():
                connection.execute(f"insert into {table} select {', '.join(columns)} from other.{table} order by {statements.ORDER[table]}")

    @contextmanager
    def _changed(self, reading: Sequence[str] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
        new = not os.path.exists(self._path)
        with opened(self._path, write=True, reading=reading) as connection:
            if new:
                connection.begin()
                _create(connection)
                connection.commit()
            _check_form(connection, self.name)
            connection.begin()
            yield connection
            connection.commit()


class ParquetFolder:
    """A folder of Parquet files, a table each, and a list of those that hold now.

    A change writes all tables anew, beside the old ones, and then the list in one step; who looks meanwhile sees the old ones, which stay
    until the change after. With a Spark `session` that answers, and else DuckDB.
    """

    _LIST = "store.json"
    _HARD = 15
    """ZSTD's level for observations, which are nearly all of a large store."""

    def __init__(self, path: Path, session: Any = None) -> None:
        self._path, self._session, self.name = path.absolute(), session, str(path)

    @contextmanager
    def look(self) -> Iterator[Engine]:
        """Give an engine for which the files are tables."""
        turn = self._turn()
        if turn is None:
            raise InputError(_NO_STORE, source=self.name)
        if self._session is not None:
            yield self._seen_by_spark(turn)
            return
        with in_memory(self._path) as connection:
            for table in statements.TABLES:
                connection.execute(f"create view {table} as select * from {self._file(table, turn)}")
            yield DuckDb(connection)

    def _seen_by_spark(self, turn: int) -> Spark:
        session = self._session.newSession()  # with names of its own, beside those of the user's session
        for table in statements.TABLES:
            session.read.parquet(str(self._named(table, turn).absolute())).createOrReplaceTempView(table)
        return Spark(session)

    def files(self) -> list[str]:
        """Return the folder."""
        return [str(self._path)]

    def show(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make views of the files."""
        turn = self._turn()
        if turn is None:
            raise InputError(_NO_STORE, source=self.name)
        connection.execute("create schema other")
        for table in statements.TABLES:
            connection.execute(f"create view other.{table} as select * from {self._file(table, turn)}")

    @contextmanager
    def change(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Read the tables, and write them when they are changed."""
        with self._alone() as (connection, turn):
            _create(connection)
            if turn is not None:
                for table, columns in statements.TABLES.items():
                    connection.execute(f"insert into {table} select {', '.join(columns)} from {self._file(table, turn)}")
            yield connection
            self._write(connection, 1 if turn is None else turn + 1)

    def fill(self, source: Keeper) -> None:
        """Write the files of the other place's rows."""
        with self._alone(source.files()) as (connection, turn):
            if turn is not None:
                _refuse_hosts(connection, self._file("host", turn), self.name)
            source.show(connection)
            self._write(connection, 1 if turn is None else turn + 1, "other.")

    @contextmanager
    def _alone(self, reading: Sequence[str] = ()) -> Iterator[tuple[duckdb.DuckDBPyConnection, int | None]]:
        """Give a connection without tables, and the number of those that hold, while nobody else changes the folder."""
        self._path.mkdir(parents=True, exist_ok=True)
        with locked(self._path):
            shutil.rmtree(self._path / SPILL, ignore_errors=True)  # of one that was killed
            with in_memory(self._path, reading, spill=True) as connection:
                yield connection, self._turn()

    def _write(self, connection: duckdb.DuckDBPyConnection, turn: int, schema: str = "") -> None:
        for table, columns in statements.TABLES.items():
            file, order = self._named(table, turn), statements.ORDER[table]
            level = f", compression_level {self._HARD}" if table == "observation" else ""
            connection.execute(
                f"copy (select {', '.join(columns)} from {schema}{table} order by {order}) to {statements.text(str(file))} "
                f"(format parquet, compression zstd, parquet_version v2, row_group_size 245760, write_bloom_filter false{level})"
            )
            _to_disk(file)
        new = self._path / f"{self._LIST}.new"
        new.write_text(json.dumps({"form": _FORM, "turn": turn}) + "\n", encoding="utf-8")
        _to_disk(new)
        os.replace(new, self._path / self._LIST)
        _to_disk(self._path)
        kept = {self._named(table, number).name for table in statements.TABLES for number in (turn, turn - 1)}
        for old in self._path.glob("*.parquet"):
            if old.name not in kept:
                old.unlink(missing_ok=True)

    def _turn(self) -> int | None:
        """Return the number of the tables that hold; None where there is no store yet."""
        try:
            told = json.loads((self._path / self._LIST).read_bytes())
            form, turn = told["form"], told["turn"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise InputError(f"no store of a fleet: its {self._LIST} cannot be read", source=self.name) from None
        if form != _FORM or type(turn) is not int or turn < 1:
            raise InputError(
                f"the store is of form {form!r:.20}, which this vcpuid does not know: it writes form {_FORM}", source=self.name
            )
        return turn

    def _named(self, table: str, turn: int) -> Path:
        return self._path / f"{table}-{turn}.parquet"

    def _file(self, table: str, turn: int) -> str:
        return f"read_parquet({statements.text(str(self._named(table, turn)))})"


def _to_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of files, is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


_PACKED = {"facts": " using compression zstd"}
"""Columns for which DuckDB would not choose by itself what takes the least room."""


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    for name, columns in statements.TABLES.items():
        given = [f"{column} {kind}{_PACKED.get(column, '')}" for column, kind in columns.items()]
        connection.execute(f"create table if not exists {name} ({', '.join(given)})")
    connection.execute("create table if not exists form (version BIGINT)")
    connection.execute(f"insert into form select {_FORM} where not exists (select 1 from form)")


def _check_form(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Refuse what is no store of this form: tables alone are read, no views that somebody put in their place."""
    rows = connection.execute("select table_name, table_type from information_schema.tables").fetchall()
    tables = {table for table, kind in rows if kind == "BASE TABLE"}
    found = connection.execute("select max(version) from form").fetchall()[0][0] if "form" in tables else _FORM
    if found != _FORM:
        raise InputError(f"the store is of form {found}, which this vcpuid does not know: it writes form {_FORM}", source=name)
    if not {*statements.TABLES, "form"} <= tables:
        raise InputError("no store of a fleet: it lacks the tables of one", source=name)


def _refuse_hosts(connection: duckdb.DuckDBPyConnection, table: str, name: str) -> None:
    if connection.execute(f"select 1 from {table} limit 1").fetchall():
        raise InputError("there are hosts in it already: a copy is made where there is no store", source=name)
