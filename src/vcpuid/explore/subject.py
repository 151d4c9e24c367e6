"""What the page is about: a path, what leads to its -cpu, and how a person names its host and asks for it on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from vcpuid.answers.order import Order
from vcpuid.path.pipeline import Path
from vcpuid.vmm.observed import ShownGuest


@dataclass(frozen=True)
class Subject:
    """One path. `host` is what a person calls its host, `order` how a domain leads to its -cpu, None where none does.

    `options` are those of vcpuid's verbs that ask for the same path; `shown` is the recorded guest whose path it is, None where nobody
    recorded it.
    """

    host: str
    path: Path
    order: Order | None = None
    options: tuple[str, ...] = ()
    shown: ShownGuest | None = None
