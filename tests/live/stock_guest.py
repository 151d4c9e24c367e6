"""The first process of the machine that test_stock_guest.py boots: watches a stock guest on a stock KVM by the verbs that users have.

The guest is QEMU's, which `vcpuid record` starts, while `vcpuid record --host` and `vcpuid trace --check` run beside it. Of what they say
nothing is believed here: tracefs counts the same look-ups by itself. All of it goes to the console, a file a line, for the test.
"""

from __future__ import annotations

import base64
import codecs
import ctypes
import gzip
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import emulator_guest

from vcpuid.live.kvm_device import Kvm
from vcpuid.live.tiny_guest import read_cpuid
from vcpuid.trace.first_entry import FirstEntries

codecs.lookup("ascii")  # only what is imported here is in the guest
WORDS = Path("/words.json")
"""What starts vcpuid there, and what starts the guest."""
WORK = Path("/watched")
CONSOLE, MONITOR, SYMBOLS = WORK / "console", WORK / "monitor", WORK / "System.map"
NAME = "web1"
_INSTANCE = Path("/sys/kernel/tracing/instances/by-itself")
_LOOKUPS = _INSTANCE / "events/kvm/kvm_cpuid"
_POWER_OFF = 0x4321FEDC
_PATIENCE = 600.0


def main() -> None:
    """Do it all, and switch the machine off."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        prepare(libc)
        watched()
    except BaseException:
        traceback.print_exc()
    finally:
        for file in sorted(WORK.iterdir()):
            if file.is_file() and file != SYMBOLS:
                print("FILE", file.name, base64.b64encode(gzip.compress(file.read_bytes())).decode())
        sys.stdout.flush()
        libc.reboot(_POWER_OFF)


def prepare(libc: ctypes.CDLL) -> None:
    """Mount and load, write this kernel's symbols down as its System.map has them, and let tracefs count look-ups by leaf."""
    WORK.mkdir()
    emulator_guest.prepare(libc)
    (emulator_guest._LOOKUPS / "enable").write_text("0", encoding="ascii")
    own = [line for line in Path("/proc/kallsyms").read_text(encoding="ascii").splitlines() if not line.endswith("]")]
    SYMBOLS.write_text("\n".join(own) + "\n", encoding="ascii")
    note("machine", {"kernel": platform.release(), "btf": os.listdir("/sys/kernel/btf"), "symbols": len(own)})
    note("first", first_entry())
    _INSTANCE.mkdir()
    (_LOOKUPS / "trigger").write_text("hist:keys=function.hex,index.hex:size=4096", encoding="ascii")


def first_entry() -> dict[str, object]:
    """Run a guest of moments, and compare what its vCPU kept then with what was seen of it when it was entered."""
    with Kvm() as kvm:
        supported = kvm.supported_cpuid()
    with FirstEntries(os.getpid()) as watching:
        kept = read_cpuid(supported, [(0, 0), (1, 0)], seconds=60).kept
        seen = watching.take()
    return {"kept": [list(entry) for entry in kept], "seen": [[list(entry) for entry in found.table] for found in seen]}


def watched() -> None:
    """Run the guest from its first instruction to its last, with all verbs around it."""
    host = started("host.jsonl", "record", "--host", "--no-snapshot")
    wait("what records the host", lambda: (WORK / "host.jsonl").stat().st_size, host)
    vmm = started("vmm.out", "record", "-o", str(WORK / "vmm.jsonl"), "--", *words()["guest"])
    wait("QEMU's monitor", MONITOR.exists, vmm)
    trace = started(
        "trace.json", "trace", "--vm", NAME, "--by", "vm,vcpu,leaf,rip", "--check", "--symbols", str(SYMBOLS), "--format", "json"
    )
    wait("what counts", lambda: any("bpf_link" in name for name in open_files(trace.pid)), trace)
    begun = time.monotonic()
    cont()
    wait("the guest's end", lambda: "Power down" in CONSOLE.read_text(encoding="utf-8", errors="replace"), vmm)
    trace.send_signal(signal.SIGINT)
    statuses = {"trace": trace.wait(), "kept": started("kept.jsonl", "record", "--vm", NAME, "--no-snapshot").wait()}
    (WORK / "hist").write_text((_LOOKUPS / "hist").read_text(encoding="ascii"), encoding="ascii")
    vmm.send_signal(signal.SIGTERM)
    statuses["vmm"] = vmm.wait()
    host.send_signal(signal.SIGINT)
    statuses["host"] = host.wait()
    note("statuses", statuses | {"seconds": round(time.monotonic() - begun, 1)})


def words() -> dict[str, list[str]]:
    """Read what was put beside this."""
    found: dict[str, list[str]] = json.loads(WORDS.read_text(encoding="utf-8"))
    return found


def note(name: str, what: object) -> None:
    """Keep something for the test."""
    (WORK / name).write_text(json.dumps(what), encoding="utf-8")


def started(output: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a verb, with its output and its errors into files."""
    with (WORK / output).open("wb") as out, (WORK / f"{output}.errors").open("wb") as errors:
        return subprocess.Popen([*words()["vcpuid"], *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=errors)


def wait(what: str, there: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    """Wait until something is there, while a process lives."""
    end = time.monotonic() + _PATIENCE
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            raise TimeoutError(f"{what} never came: {process.args}: {process.returncode}")
        time.sleep(0.2)
    print("THERE", what, f"{time.monotonic():.0f}", flush=True)


def open_files(pid: int) -> list[str]:
    """Name what a process has open, but for what it closes just then."""
    found = []
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(file))
    return found


def cont() -> None:
    """Let the guest run, which waits at its first instruction."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(MONITOR))
        monitor.sendall(b"cont\n")
        time.sleep(1)
