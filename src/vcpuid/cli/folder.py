"""Folders of dumps, wherever a verb takes one for the files in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from vcpuid.errors import InputError


def files(source: str, tell: Callable[[InputError], None]) -> Iterator[str]:
    """Give the files of a folder as `vcpuid.sources.folders.files` does; of anything else, itself. What cannot be looked into is told.

    Pipes and the like are left out.
    """
    from vcpuid.sources import folders

    if not os.path.isdir(source):
        yield source
        return
    try:
        for path in folders.files(source):
            why = folders.no_file(path)
            if why is None:
                yield path
            elif why != folders.NO_REGULAR:
                tell(InputError(why, source=path))
    except InputError as error:
        tell(error)
