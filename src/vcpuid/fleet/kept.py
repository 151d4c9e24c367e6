"""Outcomes of a -cpu by class, worked out once: what a question took a minute for is there when it is asked again.

They are kept in the user's cache folder, and not in a store: asking changes no store, and what somebody else's store says of a verdict is
not taken for true. One is known by all that it hangs on: the class's facts, the software, the -cpu, and each byte of this vcpuid. A cache
that cannot be read or written, or that is damaged, costs time and nothing else.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from vcpuid import data
from vcpuid.cpuid import CpuidTable, Entry, MsrWord, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import CpuidWord
from vcpuid.errors import UnavailableError
from vcpuid.fleet.hands import SHARE, on_each
from vcpuid.fleet.outcome import CpuOutcome, outcome
from vcpuid.setup import Setup
from vcpuid.told.facts import Between, Fact, NotTold, WholeLeaf

_MOST = 50_000
"""Outcomes that are kept, the newest: some 2 KB each."""

_PATIENCE = 2.0
"""Seconds for which the cache of another process is waited for."""

_AT_ONCE = 500
"""Keys in a statement."""


def outcomes(cpu: str, setups: Sequence[Setup]) -> list[CpuOutcome]:
    """Return what becomes of a -cpu on each host: of many by all processors, and what is known already from the cache."""
    work = partial(outcome, cpu)
    if len(setups) < SHARE:
        return [work(setup) for setup in setups]
    cache = _Cache.of_user()
    keys = [_key(cpu, setup) for setup in setups]
    known = cache.known([key for key in keys if key is not None])
    missing = [at for at, key in enumerate(keys) if key is None or key not in known]
    found: dict[int, CpuOutcome] = {}
    try:
        found.update(zip(missing, on_each(work, [setups[at] for at in missing]), strict=True))
    finally:  # also of a question that Ctrl-C ends
        cache.keep({key: answer for at, answer in found.items() if (key := keys[at]) is not None})
    return [found[at] if at in found else known[key or b""] for at, key in enumerate(keys)]


def _key(cpu: str, setup: Setup) -> bytes | None:
    """Return what an outcome is known by; None for a QEMU that the user imported, whose tables may change."""
    if "-" in setup.vmm.tables:
        return None
    ran = setup.ran
    hosts = [_facts(setup), *([] if ran is None else [_facts(ran), ran.as_dict()])]
    told = [cpu, setup.as_dict(), sorted(setup.assumed), hosts]
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

    def known(self, keys: Sequence[bytes]) -> dict[bytes, CpuOutcome]:
        """Return those outcomes that are kept."""
        found: dict[bytes, CpuOutcome] = {}
        if self._path is None or not self._path.is_file():
            return found
        try:
            with closing(_opened(self._path)) as connection:
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    sql = f"select key, told from outcome where vcpuid = ? and key in ({', '.join('?' * len(some))})"
                    for key, told in connection.execute(sql, (_this_vcpuid(), *some)):
                        with suppress(ValueError, TypeError, KeyError, zlib.error):  # a row that is damaged is none
                            found[key] = _unpacked(told)
        except (sqlite3.Error, OSError):
            pass
        return found

    def keep(self, found: Mapping[bytes, CpuOutcome]) -> None:
        """Keep outcomes, all or none, in the place of another vcpuid's; a file that is none of SQLite's goes."""
        if self._path is None or not found:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            rows = [(key, _this_vcpuid(), _packed(answer)) for key, answer in found.items()]
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


def _packed(answer: CpuOutcome) -> bytes:
    told = {
        "runs": answer.runs, "why": answer.why, "known": answer.known, "refused": answer.refused, "stays": answer.stays,
        "not_told": [[one.what, list(map(_fact, one.depends))] for one in answer.not_told],
        "untold": list(map(_fact, answer.untold)),
        "cpuid": None if answer.cpuid is None else list(map(list, answer.cpuid)),
        "msrs": [[_place(word), value] for word, value in answer.msrs.items()],
        "features": dict(answer.features),
        "open": list(map(_place, answer.open)),
    }  # fmt: skip
    return zlib.compress(json.dumps(told).encode(), 1)


def _unpacked(packed: bytes) -> CpuOutcome:
    told = json.loads(zlib.decompress(packed))
    return CpuOutcome(
        told["runs"], told["why"], told["known"], told["refused"], told["stays"],
        tuple(NotTold(what, tuple(map(_fact_of, facts))) for what, facts in told["not_told"]),
        tuple(map(_fact_of, told["untold"])),
        None if told["cpuid"] is None else CpuidTable(Entry(*entry) for entry in told["cpuid"]),
        FrozenMap({_word_of(place): value for place, value in told["msrs"]}),
        FrozenMap(told["features"]),
        frozenset(map(_word_of, told["open"])),
    )  # fmt: skip


def _fact(fact: Fact) -> list[Any]:
    return [_place(fact.place), fact.position, fact.of]


def _fact_of(told: Sequence[Any]) -> Fact:
    place, position, of = told
    return Fact(_place_of(place), position, of)


def _place(place: WholeLeaf | Word | Between) -> list[Any]:
    return list(place)


def _place_of(told: Sequence[Any]) -> WholeLeaf | Word | Between:
    """Tell places apart by how many numbers they have; kernels are told by their names."""
    kind: type[Any] = Between if isinstance(told[0], str) else {1: MsrWord, 2: WholeLeaf, 3: CpuidWord}[len(told)]
    place: WholeLeaf | Word | Between = kind(*told)
    return place


def _word_of(told: Sequence[Any]) -> Word:
    place = _place_of(told)
    if isinstance(place, (WholeLeaf, Between)):
        raise ValueError
    return place
