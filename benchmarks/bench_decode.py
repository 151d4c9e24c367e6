"""Decoding side by side with the cpuid program: every field of a pile of dumps, spelled out.

    python benchmarks/bench_decode.py [DUMP…]

Without DUMPs, the captures of the tests are the pile. Both read the same `cpuid -r` text and print every field that they know; a dump of
which cpuid dies is left out. `vcpuid`'s part is one Python process that is running already; `cold` has nothing remembered of any register.
"""

from __future__ import annotations

import io
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from vcpuid import decode, sources
from vcpuid.cpuid import Snapshot
from vcpuid.decode.leaves import _spell, _split
from vcpuid.sources.formats import cpuid_r

CAPTURES = Path(__file__).parents[1] / "tests" / "captures" / "kvm"


def pile(names: list[str]) -> list[list[Snapshot]]:
    """Read the dumps, one CPU of each, and leave out those that cpuid cannot take."""
    files = names or sorted(map(str, CAPTURES.glob("*.txt.gz")))
    found = [[Snapshot(raw=sources.read_all(name)[0].raw)] for name in files]
    return [dump for dump in found if told(text(dump)) is not None]


def text(dump: list[Snapshot]) -> str:
    return "\n".join(cpuid_r.write(dump)) + "\n"


def told(dump: str) -> int | None:
    """Return how many lines cpuid prints of a text, None where it dies."""
    if shutil.which("cpuid") is None:
        return 0
    done = subprocess.run(["cpuid", "-f", "-"], input=dump.encode(), capture_output=True)
    return done.stdout.count(b"\n") if done.returncode == 0 else None


def timed(work: Callable[[], object], runs: int = 7) -> float:
    """Return the median time of a run in seconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def forget() -> None:
    """Forget what is remembered of registers; the layouts, which depend on no dump, stay."""
    _split.cache_clear()
    _spell.cache_clear()


def main() -> None:
    dumps = pile(sys.argv[1:])
    texts = [text(dump) for dump in dumps]

    def spell() -> int:
        out = io.StringIO()
        for (dump,) in dumps:
            out.write(decode.spell(dump.raw))
        return out.tell()

    def fields() -> None:
        for (dump,) in dumps:
            for _ in decode.leaves(dump.raw):
                pass

    def read() -> None:
        for one in texts:
            cpuid_r.read(one, "pile")

    def cold(work: Callable[[], object]) -> Callable[[], object]:
        def both() -> None:
            forget()
            work()

        return both

    spell()
    lines = sum(decode.spell(dump.raw).count("\n") for (dump,) in dumps)
    print(f"{len(dumps)} dumps, {sum(len(dump.raw) for (dump,) in dumps)} entries")
    if shutil.which("cpuid"):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("".join(texts))
            file.flush()
            took = timed(lambda: subprocess.run(["cpuid", "-f", file.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        print(f"cpuid -f, one process           {took * 1e3:8.1f} ms  {sum(told(one) or 0 for one in texts)} lines")
    print(f"vcpuid: fields, cold            {timed(cold(fields)) * 1e3:8.1f} ms")
    print(f"vcpuid: every field spelled, cold {timed(cold(spell)) * 1e3:6.1f} ms  {lines} lines")
    print(f"vcpuid: every field spelled, warm {timed(spell) * 1e3:6.1f} ms")
    print(f"vcpuid: reading the dumps       {timed(read) * 1e3:8.1f} ms")
    forget()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    spell()
    fields()
    print(f"vcpuid: memory that stays       {(tracemalloc.get_traced_memory()[0] - before) / (1 << 20):8.1f} MiB")


if __name__ == "__main__":
    main()
