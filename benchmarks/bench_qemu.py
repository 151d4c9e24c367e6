"""How long QEMU's part takes by release, CPU and number of vCPUs, warm, and how much of it the decisions are.

python benchmarks/bench_qemu.py
"""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from vcpuid.qemu import guest_tables
from vcpuid.sources.snapshot import parse_snapshot

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "kvm" / "kvm-intel.sapphire_rapids-xfd@6.12.txt.gz"


def median(work: Callable[[], object], runs: int = 300) -> float:
    """Return the median time of one run in microseconds, after a warm-up."""
    work()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def main() -> None:
    """Print one line a case."""
    host = parse_snapshot(gzip.decompress(CAPTURE.read_bytes()).decode().splitlines())
    for release in ("7.2", "10.0", "11.1"):
        for cpu in ("host", "Skylake-Server", "EPYC"):
            for smp in ("1", "2", "64"):
                plain = median(lambda: guest_tables(cpu, host=host, qemu=release, smp=smp))  # noqa: B023
                told = median(lambda: guest_tables(cpu, host=host, qemu=release, smp=smp).decisions, 50)  # noqa: B023
                print(f"QEMU {release:5} -cpu {cpu:15} -smp {smp:3} {plain:8.0f} us, with decisions {told:8.0f} us")


if __name__ == "__main__":
    main()
