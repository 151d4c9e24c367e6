"""Tables as JSON, no logic; each file's `source` key says which release it was read from and by which script of tools/.

A user's own tables (catalogs of imported QEMUs) lie in the user's data folder under the same kind of name and are found like the rest.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from vcpuid.errors import InputError

FOLDER = Path(__file__).parent
"""Not through importlib.resources, which takes longer to import than the tables take to read."""


@cache
def load(name: str) -> Any:
    """Return the table `name` (a file of this folder, or of the user's, without its .json), read once a process.

    Raises InputError where a user's own table is cut or gone.
    """
    bundled = FOLDER / f"{name}.json"
    if bundled.is_file():
        return json.loads(bundled.read_bytes())
    own = user_folder() / f"{name}.json"
    try:
        return json.loads(own.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"not a table: {error}; import it again", source=str(own)) from None


def schema(name: str) -> str:
    """Return the JSON Schema of what a verb prints as JSON, as text: `explain`, `kvm-set`."""
    return (FOLDER / "schemas" / f"{name}.json").read_text(encoding="utf-8")


def user_folder() -> Path:
    """Return the folder of the user's own tables; it need not exist."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vcpuid"


def imported() -> dict[str, dict[str, Any]]:
    """Return the user's imported QEMUs: by name, the binary that each was asked of (its path, size and time)."""
    index = user_folder() / "imported.json"
    try:
        rows = json.loads(index.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"not the list of imported QEMUs: {error}", source=str(index)) from None
    if not isinstance(rows, dict):
        raise InputError("not the list of imported QEMUs", source=str(index))
    return rows
