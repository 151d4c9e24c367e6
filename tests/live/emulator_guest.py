"""The first process of the guest that test_emulator.py boots: reads CPUID inside guests of its own, by both ways to KVM.

Loads KVM with force_emulation_prefix and prints a line of JSON for each reading, with the functions that the table was looked up by.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import sys
from pathlib import Path

from vcpuid.errors import VcpuidError
from vcpuid.live import tiny_guest as guest
from vcpuid.live.kvm_device import Kvm

MODULES = {"irqbypass": "", "kvm": "force_emulation_prefix=1", "kvm-amd": ""}
MISSING = [(7, 9), (0xB, 7), (0x1234, 0), (0x80005678, 0), (0xFFFFFFFF, 0xFFFFFFFF)]
MODES: tuple[guest.Mode, ...] = (16, 32, 64)

_TRACING = Path("/sys/kernel/tracing")
_LOOKUPS = _TRACING / "events/kvm/kvm_cpuid"
_INIT_MODULE, _POWER_OFF = 175, 0x4321FEDC


def prepare(libc: ctypes.CDLL) -> None:
    """Mount what Linux shows as files, load KVM, and let look-ups be traced with their callers."""
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tracefs", str(_TRACING))):
        os.makedirs(place, exist_ok=True)
        if libc.mount(b"none", place.encode(), kind.encode(), 0, None):
            print(f"no {kind}: {os.strerror(ctypes.get_errno())}")
    for name, parameters in MODULES.items():
        image = Path(f"/modules/{name}.ko").read_bytes()
        if libc.syscall(_INIT_MODULE, image, ctypes.c_ulong(len(image)), parameters.encode()):
            print(f"no module {name}: {os.strerror(ctypes.get_errno())}")
    (_TRACING / "options/stacktrace").write_text("1", encoding="utf-8")
    (_LOOKUPS / "enable").write_text("1", encoding="utf-8")


def read(mode: guest.Mode, emulate: bool) -> dict[str, object]:
    """Read all that KVM supports, and leaves that are missing, in one mode and one way."""
    with Kvm() as kvm:
        table = kvm.supported_cpuid()
    (_TRACING / "trace").write_text("", encoding="utf-8")
    leaves = [*((entry.function, entry.index) for entry in table), *MISSING]
    reading = guest.read_cpuid(table, leaves, mode, emulate=emulate, seconds=60)
    seen = [[*leaf, *registers] for leaf, registers in reading.seen.items()]
    return {"mode": mode, "emulate": emulate, "kept": [list(entry) for entry in reading.kept], "seen": seen, "callers": callers()}


def callers() -> list[list[str]]:
    """Tell the different back-traces of look-ups, the innermost function first."""
    traces = (_TRACING / "trace").read_text(encoding="utf-8").split("<stack trace>")[1:]
    found = {tuple(re.findall(r"^ *=> (\w+)", trace, re.MULTILINE)) for trace in traces}
    return [list(functions) for functions in found]


def main() -> None:
    """Do it all, and switch the machine off."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        prepare(libc)
        print(f"KERNEL {platform.release()}")
        for mode in MODES:
            for emulate in (False, True):
                print("READING", json.dumps(read(mode, emulate)))
    except (VcpuidError, OSError) as error:
        print(f"STOPPED {error}")
    finally:
        sys.stdout.flush()
        libc.reboot(_POWER_OFF)
