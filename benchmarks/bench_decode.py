"""Reading and decoding side by side with the cpuid program: every field of every CPU of a pile of dumps, from files to text.

    python benchmarks/bench_decode.py [DUMP…]

Without DUMPs, the captures of the tests are the pile. Both read the same `cpuid -r` text, ours one file a dump, cpuid all in one file, and
print every field that they know; a dump of which cpuid dies is left out. The runs take turns. `library` is a Python process that is
running already, with nothing remembered of any register; `process` is the command line from its start.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vcpuid import decode, sources
from vcpuid.decode.leaves import _spell, _spell_word, _split
from vcpuid.formats import cpuid_r
from vcpuid.formats.files import SIZE_LIMIT

CAPTURES = Path(__file__).parents[1] / "tests" / "captures" / "kvm"
ROUNDS = 7
PEAK = """
import re, sys
from vcpuid.cli import main
sys.argv[1:] = ["decode", sys.argv[1], "--each", "--full", "--format", "lines"]
try:
    main()
finally:
    sys.stderr.write(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""
"""The command line, which tells the most memory that it had, in KiB: wait() would tell that of the process which it was forked off."""


def texts(name: str) -> tuple[str, str]:
    """Write a dump as `cpuid -r` does: all its CPUs, and the first alone."""
    cpus = sources.read_all(name)
    every, first = ("\n".join(cpuid_r.write(some)) + "\n" for some in (cpus, cpus[:1]))
    return every, first


def taken(dump: str) -> bool:
    """Whether cpuid takes a text, or is not there to say."""
    return shutil.which("cpuid") is None or subprocess.run(["cpuid", "-f", "-"], input=dump.encode(), capture_output=True).returncode == 0


def show(files: list[Path]) -> None:
    """Read each file and print every field of its CPUs to nowhere, one dump at a time in memory."""
    for remembered in (_split, _spell_word, _spell):
        remembered.cache_clear()
    with open(os.devnull, "w") as out:
        for file in files:
            for cpu in sources.read_all(file):
                out.write(decode.spell(cpu.raw))


def quietly(*command: str) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def measure(title: str, dumps: list[str], folder: Path) -> None:
    """Print the median seconds of each way to show some dumps."""
    folder.mkdir()
    files = [folder / f"{number:04}" for number in range(len(dumps))]
    for file, dump in zip(files, dumps, strict=True):
        file.write_text(dump)
    pile = folder.with_suffix(".pile")
    pile.write_text("".join(dumps))
    vcpuid = Path(sys.executable).with_name("vcpuid")
    ways: dict[str, Callable[[], None]] = {
        "cpuid -f": lambda: quietly("cpuid", "-f", str(pile)),
        "library": lambda: show(files),
        "library, one file": lambda: show([pile]),
        "process": lambda: quietly(str(vcpuid), "decode", str(folder), "--each", "--full", "--format", "lines"),
    }
    if shutil.which("cpuid") is None:
        del ways["cpuid -f"]
    if pile.stat().st_size > SIZE_LIMIT:
        del ways["library, one file"]
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    print(f"{title}: {len(dumps)} dumps, {''.join(dumps).count(chr(10)):,} lines")
    for name, took in times.items():
        print(f"  {name:<20}{statistics.median(took) * 1e3:8.1f} ms")
    told = subprocess.run([sys.executable, "-c", PEAK, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    print(f"  peak memory of a process: {int(told.stderr) >> 10} MiB")


def main() -> None:
    names = sys.argv[1:] or sorted(map(str, CAPTURES.glob("*.txt.gz")))
    dumps = [both for name in names if taken((both := texts(name))[0])]
    with tempfile.TemporaryDirectory() as folder:
        measure("all CPUs", [every for every, _ in dumps], Path(folder, "all"))
        measure("one CPU of each", [first for _, first in dumps], Path(folder, "one"))


if __name__ == "__main__":
    main()
