"""What tracing costs a guest: the CPU time of a vCPU's thread for each CPUID, untraced and under each way of counting.

    python benchmarks/bench_trace.py [--json]

A tiny guest executes XOR EAX,EAX and CPUID in turns, thousands of times a batch. A batch's figure is the thread's CPU time for each such
pair. The settings take turns, so that other work on the machine falls on all of them alike; printed are the medians, and the median of
what each is above the untraced batch of its round, also as a share of what a CPUID itself costs: the untraced pair less the same loop
with XOR alone. The goal is that BPF adds less than 15 % of that.

Where KVM has no hardware to run guests on, it interprets the loop, and a CPUID is one instruction among others. Needs root.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from statistics import median

from vcpuid.cpuid import CpuidTable
from vcpuid.live import tiny_guest
from vcpuid.live.kvm_device import Kvm
from vcpuid.live.kvm_structs import EXIT_IO, Regs
from vcpuid.trace.exits import WantedExits
from vcpuid.trace.first_entry import FirstEntries
from vcpuid.trace.ways import watch

ROUNDS, TURNS, IN_A_ROW = 60, 250, 32
XOR, CPUID = "31c0", "0fa2"
PLAIN, NONE, CHECKED = "none", "none, without CPUIDs", "bpf, answers, tables"
SETTINGS: dict[str, tuple[str, WantedExits] | None] = {
    PLAIN: None,
    NONE: None,
    "bpf": ("bpf", WantedExits()),
    "bpf, answers": ("bpf", WantedExits(answers=True)),
    CHECKED: ("bpf", WantedExits(answers=True)),
    "bpf, addresses": ("bpf", WantedExits(rip=True)),
    "bpf, addresses and back-traces": ("bpf", WantedExits(rip=True, stack=True)),
    "perf": ("perf", WantedExits()),
    "tracefs": ("tracefs", WantedExits()),
}


@contextmanager
def traced(setting: tuple[str, WantedExits] | None) -> Iterator[None]:
    """Trace as a setting says, what is counted thrown away."""
    if setting is None:
        yield
        return
    with watch(setting[1], (setting[0],)) as watching:
        yield
        watching.way.read()


def loop(body: str) -> bytes:
    """Assemble a loop that is left through a port after so many turns as EBP tells: DEC EBP, JNZ, OUT."""
    code = bytes.fromhex(body) * IN_A_ROW + bytes.fromhex("ffcd 0f85")
    return code + struct.pack("<i", -(len(code) + 4)) + bytes.fromhex("e610")


def batch(table: CpuidTable, body: str) -> float:
    """Return the CPU time of this thread for one pass through the body, in microseconds."""
    with tiny_guest.machine(table, 64, code=loop(body)) as (vcpu, _):
        vcpu.set_regs(Regs(rip=tiny_guest.CODE, rbp=2))  # once, so that memory and caches are warm
        vcpu.run(60)
        vcpu.set_regs(Regs(rip=tiny_guest.CODE, rbp=TURNS))
        start = time.thread_time_ns()
        reason = vcpu.run(60)
        spent = time.thread_time_ns() - start
    assert reason == EXIT_IO, f"the guest left with exit {reason}"
    return spent / 1e3 / (TURNS * IN_A_ROW)


def main() -> None:
    """Measure, and print microseconds a CPUID."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with Kvm() as kvm:
        table = kvm.supported_cpuid()
    found: dict[str, list[float]] = {name: [] for name in SETTINGS}
    for _ in range(ROUNDS):
        for name, setting in SETTINGS.items():
            with traced(setting), FirstEntries() if name == CHECKED else nullcontext():
                found[name].append(batch(table, XOR if name == NONE else XOR + CPUID))
    if options.json:
        print(json.dumps(found))
        return
    above = {name: median(map(float.__sub__, values, found[PLAIN])) for name, values in found.items()}
    for name, values in found.items():
        spread = f"{median(values):6.3f} µs ({min(values):.3f} to {max(values):.3f})"
        print(f"{name:32} {spread}, {above[name]:+6.3f} µs, {above[name] / -above[NONE]:+5.0%} of a CPUID")


if __name__ == "__main__":
    main()
