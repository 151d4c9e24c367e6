"""What the tables of a kernel are called, and their order: shared by the scripts that make tables of kernels' facts."""

from __future__ import annotations

import re
from typing import Any


def tables_of(facts: dict[str, Any]) -> str:
    """Name the tables that a kernel's facts make: its major and minor number, but for a distribution's that has a name of its own."""
    return facts.get("tables") or ".".join(facts["kernel"].split(".")[:2])


def order(tables: str) -> tuple[int, int, str]:
    """Give a key by which tables are in order of their releases; a distribution's, 6.12-el10, comes behind upstream's 6.12."""
    major, minor, more = re.fullmatch(r"([0-9]+)\.([0-9]+)(.*)", tables).groups()  # type: ignore[union-attr]
    return int(major), int(minor), more
