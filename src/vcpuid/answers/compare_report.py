"""What `vcpuid diff` answers, as documents for programs: differences by party, or field by field without one."""

from __future__ import annotations

from collections.abc import Sequence

from vcpuid.answers.compare import Difference, Sides
from vcpuid.decode import FieldChange

SCHEMA = "vcpuid/diff/2"
"""The form of both."""


def report(both: Sides, by: str, found: Sequence[Difference], ignored: Sequence[str], left_out: int) -> dict[str, object]:
    """Put differences into a document.

    `by` is what each is about: feature, register or flag. `ignored` was not to be told, and `left_out` counts what was not for that.
    """
    told = {"guessed": both.guessed, "observed": both.observed, "ignored": list(ignored), "left_out": left_out}
    rows = [difference.as_dict() for difference in found]
    return {"schema": SCHEMA, "by": by, **both.path.as_dict(), **told, "differences": rows}


def fields_report(parts: tuple[str, str], found: Sequence[FieldChange], ignored: Sequence[str], left_out: int) -> dict[str, object]:
    """Put the fields in which two tables differ into a document; `parts` says which tables of their snapshots host's and guest's are."""
    told = {"parts": dict(zip(("host", "guest"), parts, strict=True)), "ignored": list(ignored), "left_out": left_out}
    return {"schema": SCHEMA, "by": "field", **told, "differences": [change.as_dict() for change in found]}
