"""The first process of the guest that test_trace_guest.py boots: traces guests of its own on a stock KVM, by every way.

It prints a line of JSON for each: what was executed, counted and lost, the guest's addresses, the back-traces, and what --check says.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import os
import platform
import struct
import sys
import time
import traceback

import emulator_guest

from vcpuid.live import tiny_guest as guest
from vcpuid.live.kvm_device import Kvm
from vcpuid.trace.answer import back_trace
from vcpuid.trace.checking import check
from vcpuid.trace.exits import WantedExits
from vcpuid.trace.guests import Guests
from vcpuid.trace.symbols import host_symbols
from vcpuid.trace.tables import KernelTables
from vcpuid.trace.ways import WAYS, watch

codecs.lookup("ascii")  # only what is imported here is in the guest
ROUNDS = 20
_POWER_OFF = 0x4321FEDC


def traced(way: str, emulate: bool) -> dict[str, object]:
    """Let a guest execute all that KVM supports some times over, and count it by one way."""
    with Kvm() as kvm:
        table = kvm.supported_cpuid()
    leaves = [(entry.function, entry.index) for entry in table]
    tables, names = KernelTables(), Guests()
    code = guest._assemble(guest._read_loop(f"{guest._EMULATE} {guest._CPUID}" if emulate else guest._CPUID), 64)
    with (
        watch(WantedExits(os.getpid(), answers=True, rip=True, stack=way != "tracefs"), (way,)) as watching,
        guest.machine(table, 64, code=code) as (
            vcpu,
            memory,
        ),
    ):
        asked = b"".join(struct.pack("<II", *leaf) for leaf in leaves * ROUNDS)
        memory[guest._QUESTIONS : guest._QUESTIONS + len(asked)] = asked
        guest._run(vcpu, "guest", len(leaves) * ROUNDS, time.monotonic() + 60)
        tables.learn({os.getpid()})
        watching.way.stop()
        tally = watching.way.read()
    symbols = host_symbols()
    stacks = {tuple(name.partition("+")[0] for name in back_trace(exit_.stack, symbols)) for exit_ in tally.exits}
    held = check(tally.exits, tables, names, platform.release())
    return {
        "way": way,
        "emulate": emulate,
        "executed": len(leaves) * ROUNDS,
        "counted": tally.counted,
        "lost": tally.lost,
        "rips": sorted({exit_.rip or 0 for exit_ in tally.exits}),
        "stacks": sorted(map(list, stacks)),
        "held": held.held,
        "agrees": held.agrees,
    }


def main() -> None:
    """Do it all, and switch the machine off."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        emulator_guest.prepare(libc)
        print(f"KERNEL {platform.release()}")
        for way in WAYS:
            for emulate in (False, True):
                print("TRACED", json.dumps(traced(way, emulate)))
    except Exception:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        libc.reboot(_POWER_OFF)
