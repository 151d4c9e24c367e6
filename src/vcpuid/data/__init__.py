"""Tables as JSON, no logic; each file's `source` key says which release it was read from and by which script of tools/."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def load(name: str) -> Any:
    """Return the table `name` (a file of this folder without its .json), read once a process."""
    return json.loads(files(__name__).joinpath(f"{name}.json").read_bytes())
