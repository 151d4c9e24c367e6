"""What comes of a migration, for people: in sentences, and one row for all features of one cause."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpuid.libvirt.migration import Migration


def text(found: Migration, rows: Sequence[Mapping[str, str | None]], a: str, b: str) -> list[str]:
    """Tell what comes of it between libvirts of those releases; a refusal is in libvirt's own words."""
    if found.refusal is not None:
        who = {
            "start": f"A's libvirt {a} does not start the guest:",
            "leave": f"A's libvirt {a} does not let the guest go:",
            "arrive": f"B's libvirt {b} does not take the guest:",
        }[found.step or "start"]
        return [who, *(f"error: {line}" if not n else line for n, line in enumerate(found.refusal.message.splitlines()))]
    if found.checked:
        return [f"B's libvirt {b} takes the guest: its QEMU makes all features that A's libvirt {a} wrote down, and no more."]
    if rows:
        return [f"B's libvirt {b} takes the guest without looking at its features, since its CPU is the host's; it is another one on B."]
    return [f"B's libvirt {b} takes the guest without looking at its features, since its CPU is the host's; B has the same."]


def grouped(rows: Sequence[Mapping[str, str | None]]) -> list[dict[str, object]]:
    """Put the features that have all else in common into one row."""
    found: dict[tuple[str | None, ...], list[str | None]] = {}
    for row in rows:
        found.setdefault((row["change"], row["party"], row["why"], row["remedy"]), []).append(row["feature"])
    return [
        {"change": change, "party": party, "features": names, "why": why, "remedy": remedy}
        for (change, party, why, remedy), names in found.items()
    ]
