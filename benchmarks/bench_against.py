"""The path of this checkout beside that of another commit, taking turns in one run, so that a busy machine slows both.

    python benchmarks/bench_against.py COMMIT [TURNS]

COMMIT is checked out into a temporary folder. Each turn starts both as processes of their own and lets them work the path of one host that
they have seen before, and of hosts that they have not. Figures are medians over all turns of the best time in each, in ms: other work on
the machine makes a turn's times longer, never shorter.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CAPTURES = ("kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3")

WORK = """
import gzip, json, sys, time
from dataclasses import replace
from pathlib import Path
for module in ("vcpuid.formats.lines", "vcpuid.sources.snapshot"):
    try:
        parse = __import__(module, fromlist=["parse_snapshot"]).parse_snapshot
        break
    except ImportError:
        continue
from vcpuid import Stack, kvm, qemu, resolve

def best(work, runs=60):
    work()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken) * 1e3

found = {}
for name in sys.argv[2:]:
    host = parse(gzip.decompress((Path(sys.argv[1]) / f"{name}.txt.gz").read_bytes()).decode().splitlines())
    cpu = "EPYC-Milan" if "amd" in name else "Skylake-Server-v4"
    kernel = name.partition("@")[2]
    stack = Stack(kernel=kernel, qemu="11.1")
    edited = iter([replace(host, kernel=f"{kernel}.{number}") for number in range(200)])
    found[f"resolve, {name}"] = best(lambda: resolve(cpu, host=host, stack=stack), 120)
    found[f"resolve, {name}, a host not seen before"] = best(lambda: resolve(cpu, host=next(edited), stack=stack))
    found[f"qemu.guest_tables, {name}"] = best(lambda: qemu.guest_tables(cpu, host=host, qemu="11.1", kernel=kernel))
    found[f"qemu.models, {name}"] = best(lambda: qemu.models(host, qemu="11.1", kernel=kernel), 5)
print(json.dumps(found))
"""


def run(source: Path) -> dict[str, float]:
    """Let one checkout work, in a process of its own."""
    command = [sys.executable, "-c", WORK, str(ROOT / "tests" / "captures" / "kvm"), *CAPTURES]
    done = subprocess.run(command, env={"PYTHONPATH": str(source / "src")}, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print each figure of both, and how the new one compares."""
    commit, turns = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "other"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(other), commit], check=True)
        try:
            pairs = [(run(other), run(ROOT)) for _ in range(turns)]
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(other)], check=True)
    for name in pairs[0][0]:
        before, after = (statistics.median(pair[side][name] for pair in pairs) for side in (0, 1))
        print(f"{name:75} {before:8.3f} {after:8.3f} ms   {after / before:5.2f}")


if __name__ == "__main__":
    main()
