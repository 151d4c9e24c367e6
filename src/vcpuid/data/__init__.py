"""Tables as JSON, no logic; each file's `source` key says which release it was read from and by which script of tools/.

A user's own tables (catalogs of imported QEMUs) lie in the user's data folder under the same kind of name and are found like the rest.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from vcpuid.errors import InputError, UnavailableError

FOLDER = Path(__file__).parent
"""Not through importlib.resources, which takes longer to import than the tables take to read."""


def packaged(name: str) -> bytes:
    """Return a file of the package, named from there on (`data/features.json`). Raises OSError where there is none.

    The package may lie in an archive, as in a zipapp: its loader has the file in either case, by the very path that it began with.
    """
    loader: Any = __spec__.loader
    content: bytes = loader.get_data(os.path.join(os.path.dirname(os.path.dirname(__file__)), *name.split("/")))
    return content


@cache
def load(name: str) -> Any:
    """Return the table `name` (a file of this folder, or of the user's, without its .json), read once a process.

    Raises InputError where a user's own table is cut or gone, UnavailableError where the user has no folder at all.
    """
    try:
        return json.loads(packaged(f"data/{name}.json"))
    except OSError:
        pass  # it is the user's
    own = user_folder() / f"{name}.json"
    try:
        return json.loads(own.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"not a table: {error}; import it again", source=str(own)) from None


def schema(name: str) -> str:
    """Return the JSON Schema of what a verb prints as JSON, as text: `explain`, `kvm-set`."""
    return packaged(f"data/schemas/{name}.json").decode()


def user_folder(variable: str = "XDG_DATA_HOME", below_home: str = ".local/share") -> Path:
    """Return the folder of the user's own tables, or that of another kind of file; it need not exist.

    Raises UnavailableError for a user without a home folder.
    """
    try:
        return Path(os.environ.get(variable) or Path.home() / below_home) / "vcpuid"
    except RuntimeError:
        raise UnavailableError(f"this user has no home folder; {variable} may name a place") from None


def imported() -> dict[str, dict[str, Any]]:
    """Return the user's imported QEMUs: by name, the binary that each was asked of (its path, size and time).

    Raises InputError where they cannot be told: the list is damaged, or its folder may not be looked into.
    """
    try:
        index = user_folder() / "imported.json"
        rows = json.loads(index.read_bytes())
    except (FileNotFoundError, NotADirectoryError, UnavailableError):
        return {}
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"not the list of imported QEMUs: {cause}", source=str(index)) from None
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise InputError("not the list of imported QEMUs", source=str(index))
    return rows
