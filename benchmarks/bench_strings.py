"""What hiding AVX-512, AVX2 and ERMS costs a program's string functions, measured on this machine's own glibc.

    python benchmarks/bench_strings.py > docs/strings.json

Flags are hidden from glibc with GLIBC_TUNABLES, which the tables of vcpuid.software.glibc check to have the same effect as hiding them in
CPUID. Each setting runs several times, in turns, pinned to one processor; kept are the median of the runs and their range. A C
compiler is needed. tools/plot_strings.py draws the result.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

from vcpuid import sources
from vcpuid.cpuid import CpuidTable
from vcpuid.software import software_cpu
from vcpuid.software.glibc import glibc

RUNS = 15
FUNCTIONS = ("memcpy", "memset", "strlen", "memchr", "memcmp")
AVX512, AVX2, ERMS = "AVX-512", "AVX2", "ERMS"
TUNABLES = {
    AVX512: "-AVX512F,-AVX512VL,-AVX512BW",
    AVX2: "-AVX2,-AVX_Fast_Unaligned_Load",  # glibc sets this preference from AVX2 before it reads tunables
    ERMS: "-ERMS",
}
BITS = {AVX512: 1 << 16 | 1 << 30 | 1 << 31, AVX2: 1 << 5, ERMS: 1 << 9}  # leaf 7 EBX
SETTINGS = ((), (ERMS,), (AVX512,), (AVX512, AVX2), (AVX512, AVX2, ERMS))


def without(table: CpuidTable, hidden: tuple[str, ...]) -> CpuidTable:
    """Clear features in a table."""
    mask = sum(BITS[name] for name in hidden)
    return CpuidTable(entry._replace(ebx=entry.ebx & ~mask) if entry[:2] == (7, 0) else entry for entry in table)


def main() -> None:
    """Measure, and print JSON."""
    release = platform.libc_ver()[1]
    table = sources.read("live").raw
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    times: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    variants = {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "strings"
        source = Path(__file__).with_name("strings.c")
        subprocess.run(["cc", "-O2", "-fno-builtin", "-o", program, source], check=True)
        for _ in range(RUNS):
            for hidden in SETTINGS:
                name, mask = " ".join(hidden), ",".join(TUNABLES[one] for one in hidden)
                told = glibc(software_cpu(table), release, mask)
                same = glibc(software_cpu(without(table, hidden)), release)
                variants[name] = {function: told.variant(function) for function in FUNCTIONS}
                assert variants[name] == {function: same.variant(function) for function in FUNCTIONS}, "the tunables do what CPUID does"
                env = {"GLIBC_TUNABLES": f"glibc.cpu.hwcaps={mask}"} if mask else {}
                for line in subprocess.run([program], env=env, capture_output=True, text=True, check=True).stdout.splitlines():
                    function, size, nanoseconds = line.split()
                    times[name, function, int(size)].append(float(nanoseconds))
    rows = [
        {"hidden": hidden, "function": function, "size": size, "ns": [statistics.median(runs), min(runs), max(runs)]}
        for (hidden, function, size), runs in times.items()
    ]
    head = {"glibc": release, "runs": RUNS, "variants": variants}
    print("{" + json.dumps(head)[1:-1] + ',\n"rows": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}")


if __name__ == "__main__":
    main()
