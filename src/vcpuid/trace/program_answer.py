"""What a program's CPUIDs were, put together by what is asked, and as a document for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.cpuid.words import INDEXED_FUNCTIONS, leaf_keys
from vcpuid.software.start import ExitCost
from vcpuid.trace.answer import SCHEMA
from vcpuid.trace.program import ProgramCpuid, ProgramTrace

PARTS = ("program", "object", "offset", "leaf")
"""By what a program's CPUIDs can be told apart."""
USUAL = ("object", "leaf")


class _ProgramRowKind(NamedTuple):
    """What makes a row: None where it was not asked for; a sub-leaf is None where the leaf has none, and ECX means nothing."""

    program: str | None
    object: str | None
    offset: int | None
    function: int | None
    index: int | None  # type: ignore[assignment]  # the field's own name; hides tuple.index, which nobody asks of a row


@dataclass(frozen=True)
class ProgramAnswer:
    """A trace of a command on a machine, told apart `by` some of PARTS; `cost` is what each CPUID costs in a guest."""

    machine: str
    trace: ProgramTrace
    cost: ExitCost
    by: tuple[str, ...] = USUAL

    @property
    def microseconds(self) -> float:
        """What all of its CPUIDs cost in a guest."""
        return self.trace.total * self.cost.ns / 1000

    def rows(self) -> list[dict[str, object]]:
        """Give the CPUIDs, most of them first; a key that nobody asked for is None."""
        counts: Counter[_ProgramRowKind] = Counter()
        for found, count in self.trace.counts.items():
            counts[self._kind(found)] += count
        ordered = sorted(counts, key=lambda kind: (-counts[kind], *("" if part is None else f"{part:>20}" for part in kind)))
        return [{**self._told(kind), "count": counts[kind]} for kind in ordered]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        trace = self.trace
        return {
            "schema": SCHEMA,
            "kind": "program",
            "machine": self.machine,
            "way": trace.way,
            "command": list(trace.command),
            "status": trace.status,
            "seconds": round(trace.seconds, 3),
            "programs": trace.execs,
            "threads": trace.threads,
            "left": trace.left,
            "steps": trace.steps,
            "cpuids": trace.total,
            "cost": {
                "ns": round(self.cost.ns, 1),
                "how": self.cost.how,
                "where": self.cost.where,
                "microseconds": round(self.microseconds, 1),
            },
            "by": list(self.by),
            "rows": self.rows(),
        }

    def summary(self) -> list[str]:
        """Say in two lines what was counted, how, and what it costs; in between, what was left to itself."""
        trace = self.trace
        how = "by faulting" if trace.steps is None else f"among {trace.steps} instructions"
        started = f"{trace.execs} program{'' if trace.execs == 1 else 's'}, {trace.threads} thread{'' if trace.threads == 1 else 's'}"
        cost = self.cost
        processes = f"{trace.left} process{'' if trace.left == 1 else 'es'}"
        return [
            f"{trace.total} CPUIDs of {started}, found {how}; ended with status {trace.status}",
            *([f"It left {processes} running, of which nothing is counted from then on"] if trace.left else []),
            f"In a guest each is an exit: {_spoken(self.microseconds)} at {cost.ns:.0f} ns ({cost.how}: {cost.where})",
        ]

    def _kind(self, found: ProgramCpuid) -> _ProgramRowKind:
        by, leaf = self.by, "leaf" in self.by
        return _ProgramRowKind(
            found.program if "program" in by else None,
            found.place.object if "object" in by or "offset" in by else None,
            found.place.offset if "offset" in by else None,
            found.function if leaf else None,
            found.index if leaf and found.function in INDEXED_FUNCTIONS else None,
        )

    @staticmethod
    def _told(kind: _ProgramRowKind) -> dict[str, object]:
        leaf = {} if kind.function is None else leaf_keys(kind.function, kind.index or 0)
        return {
            "program": kind.program,
            "object": kind.object,
            "offset": None if kind.offset is None else f"{kind.offset:x}",
            "function": leaf.get("function"),
            "index": None if kind.index is None else leaf.get("index"),
        }


def _spoken(microseconds: float) -> str:
    """Spell a time in the unit that shows it."""
    return f"{microseconds:.0f} µs" if microseconds < 1000 else f"{microseconds / 1000:.1f} ms"
