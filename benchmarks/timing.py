"""Times a job that is run over and over; benchmarks whose jobs take turns have loops of their own."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median(work: Callable[[], object], runs: int) -> float:
    """Return the median time of one run in seconds, after a warm-up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
