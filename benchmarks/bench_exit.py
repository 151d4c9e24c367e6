"""What one CPUID costs: in a guest, where it exits to KVM, and on the machine itself.

    python benchmarks/bench_exit.py [--json]

Guest and machine run the same loop, eight CPUIDs of leaf 0 between two RDTSCs, and the same with NOPs in their place, pinned to one
processor. A repetition is the median of its rounds; printed are the median of the repetitions, the lowest and the highest.

Where this machine is a guest itself, its own CPUID exits too, to the hypervisor below. Where KVM has no hardware to run guests on, it
interprets their instructions, and the NOPs show what that costs: a CPUID is then one instruction among many.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import mmap
import struct
import time
from statistics import median

from vcpuid import sources
from vcpuid.cpuid import CpuidTable
from vcpuid.live.instruction import pinned
from vcpuid.live.kvm_structs import EXIT_IO, Regs
from vcpuid.live.tiny_guest import CODE, machine

REPETITIONS, ROUNDS, TIMED = 15, 500, 8
STAMPS = 0x8000  # where the guest writes them

# void loop(uint32_t stamps[][2] /* rdi */, uint64_t rounds /* rsi */); the loop itself wants them in r8 and r9
ENTER, LEAVE = bytes.fromhex("534989f84989f1"), bytes.fromhex("5bc3")  # push rbx; mov r8, rdi; mov r9, rsi ... pop rbx; ret
START, STOP = bytes.fromhex("0f31418900"), bytes.fromhex("0f31418940044983c00849ffc9")  # rdtsc, stored; next, one round less
CPUID, NOP = bytes.fromhex("31c031c90fa2"), bytes.fromhex("31c031c96690")
OUT = bytes.fromhex("e601")


def loop(instruction: bytes) -> bytes:
    """Assemble the loop, which ends with JNZ."""
    body = START + instruction * TIMED + STOP
    return body + bytes((0x75, -(len(body) + 2) & 0xFF))


def of_a_round(stamps: bytes) -> float:
    """Return the median of the rounds, in cycles for each instruction timed."""
    rounds: list[int] = [(after - before) & 0xFFFFFFFF for before, after in struct.iter_unpack("<II", stamps)]
    return median(rounds) / TIMED


def here(instruction: bytes) -> float:
    """Run the loop on this processor."""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(ENTER + loop(instruction) + LEAVE)
        code = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
        stamps = ctypes.create_string_buffer(8 * ROUNDS)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64)(ctypes.addressof(code))(ctypes.addressof(stamps), ROUNDS)
        del code
    return of_a_round(bytes(stamps.raw))


def in_a_guest(instruction: bytes, table: CpuidTable) -> float:
    """Run the loop in a guest of KVM."""
    with machine(table, 64, code=loop(instruction) + OUT) as (vcpu, memory):
        vcpu.set_regs(Regs(rip=CODE, r8=STAMPS, r9=ROUNDS))
        reason = vcpu.run(10.0)
        assert reason == EXIT_IO, f"the guest left with exit {reason}"
        return of_a_round(memory[STAMPS : STAMPS + 8 * ROUNDS])


def cycles_a_nanosecond() -> float:
    """Measure the TSC against the system's clock, over a tenth of a second."""
    code = bytes.fromhex("0f3148c1e2204809d0c3")  # rdtsc; shl rdx, 32; or rax, rdx; ret
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
        page.write(code)
        place = (ctypes.c_char * mmap.PAGESIZE).from_buffer(page)
        rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(ctypes.addressof(place))
        start, ticks = time.perf_counter_ns(), rdtsc()
        time.sleep(0.1)
        rate = (rdtsc() - ticks) / (time.perf_counter_ns() - start)
        del rdtsc, place
    return float(rate)


def main() -> None:
    """Measure, and print cycles and nanoseconds of one CPUID."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with pinned():
        table = sources.read("kvm").supported
        assert table is not None
        rate = cycles_a_nanosecond()
        cost = {
            "CPUID in a guest": [in_a_guest(CPUID, table) for _ in range(REPETITIONS)],
            "NOP in a guest": [in_a_guest(NOP, table) for _ in range(REPETITIONS)],
            "CPUID here": [here(CPUID) for _ in range(REPETITIONS)],
            "NOP here": [here(NOP) for _ in range(REPETITIONS)],
        }
    if options.json:
        print(json.dumps({what: {"cycles": [median(all_of), min(all_of), max(all_of)], "rate": rate} for what, all_of in cost.items()}))
        return
    for what, all_of in cost.items():
        cycles = median(all_of)
        print(f"{what:17} {cycles:7.0f} cycles ({min(all_of):.0f} to {max(all_of):.0f}), {cycles / rate:.0f} ns")


if __name__ == "__main__":
    main()
