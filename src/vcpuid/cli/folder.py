"""Folders of dumps, wherever a verb takes one for the files in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from vcpuid.errors import InputError


def files(source: str, tell: Callable[[InputError], None]) -> Iterator[str]:
    """Give the files of a folder and of those in it, by name; of anything else, itself. What cannot be listed is told.

    So is a link to a folder, which may lead in a circle or to everything there is. Pipes and the like are left out: reading one may never
    end.
    """
    if not os.path.isdir(source):
        yield source
        return
    for folder, folders, names in os.walk(source, onerror=lambda error: tell(InputError(str(error.strerror), source=str(error.filename)))):
        folders.sort()
        for path in (os.path.join(folder, name) for name in folders):
            if os.path.islink(path):
                tell(InputError("links to folders are not followed", source=path))
        for path in (os.path.join(folder, name) for name in sorted(names)):
            if os.path.isfile(path) or not os.path.exists(path):
                yield path
