"""Snapshots of many hosts, asked for by ssh and kept where a fleet is: each as CLUSTER/HOST.txt of a folder, or all in a store.

Who did not answer is part of the result, with the cause. A folder has each host's file, whole or not at all, as soon as it came. A store
takes what came at the end, in one transaction, also where an error or a Ctrl-C ends it early: a host's class stands for itself, and adding
it again changes nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from vcpuid.errors import InputError, UnavailableError, VcpuidError
from vcpuid.fleet.adding import Added, Visit
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.folder import cause, host_name
from vcpuid.fleet.places import FILE, FOLDER
from vcpuid.fleet.remote import Reply, Way, ask
from vcpuid.fleet.store import Store
from vcpuid.fleet.targets import ENDING, Target, distinct
from vcpuid.sources import read
from vcpuid.sources.folders import files


@dataclass(frozen=True)
class HostAnswer:
    """What came of asking a host: its class and the collector's notes, or `why` there is none."""

    target: Target
    kind: HostClass | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    why: str = ""


def _place(answer: HostAnswer) -> tuple[str, str]:
    return answer.target.cluster, answer.target.name


@dataclass(frozen=True)
class Collected:
    """What came of asking all: the answers in the order in which they came.

    `added` tells what a store made of it, None for a folder. `remarks` are about files of the folder that are there besides.
    """

    answers: tuple[HostAnswer, ...]
    added: Added | None = None
    remarks: tuple[str, ...] = ()

    @property
    def unanswered(self) -> list[HostAnswer]:
        """Those that did not answer, by cluster and name."""
        return sorted((answer for answer in self.answers if answer.why), key=_place)

    @property
    def notes(self) -> dict[str, list[str]]:
        """The collectors' notes, each with the hosts that it is about."""
        found: dict[str, list[str]] = {}
        for answer in self.answers:
            for note in answer.notes:
                found.setdefault(note, []).append(answer.target.spoken)
        return found

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        answered = sorted((answer for answer in self.answers if answer.kind is not None), key=_place)
        return {
            "schema": "vcpuid/fleet-collect/1",
            "asked": len(self.answers),
            "hosts": [
                {
                    "name": answer.target.name, "cluster": answer.target.cluster, "class": answer.kind and answer.kind.name,
                    "notes": list(answer.notes),
                }
                for answer in answered
            ],
            "unanswered": [
                {"name": answer.target.name, "cluster": answer.target.cluster, "address": answer.target.address, "why": answer.why}
                for answer in self.unanswered
            ],
            "added": None if self.added is None else {
                "hosts": self.added.hosts, "classes": self.added.classes, "new": list(self.added.new), "changed": list(self.added.changed),
            },
        }  # fmt: skip


def collect(
    store: str | os.PathLike[str], targets: Iterable[Target], way: Way | None = None, told: Callable[[HostAnswer], None] = lambda _: None,
) -> Collected:  # fmt: skip
    """Ask hosts for a snapshot each, and keep what comes; `told` hears of each answer as it comes.

    `store` is a store's file (NAME.duckdb) or a folder, which is made where there is none. Raises InputError where two hosts would have
    one name, or `store` is neither; UnavailableError where it cannot be written, or ssh not be run.
    """
    asked = distinct(targets)
    answers: list[HostAnswer] = []
    kinds: dict[int, HostClass] = {}
    with ExitStack() as held:
        kept = _keeper(Path(store), held)
        try:
            with closing(ask(asked, way)) as replies:
                for reply in replies:
                    answer = _answer(reply, kept)
                    if answer.kind is not None:  # hosts of one class share it: a fleet has many hosts and few classes
                        answer = replace(answer, kind=kinds.setdefault(answer.kind.id, answer.kind))
                        kept.keep(answer)
                    answers.append(answer)
                    told(answer)
        finally:
            added = kept.finish()
    return Collected(tuple(answers), added, tuple(kept.remarks(asked)))


class _Keeper(Protocol):
    """Where snapshots go."""

    def path(self, target: Target) -> Path:
        """Say where a snapshot may be written until it has been read."""
        ...

    def keep(self, answer: HostAnswer) -> None:
        """Keep the snapshot that was written and read."""
        ...

    def finish(self) -> Added | None:
        """Keep what is not kept yet."""
        ...

    def remarks(self, targets: Iterable[Target]) -> Iterable[str]:
        """Say what somebody should know of what is there besides."""
        ...


def _answer(reply: Reply, kept: _Keeper) -> HostAnswer:
    """Write and read a snapshot."""
    if reply.snapshot is None:
        return HostAnswer(reply.target, why=reply.why)
    path = kept.path(reply.target)
    try:
        try:
            _write(path, reply.snapshot)
            snapshot = read(path)
            return HostAnswer(reply.target, HostClass.of(snapshot), snapshot.notes)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except UnavailableError:
        raise
    except VcpuidError as error:
        return HostAnswer(reply.target, why=f"its snapshot cannot be read: {cause(error)}")


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it is on the disk; raises UnavailableError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise _not_written(path, error) from None


def _not_written(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(f"{path}: cannot be written: {error.strerror}")


def _keeper(store: Path, held: ExitStack) -> _Keeper:
    try:
        there, folder = store.exists(), store.is_dir()
    except OSError as error:  # a name that is too long, a folder that may not be looked into
        raise InputError(error.strerror or str(error), source=str(store)) from None
    if store.suffix == FOLDER or (store.suffix == FILE and not folder):
        return _InStore(Store(store), Path(held.enter_context(tempfile.TemporaryDirectory(prefix="vcpuid-"))))
    if there and not folder:
        raise InputError(f"a fleet is a folder of snapshots, or a store whose name ends in {FILE} or {FOLDER}", source=str(store))
    return _InFolder(store)


class _InFolder:
    """Files of a folder. Until one is whole it is hidden, so that nobody takes it for a host's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._make(folder)

    def path(self, target: Target) -> Path:
        place = self._folder / target.cluster
        self._make(place)
        return place / f".vcpuid-{os.getpid()}.part"

    def _make(self, place: Path) -> None:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_written(place, error) from None

    def keep(self, answer: HostAnswer) -> None:
        part = self.path(answer.target)
        try:
            part.replace(part.with_name(answer.target.name + ENDING))
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise _not_written(part, error) from None

    def finish(self) -> None:
        """All is kept."""

    def remarks(self, targets: Iterable[Target]) -> Iterable[str]:
        asked = {(target.cluster, target.name) for target in targets}
        for path in map(Path, files(str(self._folder))):
            cluster = path.parent.relative_to(self._folder).as_posix()
            if ("" if cluster == "." else cluster, host_name(path)) in asked and not path.name.endswith(ENDING):
                yield f"{path}: a file of the same host besides {host_name(path)}{ENDING}, so it counts as another one: take one away"


class _InStore:
    """A store, which is made and looked at before anybody is asked."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._visits: list[Visit] = []
        store.add(())

    def path(self, target: Target) -> Path:
        return self._folder / "snapshot"

    def keep(self, answer: HostAnswer) -> None:
        assert answer.kind is not None
        self._visits.append(Visit(answer.target.cluster, answer.target.name, int(time.time()), answer.kind))

    def finish(self) -> Added:
        return self._store.add(self._visits) if self._visits else Added()

    def remarks(self, targets: Iterable[Target]) -> Iterable[str]:
        return ()
