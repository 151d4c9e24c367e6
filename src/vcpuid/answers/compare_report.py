"""What `vcpuid diff` answers, as documents for programs: differences by party, or field by field without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vcpuid.answers.compare import NOT_TOLD, Difference, Sides
from vcpuid.decode import FieldChange
from vcpuid.releases import Release

SCHEMA = "vcpuid/diff/2"
"""The form of both."""


class Counts(NamedTuple):
    """How many things differ, are the same on both sides, and are not told by one of them; `left_out` were not to be told."""

    differ: int
    same: int
    not_told: int
    left_out: int

    @classmethod
    def of(cls, by: str, found: Iterable[Difference], kept: Iterable[Difference], compared: int) -> Counts:
        """Count the differences that were found and those of them that are not ignored, of as many things as were compared.

        `by` is what each is about: a feature or a register counts once by its name, as `survey.number` has it, a flag once in each line of
        /proc/cpuinfo.
        """

        def key(difference: Difference) -> tuple[str, str]:
            return difference.what, difference.place if by == "flag" else ""

        every, open_ = set(map(key, found)), dict[tuple[str, str], bool]()
        for difference in kept:
            open_[key(difference)] = open_.get(key(difference), True) and difference.party == NOT_TOLD
        untold = sum(open_.values())
        return cls(len(open_) - untold, compared - len(every), untold, len(every) - len(open_))

    def as_dict(self) -> dict[str, int]:
        """For JSON, but for `left_out`, which has a key of its own."""
        return {"differ": self.differ, "same": self.same, "not_told": self.not_told}


def report(both: Sides, by: str, found: Sequence[Difference], ignored: Sequence[str], counts: Counts) -> dict[str, object]:
    """Put differences into a document.

    `by` is what each is about: feature, register or flag. `ignored` was not to be told, and `counts` tell how many there are.
    """
    told = {
        "guessed": both.guessed,
        "observed": both.observed,
        "ignored": list(ignored),
        "left_out": counts.left_out,
        "counts": counts.as_dict(),
    }
    rows = [difference.as_dict() for difference in found]
    by_libvirt = None if both.order is None else both.order.as_dict()
    return {"schema": SCHEMA, "by": by, **both.path.as_dict(), **told, "differences": rows, "libvirt": by_libvirt}


def hosts_report(
    by: str, releases: Sequence[Release], why: str, found: Sequence[Difference], ignored: Sequence[str], counts: Counts
) -> dict[str, object]:  # fmt: skip
    """Put the differences of two hosts into a document; `releases` are their kernels, and `why` says that the second is no guest."""
    return {
        "schema": SCHEMA,
        "by": by,
        "compares": "hosts",
        "why_hosts": why,
        "kernels": [release.as_dict() for release in releases],
        "ignored": list(ignored),
        "left_out": counts.left_out,
        "counts": counts.as_dict(),
        "differences": [difference.as_dict() for difference in found],
    }


def fields_report(parts: tuple[str, str], found: Sequence[FieldChange], ignored: Sequence[str], counts: Counts) -> dict[str, object]:
    """Put the fields in which two tables differ into a document; `parts` says which tables of their snapshots host's and guest's are."""
    told = {
        "parts": dict(zip(("host", "guest"), parts, strict=True)),
        "ignored": list(ignored),
        "left_out": counts.left_out,
        "counts": counts.as_dict(),
    }
    return {"schema": SCHEMA, "by": "field", **told, "differences": [change.as_dict() for change in found]}
