"""A VMM of a test's own: runs as many CPUIDs in a guest as it is told, as a process with a name of its own.

    python tiny_vmm.py COUNT [NAME]

It waits for a line on standard input before it begins, prints one when it is done, and keeps the guest until standard input ends.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vcpuid.live import tiny_guest
from vcpuid.live.kvm_device import Kvm

AT_ONCE = 1000


class TinyVmm:
    """The process, under way: `pid`; `run` makes it execute its CPUIDs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process, self.pid = process, process.pid

    def run(self, wait: bool = True) -> None:
        """Let it begin, and wait until it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        if wait:
            self.done()

    def done(self) -> None:
        """Wait until it is done."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "done\n"


@contextmanager
def tiny_vmm(count: int, name: str = "") -> Iterator[TinyVmm]:
    """Start one, and end it."""
    command = [sys.executable, __file__, str(count), name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield TinyVmm(process)
        assert process.stdin is not None
        process.stdin.close()


def main(count: int, name: str) -> None:
    """Be the VMM: all leaves that KVM supports, and some that it has not, over and over."""
    if name:
        Path("/proc/self/comm").write_bytes(name.encode())
    with Kvm() as kvm:
        table = kvm.supported_cpuid()
    leaves = [*((entry.function, entry.index) for entry in table), (0x1234, 0), (0x40000010, 0)]
    code = tiny_guest._assemble(tiny_guest._read_loop(tiny_guest._CPUID), 64)
    with tiny_guest.machine(table, 64, code=code) as (vcpu, memory):
        print("ready", flush=True)
        sys.stdin.readline()
        while count:
            asked = (leaves * (AT_ONCE // len(leaves) + 1))[: min(count, AT_ONCE)]
            packed = b"".join(struct.pack("<II", *leaf) for leaf in asked)
            memory[tiny_guest._QUESTIONS : tiny_guest._QUESTIONS + len(packed)] = packed
            tiny_guest._run(vcpu, "guest", len(asked), time.monotonic() + 60)
            count -= len(asked)
        print("done", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
