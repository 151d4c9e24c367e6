"""Connections to DuckDB that read and write what they are given and nothing else, and wait for each other."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcpuid.errors import InputError, UnavailableError
from vcpuid.fleet import statements

if TYPE_CHECKING:
    import duckdb

_PATIENCE = 30.0
"""Seconds for which a writer waits for another."""

_MEMORY = "512MB"
"""What DuckDB may have to change a place, or to copy one; what is more goes to a file of its beside the store."""

SPILL = "spill"
"""The folder for such files beside a folder's."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let nobody else change a folder; raises UnavailableError where somebody does all the time."""
    deadline = time.monotonic() + _PATIENCE
    with open(folder / "lock", "ab") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                _wait(deadline, str(folder))
        yield


def _wait(deadline: float, name: str) -> None:
    if time.monotonic() > deadline:
        raise UnavailableError(f"{name}: another process has been writing for {_PATIENCE:.0f} seconds") from None
    time.sleep(0.05)


@contextmanager
def in_memory(folder: Path, reading: Sequence[str] = (), *, spill: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a database in memory that reads and writes files of one folder, and reads those of the folders `reading`.

    With `spill` its memory is bounded, and what is more goes to files in the folder.
    """
    duckdb = _duckdb()
    folders = [str(folder), *reading]
    bound = {"memory_limit": _MEMORY, "temp_directory": str(folder / SPILL)} if spill else {}
    with _told(str(folder)):
        connection = duckdb.connect(":memory:", config={**_CONFIG, **bound})
        try:
            _shut(connection, folders)
            yield connection
        finally:
            connection.close()


@contextmanager
def opened(path: Path, *, write: bool, reading: Sequence[str] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store's file, and let it read files of the folders `reading`.

    Raises UnavailableError without DuckDB or where another process keeps it, InputError where it is none.
    """
    duckdb = _duckdb()
    if os.path.lexists(path) and not os.path.isfile(path):
        raise InputError("no regular file", source=str(path))
    deadline = time.monotonic() + _PATIENCE
    with _told(str(path)):
        while True:
            try:
                connection = duckdb.connect(os.path.abspath(path), read_only=not write, config=_CONFIG)
                break
            except duckdb.IOException as error:
                if not str(error).startswith(_LOCKED):
                    raise InputError(_one_line(error), source=str(path)) from None
                _wait(deadline, str(path))
        try:
            if write:
                connection.execute(f"set memory_limit = '{_MEMORY}'")
            _shut(connection, reading)
            yield connection
        finally:
            connection.close()


def _duckdb() -> Any:
    try:
        import duckdb
    except ImportError:
        raise UnavailableError("a store needs DuckDB: pip install 'vcpuid[fleet]'; a folder of snapshots is a fleet without it") from None
    return duckdb


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Tell what DuckDB says of a file as bad input."""
    duckdb = _duckdb()
    try:
        yield
    except (duckdb.Error, UnicodeError, RuntimeError) as error:
        raise InputError(f"no store of a fleet: {_one_line(error)}", source=name) from None


_LOCKED = "IO Error: Could not set lock on file"
_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def _shut(connection: duckdb.DuckDBPyConnection, folders: Sequence[str]) -> None:
    """Keep a connection to files of some folders: a store that somebody else made must not make DuckDB read others, or fetch code."""
    connection.execute(f"set allowed_directories = [{', '.join(map(statements.text, folders))}]")
    connection.execute("set enable_external_access = false")


def _one_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
