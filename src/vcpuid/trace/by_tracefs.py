"""CPUID exits read as text from a private instance of tracefs: where the kernel gives neither BPF nor perf. It says what it lost.

The text has no back-trace here, and tells the guest's address only where hardware made the exit.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress

from vcpuid.cpuid import Registers
from vcpuid.live.processes import process_of
from vcpuid.numbers import U64, decimal, hexadecimal
from vcpuid.trace.exits import Exit, Tally, WantedExits
from vcpuid.trace.guests import numbers_are_ours
from vcpuid.trace.instance import Instance
from vcpuid.trace.online import online_cpus
from vcpuid.trace.tracepoints import CPUID_EXITS, Events

_BUFFER = "4096"
"""KiB a CPU."""
_HEX = "([0-9a-f]{1,16})"
_EVENT = re.compile(r".*-([0-9]{1,10}) +\[[0-9]+\] [^:]*: (kvm_cpuid|kvm_exit): (.*)")
"""A line after the thread's name, which may hold anything: the last number that can be the thread's is."""
_CPUID = re.compile(rf"func {_HEX} (?:idx {_HEX} )?rax {_HEX} rbx {_HEX} rcx {_HEX} rdx {_HEX}\b")
_RIP = re.compile(rf"\brip 0x{_HEX}\b")
_OVERRUN = re.compile(r"^(?:overrun|dropped events): ([0-9]{1,19})$", re.MULTILINE)


class ByTracefs:
    """Counts exits until it is closed. Raises UnavailableError where tracefs refuses."""

    name = "tracefs"
    pause = 0.05

    def __init__(self, tracefs: str, events: Events, wanted: WantedExits) -> None:
        self._wanted = wanted
        self._counts: Counter[Exit] = Counter()
        self._rips: dict[int, int] = {}
        self._processes: dict[int, int] = {}
        self._rest = b""
        self._pipe = -1
        self._instance = Instance(tracefs)
        try:
            self._instance.write("buffer_size_kb", _BUFFER)
            self._pipe = os.open(f"{self._instance.path}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if wanted.rip:
                self._instance.write("events/kvm/kvm_exit/filter", CPUID_EXITS)
                self._instance.write("events/kvm/kvm_exit/enable", "1")
            self._instance.write("events/kvm/kvm_cpuid/enable", "1")
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Let no more events into the buffer."""
        self._instance.write("tracing_on", "0")

    def close(self) -> None:
        """Remove the instance."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
        self._instance.close()

    def read(self) -> Tally:
        """Tell what was counted so far; the buffer has room for a moment only."""
        with suppress(BlockingIOError):
            while part := os.read(self._pipe, 1 << 16):
                *lines, self._rest = (self._rest + part).split(b"\n")
                for line in lines:
                    self._line(line.decode("utf-8", "surrogateescape"))
        lost = 0
        for cpu in online_cpus():
            lost += sum(decimal(count, U64) or 0 for count in _OVERRUN.findall(self._instance.read(f"per_cpu/cpu{cpu}/stats")))
        return Tally(self._counts, lost=lost)

    def _line(self, line: str) -> None:
        if (event := _EVENT.fullmatch(line)) is None:
            return
        tid = decimal(event[1])
        if tid is None:
            return
        if event[2] == "kvm_exit":
            if rip := _RIP.search(event[3]):
                self._rips[tid] = hexadecimal(rip[1], U64) or 0
        elif told := _CPUID.search(event[3]):
            function, index, *registers = ((hexadecimal(text or "0", U64) or 0) & 0xFFFFFFFF for text in told.groups())
            rip_here = self._rips.pop(tid, None)
            pid = self._process(tid)
            if self._wanted.pid in (None, pid):
                self._counts[Exit(pid, tid, function, index, Registers(*registers) if self._wanted.answers else None, rip_here)] += 1

    def _process(self, tid: int) -> int:
        """Tell the process of a thread; the thread's own number where it is gone already, or the kernel's numbers are not ours."""
        if tid not in self._processes:
            self._processes[tid] = process_of(tid) if numbers_are_ours() else tid
        return self._processes[tid]
