"""Every KVM_SET_CPUID2 on this host as it is made, by BPF on the tracepoints of ioctl(2): of VMMs that anybody started; none is stopped."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from vcpuid.cpuid import CpuidTable
from vcpuid.trace import kvm_entries
from vcpuid.trace.bpf.access import count_up, delete, look_up, look_up_only, update
from vcpuid.trace.bpf.assembler import R0, R1, R2, R3, R6, R7, R8, R9, R10, Assembler, Helper
from vcpuid.trace.bpf.maps import Map, MapKind
from vcpuid.trace.bpf.program import Program, ProgramKind, on_tracepoint
from vcpuid.trace.tracepoints import Tracepoint, tracefs, tracepoint

_SET_CPUID2 = 0x4008AE90
_HEAD = struct.Struct("<QQIIIIq")
"""When, thread, descriptor, entries, whether memory was read and the call has returned, its result."""
_TIME, _THREAD, _FD, _COUNT, _READ, _DONE, _RESULT = 0, 8, 16, 20, 24, 28, 32
_SIZE = _HEAD.size + kvm_entries.ROOM
_NO_VCPUS = (-errno.ENOTTY, -errno.EBADF)
"""Results by which it was no vCPU that was called: anybody may call anything so."""
_ROOM = 256
"""Calls that are kept between two looks: a guest makes one a vCPU when it starts, and one more where it is reset."""


@dataclass(frozen=True, slots=True)
class SetCall:
    """A call: when it was made (nanoseconds of CLOCK_MONOTONIC), by which process and thread, on which descriptor, with which result.

    `count` is how many entries it had; `table` is None where its memory was not to be read just then.
    """

    time: int
    pid: int
    tid: int
    descriptor: int
    result: int
    count: int
    table: CpuidTable | None


class SetCalls:
    """Watches until it is closed; `missed` counts calls for which there was no room. Raises UnavailableError where it may not watch."""

    def __init__(self) -> None:
        self._open = ExitStack()
        try:
            with tracefs() as path:
                enter, leave = (tracepoint(path, "syscalls", name) for name in ("sys_enter_ioctl", "sys_exit_ioctl"))
            scratch = self._open.enter_context(Map(MapKind.PERCPU_ARRAY, 4, _SIZE, 1))
            self._calls = self._open.enter_context(Map(MapKind.HASH, 16, _SIZE, _ROOM))
            pending = self._open.enter_context(Map(MapKind.HASH, 8, 16, _ROOM))
            self._missed = self._open.enter_context(Map(MapKind.ARRAY, 4, 8, 1))
            for point, code in (
                (leave, _at_return(leave, self._calls, pending)),
                (enter, _at_entry(enter, scratch, self._calls, pending, self._missed)),
            ):
                program = self._open.enter_context(Program(code, ProgramKind.TRACEPOINT))
                self._open.enter_context(on_tracepoint(program, point.number))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    @property
    def missed(self) -> int:
        """How many calls are not told."""
        return int.from_bytes(self._missed[bytes(4)], "little")

    def take(self) -> list[SetCall]:
        """Return the calls that have returned since the last time, in order, and forget them."""
        return sorted(self._done(), key=lambda call: call.time)

    def _done(self) -> Iterator[SetCall]:
        for key, value in self._calls.items().items():
            time, thread, descriptor, count, unread, done, result = _HEAD.unpack_from(value)
            if done:
                del self._calls[key]
            if done and result not in _NO_VCPUS:
                table = None if unread or count > kvm_entries.MOST else kvm_entries.table(value, _HEAD.size, count)
                yield SetCall(time, thread >> 32, thread & 0xFFFFFFFF, descriptor, result, count, table)


def _at_entry(point: Tracepoint, scratch: Map, calls: Map, pending: Map, missed: Map) -> bytes:
    """Keep what is handed over, under time and thread, and the key under the thread alone."""
    a = Assembler()
    a.mov(R6, R1)
    a.load(4, R1, R6, point.fields["cmd"].offset)
    a.jump_if(R1, "!=", _SET_CPUID2, "out")
    look_up_only(a, scratch, -4, "out")
    a.mov(R8, R0)
    a.load(8, R7, R6, point.fields["arg"].offset)
    a.call(Helper.GET_CURRENT_PID_TGID)
    a.store(8, R8, _THREAD, R0)
    a.store(8, R10, -16, R0)
    a.call(Helper.KTIME_GET_NS)
    a.store(8, R8, _TIME, R0)
    a.store(8, R10, -24, R0)
    a.load(4, R1, R6, point.fields["fd"].offset)
    a.store(4, R8, _FD, R1)
    a.store(4, R8, _DONE, 0)
    a.store(8, R8, _RESULT, 0)
    a.store(4, R8, _READ, 0)
    a.address(R1, R8, _COUNT)
    a.mov(R2, 4)
    a.mov(R3, R7)
    a.call(Helper.PROBE_READ_USER)
    a.mov(R9, R0)
    a.load(4, R2, R8, _COUNT)
    a.jump_if(R2, ">", kvm_entries.MOST, "keep")
    a.do("mul", R2, kvm_entries.SIZE)
    a.address(R1, R8, _HEAD.size)
    a.address(R3, R7, 8)
    a.call(Helper.PROBE_READ_USER)
    a.do("or", R9, R0)
    a.label("keep")
    a.jump_if(R9, "==", 0, "read")
    a.store(4, R8, _READ, 1)
    a.label("read")
    update(a, calls, -24, R8)
    a.jump_if(R0, "!=", 0, "full")
    update(a, pending, -16, -24)
    a.jump_if(R0, "==", 0, "out")
    a.label("full")
    count_up(a, missed, -4, "out")
    a.label("out")
    a.exit()
    return a.code()


def _at_return(point: Tracepoint, calls: Map, pending: Map) -> bytes:
    """Note the result of a call that was kept."""
    a = Assembler()
    a.load(8, R9, R1, point.fields["ret"].offset)
    a.call(Helper.GET_CURRENT_PID_TGID)
    a.store(8, R10, -8, R0)
    look_up(a, pending, -8, "out")
    for part in (0, 8):
        a.load(8, R1, R0, part)
        a.store(8, R10, part - 24, R1)
    look_up(a, calls, -24, "gone")
    a.store(8, R0, _RESULT, R9)
    a.store(4, R0, _DONE, 1)
    a.label("gone")
    delete(a, pending, -8)
    a.label("out")
    a.exit()
    return a.code()
