"""What recording costs a VMM's start: QEMU started and ended over QMP, by itself and under the recorder's tracer, in turns.

    python benchmarks/bench_record.py [ROUNDS]

Printed are the medians in seconds, and how many calls were recorded. Needs QEMU and a usable /dev/kvm.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

from vcpuid.formats.recording_rows import RecordingWriter
from vcpuid.live.recorder import Recorder

QEMU = (
    "qemu-system-x86_64", "-accel", "kvm", "-M", "q35", "-m", "64", "-smp", "2", "-cpu", "qemu64", "-nodefaults", "-display", "none", "-S",
    "-qmp", "stdio",
)  # fmt: skip
ORDERS = b'{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n'


def alone() -> float:
    """Start QEMU and let it end; return the seconds."""
    begun = time.perf_counter()
    subprocess.run(QEMU, input=ORDERS, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def recorded() -> tuple[float, int]:
    """Do the same under the recorder; return the seconds and the count of calls."""
    writer = RecordingWriter(io.StringIO(), "ptrace")
    with tempfile.TemporaryFile() as orders:
        orders.write(ORDERS)
        orders.seek(0)
        os.dup2(orders.fileno(), 0)
        begun = time.perf_counter()
        Recorder(writer).run(QEMU)
        return time.perf_counter() - begun, writer.calls


def main() -> None:
    """Run the rounds and print what came of them."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # QEMU's answers
    pairs = [(alone(), *recorded()) for _ in range(rounds)]
    os.dup2(kept, 1)
    by_itself, under, calls = zip(*pairs, strict=True)
    print(f"QEMU's start and end: {median(by_itself):.3f} s by itself, {median(under):.3f} s recorded, {calls[0]} calls")


if __name__ == "__main__":
    main()
