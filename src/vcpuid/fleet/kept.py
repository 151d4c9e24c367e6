"""What is asked about a -cpu of each class, worked out once: what a question took a minute for is there when it is asked again.

Answers are kept in the user's cache folder, and not in a store: asking changes no store, and what somebody else's store says of a verdict
is not taken for true. One is known by all that it hangs on: the class's facts, the software, the -cpu, and each byte of this vcpuid. A
cache that cannot be read or written, or that is damaged, costs time and nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Generic, TypeVar

from vcpuid import data
from vcpuid.errors import UnavailableError
from vcpuid.fleet.hands import SHARE, on_each
from vcpuid.setup import Setup

T = TypeVar("T")

_MOST = 50_000
"""Answers that are kept, the newest: some 2 KB each."""

_PATIENCE = 2.0
"""Seconds for which the cache of another process is waited for."""

_AT_ONCE = 500
"""Keys in a statement."""


@dataclass(frozen=True)
class Question(Generic[T]):
    """What is asked about a -cpu of a class, and how the answer is written as JSON, and read of it.

    `unpacked` raises ValueError, TypeError or KeyError for what is no answer.
    """

    name: str
    answer: Callable[[str, Setup], T]
    packed: Callable[[T], object]
    unpacked: Callable[[Any], T]

    def ask(self, cpu: str, setups: Sequence[Setup]) -> list[T]:
        """Return the answers on each host: of many by all processors, and what is known already from the cache."""
        work = partial(self.answer, cpu)
        if len(setups) < SHARE:
            return [work(setup) for setup in setups]
        cache = _Cache.of_user()
        keys = [_key(self.name, cpu, setup) for setup in setups]
        known: dict[bytes, T] = {}
        for place, told in cache.known([key for key in keys if key is not None]).items():
            with suppress(ValueError, TypeError, KeyError, zlib.error):  # a row that is damaged is none
                known[place] = self.unpacked(json.loads(zlib.decompress(told)))
        missing = [at for at, key in enumerate(keys) if key is None or key not in known]
        found: dict[int, T] = {}
        try:
            found.update(zip(missing, on_each(work, [setups[at] for at in missing]), strict=True))
        finally:  # also of a question that Ctrl-C ends
            kept = {key: answer for at, answer in found.items() if (key := keys[at]) is not None}
            cache.keep({key: zlib.compress(json.dumps(self.packed(answer)).encode(), 1) for key, answer in kept.items()})
        return [found[at] if at in found else known[key or b""] for at, key in enumerate(keys)]


def _key(question: str, cpu: str, setup: Setup) -> bytes | None:
    """Return what an answer is known by; None for a QEMU that the user imported, whose tables may change."""
    if "-" in setup.vmm.tables:
        return None
    ran = setup.ran
    hosts = [_facts(setup), *([] if ran is None else [_facts(ran), ran.as_dict()])]
    told = [question, cpu, setup.as_dict(), sorted(setup.assumed), hosts]
    return blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).digest()


def _facts(setup: Setup) -> list[object]:
    host = setup.host
    return [host.fingerprint, sorted(host.named.items()), sorted(host.msrs.refused)]


@lru_cache(maxsize=1)
def _this_vcpuid() -> bytes:
    """Return a digest of all files of the package: whatever another release, or an edited file, does otherwise is asked anew."""
    folder, digest = data.FOLDER.parent, blake2b(digest_size=16)
    if archive := next((above for above in folder.parents if above.is_file()), None):
        return blake2b(archive.read_bytes(), digest_size=16).digest()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".py", ".json") and file.is_file():
            content = file.read_bytes()
            digest.update(f"{file.relative_to(folder)} {len(content)}\n".encode() + content)
    return digest.digest()


class _Cache:
    """The cache's file; where there can be none, nothing is known and nothing kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def of_user(cls) -> _Cache:
        """Return the user's."""
        try:
            return cls(data.user_folder("XDG_CACHE_HOME", ".cache") / "fleet.sqlite")
        except UnavailableError:
            return cls(None)

    def known(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return those answers that are kept."""
        found: dict[bytes, bytes] = {}
        if self._path is None or not self._path.is_file():
            return found
        try:
            with closing(_opened(self._path)) as connection:
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    sql = f"select key, told from outcome where vcpuid = ? and key in ({', '.join('?' * len(some))})"
                    found.update(connection.execute(sql, (_this_vcpuid(), *some)))
        except (sqlite3.Error, OSError):
            pass
        return found

    def keep(self, found: Mapping[bytes, bytes]) -> None:
        """Keep answers, all or none, in the place of another vcpuid's; a file that is none of SQLite's goes."""
        if self._path is None or not found:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            rows = [(key, _this_vcpuid(), told) for key, told in found.items()]
            with closing(_opened(self._path)) as connection, connection:
                connection.execute("create table if not exists outcome (key blob primary key, vcpuid blob, told blob)")
                connection.execute("delete from outcome where vcpuid <> ?", (_this_vcpuid(),))
                connection.executemany("insert or replace into outcome values (?, ?, ?)", rows)
                connection.execute("delete from outcome where rowid <= (select max(rowid) from outcome) - ?", (_MOST,))
        except sqlite3.OperationalError:
            pass  # it is locked, or may not be written
        except sqlite3.DatabaseError:
            with suppress(OSError):
                self._path.unlink()
        except OSError:
            pass


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_PATIENCE)
