"""Guests' CPUIDs from the first to the last: counted, looked up while the guests are there, and put into an answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

from vcpuid.probe.report import machine
from vcpuid.trace.answer import USUAL, Traced
from vcpuid.trace.checking import check
from vcpuid.trace.exits import Exit, Tally, WantedExits
from vcpuid.trace.guests import Guests
from vcpuid.trace.symbols import Symbols, host_symbols
from vcpuid.trace.tables import VcpuTables
from vcpuid.trace.ways import WAYS, Watch, watch

_GLANCE = 0.1
"""Seconds within which an end is noticed."""


@dataclass
class Counting:
    """What is asked: exits of `pid` or of all, told apart `by` some of PARTS, counted by the first of `ways` that may be.

    `symbols` are the guest's; `tables` what answers are held against.
    """

    pid: int | None = None
    by: tuple[str, ...] = USUAL
    ways: Sequence[str] = WAYS
    symbols: Symbols | None = None
    tables: VcpuTables | None = None
    guests: Guests = field(default_factory=Guests)

    def run(
        self, seconds: float | None, *, stopped: Callable[[], bool] = lambda: False,
        shown: Callable[[Traced], None] | None = None, every: float = 1.0,
    ) -> Traced:  # fmt: skip
        """Count for so many seconds, without end where that is None, or until `stopped` says so.

        `shown` gets the answer so far, `every` so many seconds. Raises UnavailableError where this machine or this user cannot count.
        """
        wanted = WantedExits(self.pid, self.tables is not None, "rip" in self.by, "stack" in self.by)
        host = host_symbols() if wanted.stack else None
        with watch(wanted, self.ways) as watching, self.tables or nullcontext():
            way, start = watching.way, time.monotonic()
            before: dict[Exit, int] = {}
            due, since, drawn = start, start, start + every
            while not stopped() and (seconds is None or time.monotonic() < start + seconds):
                now = time.monotonic()
                if now >= due:
                    due = now + way.pause
                    tally = way.read()
                    self._learn(tally)
                    if shown is not None and now >= drawn:
                        shown(self._answer(watching, tally, now - start, host, before=before, interval=now - since))
                        before, since, drawn = dict(tally.exits), now, now + every
                time.sleep(max(min(due, now + _GLANCE, *([] if seconds is None else [start + seconds])) - time.monotonic(), 0.001))
            way.stop()
            elapsed = time.monotonic() - start
            tally = way.read()
            self._learn(tally)
            return self._answer(watching, tally, elapsed, host)

    def _learn(self, tally: Tally) -> None:
        threads = {exit_[:2] for exit_ in tally.exits}
        self.guests.learn(threads, tally.comms)
        if self.tables is not None:
            self.tables.learn({pid for pid, _ in threads})

    def _answer(
        self, watching: Watch, tally: Tally, elapsed: float, host: Symbols | None,
        before: Mapping[Exit, int] | None = None, interval: float | None = None,
    ) -> Traced:  # fmt: skip
        remarks = list(watching.remarks)
        guest = None
        if self.symbols is not None:
            guest = self.symbols.moved(exit_.rip for exit_ in tally.exits if exit_.rip is not None)
            if guest is None:
                remarks.append(
                    "the guest's addresses are told without names: no CPUID that was seen tells where its kernel runs; trace its boot, "
                    "or give its /proc/kallsyms"
                )  # fmt: skip
        checked = None
        if self.tables is not None:
            checked = check(tally.exits, self.tables, self.guests, os.uname().release)
        return Traced(
            machine(), watching.way.name, elapsed, tally, self.by, self.guests, host, guest, checked, tuple(remarks), before or {}, interval
        )  # fmt: skip
