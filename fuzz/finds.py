"""A find: an input with which something must not happen, what happened, and the file that keeps it."""

from __future__ import annotations

import json
import re
import traceback
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from fuzz.limits import TooLong
from fuzz.target import Broken, Case
from fuzz.text import places

_CHANGING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]*\d[0-9a-f]*\b|'[^']*'|\"[^\"]*\"", re.IGNORECASE)
"""What of an exception's text is the input's own: numbers, and what stands in quotes."""


class Failure(NamedTuple):
    """How an input failed: `kind` is the same for all inputs that fail alike, `detail` is this one's."""

    kind: str
    detail: str


class Find(NamedTuple):
    """A failure and the input behind it; `number` is the input's in the run with `seed`."""

    target: str
    seed: int
    number: int
    failure: Failure
    case: Case

    def path(self, folder: Path) -> Path:
        """Name its file in a folder: target and kind give the name."""
        return folder / f"{self.target}-{sha256(self.failure.kind.encode()).hexdigest()[:10]}.json"

    def save(self, folder: Path) -> Path:
        """Write it into a folder, which is made where there is none."""
        folder.mkdir(parents=True, exist_ok=True)
        path = self.path(folder)
        document = {**self._asdict(), "failure": self.failure._asdict()}
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return path


def load(path: Path) -> Find:
    """Read a find that `save` wrote."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return Find(**{**document, "failure": Failure(**document["failure"])})


def failure_of(error: BaseException) -> Failure:
    """Say how an input failed that raised this."""
    if isinstance(error, Broken):
        return Failure(f"law: {error.law}", error.detail)
    at = places(traceback.extract_tb(error.__traceback__))
    if isinstance(error, (TooLong, MemoryError, RecursionError)):  # where it was when it was enough says little
        return Failure(f"{type(error).__name__} in {at[0]}", f"at last in {at[-1]}")
    text = " ".join(str(error).split())[:300]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return Failure(f"{name} in {at[-1]}: {_CHANGING.sub('…', text)[:80]}", text)
