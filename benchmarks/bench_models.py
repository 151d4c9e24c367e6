"""All models of QEMU on one host, one guest's tables and one expansion: ours, and the same questions put to a real QEMU beside it.

    python benchmarks/bench_models.py [COMMAND THAT STARTS A QEMU]

Where there is no QEMU or no usable /dev/kvm, only our own figures are printed, on a captured host. Figures are medians and bests,
taken in turns, so that both sides see the same load; "process" includes starting QEMU, for which a guest's tables have no other way.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import vcpuid
from vcpuid import releases
from vcpuid.cpuid import Snapshot
from vcpuid.errors import VcpuidError
from vcpuid.formats.lines import parse_snapshot
from vcpuid.live.qmp import DEFAULT_PROGRAM, Qmp
from vcpuid.qemu import guest_tables, models
from vcpuid.qemu.expansion import expansion

CAPTURE = Path(__file__).parents[1] / "tests" / "captures" / "kvm" / "kvm-intel.corei7_skylake_x@6.12.txt.gz"
CPU = "Skylake-Server"
ROUNDS = 25
GOAL = {"all models": 50.0, "a guest's tables": 1.0}

Job = tuple[str, str, Callable[[], object]]


def ours(host: Snapshot, release: str) -> list[Job]:
    """Return our side of each question."""
    return [
        ("all models", "vcpuid", lambda: models(host, release)),
        ("an expansion", "vcpuid", lambda: expansion(CPU, host, release)),
        ("a guest's tables", "vcpuid", lambda: guest_tables(CPU, host=host, qemu=release)),
    ]


def theirs(program: list[str], qemu: Qmp) -> list[Job]:
    """Return QEMU's side: asked while it runs, and as a process started for the question."""

    def started(cpu: str | None, *question: str) -> None:
        with Qmp(program, cpu=cpu) as fresh:
            for command in question:
                fresh.ask(command)

    return [
        ("all models", "QEMU, running", lambda: qemu.ask("query-cpu-definitions")),
        ("all models", "QEMU, process", lambda: started(None, "query-cpu-definitions")),
        ("an expansion", "QEMU, running", lambda: qemu.expand(CPU)),
        ("a guest's tables", "QEMU, process", lambda: started(CPU)),
    ]


def measure(jobs: list[Job]) -> None:
    """Run all jobs in turns and print a line each."""
    times: list[list[float]] = [[] for _ in jobs]
    for turn in range(ROUNDS + 1):
        for (_, _, work), taken in zip(jobs, times, strict=True):
            start = time.perf_counter()
            work()
            if turn:  # the first is a warm-up
                taken.append(time.perf_counter() - start)
    for (question, who, _), taken in sorted(zip(jobs, times, strict=True), key=lambda pair: pair[0][0]):
        goal = f"   goal {GOAL[question]:g}" if who == "vcpuid" and question in GOAL else ""
        print(f"  {question:18} {who:14} {statistics.median(taken) * 1e3:9.3f} ms, best {min(taken) * 1e3:9.3f} ms{goal}")


def main() -> None:
    """Compare with the QEMU at hand, else print our figures for every release."""
    program = sys.argv[1:] or list(DEFAULT_PROGRAM)
    try:
        host = vcpuid.read("kvm")
        with Qmp(program) as qemu:
            release = releases.qemu("{major}.{minor}".format(**qemu.version["qemu"])).tables
            print(f"QEMU {release} beside vcpuid, this machine's KVM, {len(models(host, release))} models")
            measure(ours(host, release) + theirs(program, qemu))
    except VcpuidError as lacking:
        print(f"no QEMU to compare with: {lacking}")
    captured = parse_snapshot(gzip.decompress(CAPTURE.read_bytes()).decode().splitlines())
    for name in releases.QEMUS:
        print(f"QEMU {name}, a captured host, {len(models(captured, name))} models")
        measure(ours(captured, name))


if __name__ == "__main__":
    main()
