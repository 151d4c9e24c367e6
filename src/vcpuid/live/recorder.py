"""Records what a command, and all that it starts, say to KVM about CPUID, by ptrace and a seccomp filter: no root, no change to the VMM.

The rows are those of `vcpuid.formats.recording`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from vcpuid.live import kvm_talk, ptrace, seccomp
from vcpuid.live.kvm_talk import TalkCall
from vcpuid.live.processes import describe, process_of
from vcpuid.live.tracees import Kind, Tracees
from vcpuid.numbers import U64, decimal, hexadecimal

_VCPU = re.compile(r"anon_inode:\[?kvm-vcpu:([0-9]{1,5})\]?")


class _Pending(NamedTuple):
    """A call that a thread is in."""

    call: TalkCall
    descriptor: int
    argument: int
    told: dict[str, object]


class Recorder:
    """Runs a command and hands each call to `write` as a row.

    Raises InputError where the command cannot be started, UnavailableError where the system lets nobody trace.
    """

    def __init__(self, write: Callable[[dict[str, object]], None]) -> None:
        self._write = write
        self._pending: dict[int, _Pending] = {}
        self._processes: dict[int, int] = {}
        self._described: set[int] = set()
        self._since = time.monotonic()

    def run(self, command: Sequence[str], seconds: float | None = None) -> int:
        """Run the command to its end, or for so many seconds until it is asked to end; return its exit status as a shell tells it."""
        with Tracees(command, seccomp.program(kvm_talk.WANTED)) as tracees:
            self._since = time.monotonic()
            for stop in tracees.stops(seconds):
                with suppress(ProcessLookupError):  # killed meanwhile: its end comes next
                    self._take(stop.tid, stop.kind, stop.signal, stop.was)
            return tracees.status or 0

    def _take(self, tid: int, kind: Kind, signal: int, was: int) -> None:
        if kind is Kind.CALL:
            self._begin(tid)
            ptrace.go_to_call(tid)
        elif kind is Kind.RETURN:
            if tid in self._pending:
                self._end(tid, self._pending.pop(tid))
            ptrace.go(tid)
        elif kind is Kind.SIGNAL:
            ptrace.go(tid, signal)
        else:
            for gone in (tid, was):  # a thread that is gone, or is another program now
                self._pending.pop(gone, None)
                self._processes.pop(gone, None)
                self._described.discard(gone)
            if kind is Kind.EXEC:
                ptrace.go(tid)

    def _begin(self, tid: int) -> None:
        made = ptrace.call(tid)
        if made.number == kvm_talk.ARCH_PRCTL:
            number, argument = made.arguments[:2]
            call, descriptor = kvm_talk.PERMISSIONS[number & 0xFFFFFFFF], -1
        else:
            descriptor, number, argument = made.arguments[:3]
            call, descriptor = kvm_talk.IOCTLS[number & 0xFFFFFFFF], descriptor & 0xFFFFFFFF
        read = partial(ptrace.read_memory, tid)
        try:
            told = kvm_talk.given(call, argument, read)
        except OSError as error:
            told = {"unread": error.strerror}
        if call.name == "KVM_SET_CPUID2":
            told |= self._which(tid, descriptor)
        self._pending[tid] = _Pending(call, descriptor, argument, told)

    def _end(self, tid: int, pending: _Pending) -> None:
        result = ptrace.returned(tid)
        try:
            answer = kvm_talk.answered(pending.call, pending.argument, result, partial(ptrace.read_memory, tid))
        except OSError as error:
            answer = {"unread": error.strerror}
        if tid not in self._processes:
            self._processes[tid] = process_of(tid)
        pid = self._processes[tid]
        row = {"t": round(time.monotonic() - self._since, 6), "pid": pid, "tid": tid, "call": pending.call.name, "fd": pending.descriptor}
        row |= {"ret": result, **pending.told, **answer}
        if pid not in self._described:
            row |= describe(pid)
        if tid not in self._described:
            row |= {"comm": _text(f"/proc/{pid}/task/{tid}/comm").strip()}
        self._described |= {pid, tid}
        self._write(row)

    @staticmethod
    def _which(tid: int, descriptor: int) -> dict[str, object]:
        """Tell which vCPU a descriptor is, and whether that has run: its page is mapped under its name."""
        found: dict[str, object] = {}
        with suppress(OSError):
            name = os.readlink(f"/proc/{tid}/fd/{descriptor}")
            if told := _VCPU.fullmatch(name):
                found["vcpu"] = decimal(told[1])
                pages = [page for page in _pages(tid) if page[1] == name]
                if len(pages) == 1:  # of two guests in one process, nobody can tell whose it is
                    found["ran"] = kvm_talk.has_run(partial(ptrace.read_memory, tid), pages[0][0])
        return found


def _pages(tid: int) -> list[tuple[int, str]]:
    """Give the beginnings of a process's mappings of vCPUs, with the names of their files."""
    found = []
    for line in _text(f"/proc/{tid}/maps").splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and words[5].startswith("anon_inode:") and hexadecimal(words[2], U64) == 0:
            found.append((hexadecimal(words[0].partition("-")[0], U64) or 0, words[5].strip()))
    return found


def _text(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""
