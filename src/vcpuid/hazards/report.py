"""What `vcpuid check` answers, as a document for programs: hazards, and the verdict on the CPU that has them."""

from __future__ import annotations

from collections.abc import Sequence

from vcpuid.answers.order import Order
from vcpuid.answers.verdict import Verdict
from vcpuid.hazards.rule import Hazard

SCHEMA = "vcpuid/check/2"
"""The form of `report`."""


def report(
    found: Sequence[Hazard],
    verdict: Verdict | None = None,
    manager: str | None = None,
    order: Order | None = None,
    host: str | None = None,
) -> dict[str, object]:
    """Put hazards into a document; those of a table that nobody asked for by a -cpu have no verdict.

    With a `manager`, the -cpu that runs is written in its words too. `order` is how libvirt comes to the -cpu, `host`
    what the user called the host.
    """
    by_libvirt = None if order is None else order.as_dict()
    judged = {} if verdict is None else {**verdict.as_dict(), "written": _written(verdict, manager), "libvirt": by_libvirt, "host": host}
    return {"schema": SCHEMA, **judged, "hazards": [hazard.as_dict() for hazard in found]}


def _written(verdict: Verdict, manager: str | None) -> dict[str, object] | None:
    words = None if manager is None else verdict.written(manager)
    return None if words is None else words.as_dict()
