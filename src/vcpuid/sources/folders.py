"""Folders of dumps: which files are in one, and when it is given up. Somebody may name `/`, which has no end and hardly a dump in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from vcpuid.errors import InputError

_EMPTY, _STRANGE, _TIMES = 10_000, 1000, 10
"""So many folders, and so many for each file in them, are nobody's; nor are so many files that are no dumps, and so many for each dump."""


def files(folder: str) -> Iterator[str]:
    """Give the files of a folder and of those within it, in the order of their names, but for hidden ones.

    Folders into which nobody can look, links to folders, which are not followed, and pipes are given too: `no_file` says what they are.
    Raises InputError where there are many folders and hardly a file in them.
    """
    closed: list[str] = []
    given = 0
    for number, (where, folders, names) in enumerate(os.walk(folder, onerror=lambda error: closed.append(error.filename))):
        if number >= _EMPTY and number >= _TIMES * given:
            raise InputError(f"{given} files in its first {number} folders: no folder of snapshots", source=folder)
        given += len(names)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        linked = [name for name in folders if os.path.islink(os.path.join(where, name))]
        yield from (os.path.join(where, name) for name in sorted((*names, *linked)) if not name.startswith("."))
    yield from closed


NO_REGULAR = "no regular file"


def no_file(path: str) -> str | None:
    """Say why what is there is no file to read, which may never end; None where it is one, or there is none."""
    if os.path.isfile(path) or not os.path.exists(path):
        return None
    if not os.path.isdir(path):
        return NO_REGULAR
    return "a link to a folder, which is not followed" if os.path.islink(path) else "a folder that cannot be looked into"


class Patience:
    """Counts files, and those of them that can be read, of what `within` names."""

    def __init__(self, within: str) -> None:
        self._within, self._files, self._read = within, 0, 0

    def count(self, *, read: bool) -> None:
        """Count one; raises InputError where hardly any of many could be read."""
        self._files += 1
        self._read += read
        strange = self._files - self._read
        if strange >= _STRANGE and strange >= _TIMES * self._read:
            raise InputError(f"of its first {self._files} files {self._read} can be read: no folder of snapshots", source=self._within)
