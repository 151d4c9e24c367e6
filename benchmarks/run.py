"""How fast vcpuid is: the path in one process, and the command line as whole processes.

    make bench            or: python benchmarks/run.py [NAME…]

Figures are medians over many runs; the goals stand beside them.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from timing import median

from vcpuid import Snapshot, kvm, linux, qemu
from vcpuid.formats.lines import parse_snapshot
from vcpuid.path.pipeline import resolve
from vcpuid.setup import Stack

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "kvm" / "kvm-intel.corei7_skylake_x@6.12.txt.gz"


def process(*args: str) -> Callable[[], object]:
    """Return a job that runs the command line as a process of its own."""
    program = Path(sys.executable).with_name("vcpuid")
    return lambda: subprocess.run([program, *args], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def completion(line: str) -> Callable[[], object]:
    """Return a job that asks for the completions of a line, as bash does when its user presses the tabulator."""
    program = Path(sys.executable).with_name("vcpuid")
    asked = {"_VCPUID_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": line.split(" ")[-1]}
    return lambda: subprocess.run([program], env={**os.environ, **asked}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Run the benchmarks named on the command line, all without any."""
    lines = gzip.decompress(CAPTURE.read_bytes()).decode().splitlines()
    host = parse_snapshot(lines)
    stack = Stack(kernel="6.12", qemu="11.1")
    table = qemu.guest_tables("Skylake-Server-v4", host=host, qemu="11.1").tables[0]
    file = str(CAPTURE)
    numbers = count()

    def unseen() -> Snapshot:
        """Return the host as another build of its kernel tells of it: nothing that is kept of the first is of use."""
        return replace(host, kernel=f"6.12.{next(numbers)}")

    jobs: dict[str, tuple[Callable[[], object], int, str]] = {
        "path": (lambda: resolve("Skylake-Server-v4", host=host, stack=stack), 200, "1 ms"),
        "path, a host not seen before": (lambda: resolve("Skylake-Server-v4", host=unseen(), stack=stack), 200, "1 ms"),
        "linux.boot_cpu": (lambda: linux.boot_cpu(host, "6.12"), 200, ""),
        "kvm.supported": (lambda: kvm.supported(host, "6.12"), 200, "0.3 ms"),
        "kvm.supported, a host not seen before": (lambda: kvm.supported(unseen(), "6.12"), 200, ""),
        "qemu.guest_tables": (lambda: qemu.guest_tables("Skylake-Server-v4", host=host, qemu="11.1"), 200, "1 ms"),
        "qemu.models": (lambda: qemu.models(host, qemu="11.1"), 10, "50 ms"),
        "kvm.set_cpuid": (lambda: kvm.set_cpuid(table, host=host, kernel="6.12"), 200, ""),
        "kvm.lookup": (lambda: kvm.lookup(table, 7, 0, kernel="6.12"), 1000, ""),
        "read a snapshot": (lambda: parse_snapshot(lines), 100, ""),
        "process: vcpuid --help": (process("--help"), 15, "100 ms"),
        "process: completing a verb": (completion("vcpuid ex"), 15, "150 ms"),
        "process: completing a feature": (completion("vcpuid explain avx"), 15, "150 ms"),
        "process: completing a CPU's property": (completion("vcpuid guest --cpu host,+hv"), 15, "150 ms"),
        "process: vcpuid explain avx2": (process("explain", "avx2"), 15, "250 ms"),
        "process: vcpuid explain avx2 --host FILE": (process("explain", "avx2", "--host", file), 15, ""),
    }
    wanted = sys.argv[1:]
    for name, (work, runs, goal) in jobs.items():
        if not wanted or any(part in name for part in wanted):
            print(f"{name:42} {median(work, runs) * 1e3:9.3f} ms{f'   goal {goal}' if goal else ''}")


if __name__ == "__main__":
    main()
