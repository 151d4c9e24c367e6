"""What was seen of guests' CPUIDs, put together by what is asked, and as a document for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vcpuid.cpuid.words import leaf_keys
from vcpuid.trace.checking import Checked
from vcpuid.trace.exits import Exit, Tally
from vcpuid.trace.guests import Guests
from vcpuid.trace.symbols import Symbols

SCHEMA = "vcpuid/trace/1"
"""The form of `Traced.as_dict`."""
PARTS = ("vm", "vcpu", "leaf", "rip", "stack")
"""By what exits can be told apart."""
USUAL = ("vm", "leaf")
_LOOK_UP = "kvm_cpuid"
"""The function whose tracepoint is traced."""
_KERNEL_HALF, _FIRST_MIB = 1 << 63, 1 << 20


@dataclass(frozen=True)
class Traced:
    """What was counted in `seconds`: `by` names the parts of PARTS by which exits are told apart, all others are put together.

    `host` and `guest` are the kernels' symbols, where they are to be had. `machine` is what it was counted on. `before` is what had been
    counted when the last `interval` of seconds began, for rates of now.
    """

    machine: str
    way: str
    seconds: float
    tally: Tally
    by: tuple[str, ...] = USUAL
    guests: Guests = field(default_factory=Guests)
    host: Symbols | None = None
    guest: Symbols | None = None
    checked: Checked | None = None
    remarks: tuple[str, ...] = ()
    before: Mapping[Exit, int] = field(default_factory=dict)
    interval: float | None = None

    @property
    def seen(self) -> int:
        """All exits that there were, but for those that were lost."""
        return self.tally.counted + self.tally.missed

    def rate(self, count: int) -> float:
        """Exits a second, of so many in all the time."""
        return count / self.seconds if self.seconds else 0.0

    def rows(self) -> list[dict[str, object]]:
        """Give the exits, most of them first, or of an interval those that came most often in it.

        What was not asked for, and what nobody told, is None.
        """
        counts, before = self._put_together(self.tally.exits), self._put_together(self.before)
        ordered = sorted(counts, key=lambda key: (before[key] - counts[key], -counts[key], *(-1 if part is None else part for part in key)))
        seconds = self.seconds if self.interval is None else self.interval
        return [{**self._told(key), **self._figures(counts[key], counts[key] - before[key], seconds)} for key in ordered]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "kind": "guests",
            "machine": self.machine,
            "way": self.way.lower(),
            "seconds": round(self.seconds, 3),
            "exits": self.seen,
            "rate": round(self.rate(self.seen), 1),
            "missed": self.tally.missed,
            "lost": self.tally.lost,
            "by": list(self.by),
            "rows": self.rows(),
            "check": None if self.checked is None else self.checked.as_dict(),
            "remarks": list(self.remarks),
        }

    def summary(self) -> str:
        """Say in one line what was counted, how, and what was not."""
        text = f"{self.seen} CPUIDs in {self.seconds:.1f} s, {self.rate(self.seen):.0f} a second, counted by {self.way}"
        if self.tally.lost:
            text += f", which lost {self.tally.lost} more"
        if self.tally.missed:
            text += f"; {self.tally.missed} of them are in no row: there are too many kinds"
        return text if self.tally.lost or self.tally.missed else f"{text}, none lost"

    def _put_together(self, exits: Mapping[Exit, int]) -> Counter[_RowKind]:
        counts: Counter[_RowKind] = Counter()
        for exit_, count in exits.items():
            counts[self._kind(exit_)] += count
        return counts

    def _kind(self, exit_: Exit) -> _RowKind:
        by = self.by
        return _RowKind(
            exit_.pid if "vm" in by or "vcpu" in by else None,
            exit_.tid if "vcpu" in by else None,
            (exit_.function, exit_.index) if "leaf" in by else None,
            exit_.rip if "rip" in by else None,
            exit_.stack if "stack" in by else None,
        )

    def _told(self, kind: _RowKind) -> dict[str, object]:
        pid, tid, leaf, rip, stack = kind
        return {
            "pid": pid,
            "vm": None if pid is None else self.guests.guest(pid).name or None,
            "vcpu": None if pid is None or tid is None else self.guests.vcpu(pid, tid),
            "thread": tid,
            **({"function": None, "index": None} if leaf is None else leaf_keys(*leaf)),
            "rip": None if rip is None else f"{rip:x}",
            "place": None if rip is None else place(rip),
            "symbol": None if rip is None or self.guest is None else self.guest.name(rip),
            "stack": back_trace(stack, self.host) if stack else None,
        }

    @staticmethod
    def _figures(count: int, now: int, seconds: float) -> dict[str, object]:
        return {"count": count, "rate": round(now / seconds, 1) if seconds else None}


class _RowKind(NamedTuple):
    """What makes a row: None where it was not asked for, or not told."""

    pid: int | None
    tid: int | None
    leaf: tuple[int, int] | None
    rip: int | None
    stack: tuple[int, ...] | None


def back_trace(stack: Sequence[int], symbols: Symbols | None) -> list[str]:
    """Spell a back-trace from KVM's look-up on: what is within that is the tracer's own. Addresses without a symbol stay numbers."""
    names = [(symbols and symbols.name(address)) or f"{address:x}" for address in stack]
    first = next((at for at, name in enumerate(names) if name.partition("+")[0].partition(".")[0] == _LOOK_UP), 0)
    return names[first:]


def place(rip: int) -> str:
    """Say whose half of the guest's address space an address lies in; in the first MiB firmware runs, and the first code of a boot."""
    return "kernel half" if rip >= _KERNEL_HALF else "first MiB" if rip < _FIRST_MIB else "user half"
