"""How long QEMU's part takes by release, CPU and number of vCPUs, warm, and how much of it the decisions are.

python benchmarks/bench_qemu.py
"""

from __future__ import annotations

import gzip
from pathlib import Path

from timing import median

from vcpuid.formats.lines import parse_snapshot
from vcpuid.qemu import guest_tables

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "kvm" / "kvm-intel.sapphire_rapids-xfd@6.12.txt.gz"


def main() -> None:
    """Print one line a case."""
    host = parse_snapshot(gzip.decompress(CAPTURE.read_bytes()).decode().splitlines())
    for release in ("7.2", "10.0", "11.1"):
        for cpu in ("host", "Skylake-Server", "EPYC"):
            for smp in ("1", "2", "64"):
                plain = median(lambda: guest_tables(cpu, host=host, qemu=release, smp=smp), 300) * 1e6  # noqa: B023
                told = median(lambda: guest_tables(cpu, host=host, qemu=release, smp=smp).decisions, 50) * 1e6  # noqa: B023
                print(f"QEMU {release:5} -cpu {cpu:15} -smp {smp:3} {plain:8.0f} us, with decisions {told:8.0f} us")


if __name__ == "__main__":
    main()
