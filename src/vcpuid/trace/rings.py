"""perf_event_open's rings: events of the kernel as they come, read out of memory that is shared with it, and how many did not fit."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import NamedTuple

from vcpuid.errors import UnavailableError
from vcpuid.trace.bpf.syscalls import KernelObject, perf_event_open, perf_lacking
from vcpuid.trace.online import online_cpus
from vcpuid.trace.tracepoints import Tracepoint

PAGES = 512
"""Of a CPU's ring, 2 MiB; a power of two."""

_ATTRIBUTES = struct.Struct("<IIQQQQQ44xi32x")
"""struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags, clockid."""
_TRACEPOINT, _MONOTONIC = 2, 1
_TID, _TIME, _CALLCHAIN, _RAW, _IDENTIFIER = 1 << 1, 1 << 2, 1 << 5, 1 << 10, 1 << 16
_DISABLED, _NO_USER_CHAIN, _USE_CLOCK = 1 << 0, 1 << 22, 1 << 25
_FORMAT_LOST = 1 << 4
"""An event that is read tells what it lost, since Linux 6.0."""
_SET_FILTER, _ENABLE, _DISABLE, _SET_OUTPUT, _ID = 0x40082406, 0x2400, 0x2401, 0x2405, 0x80082407
_LOST_RECORD, _SAMPLE_RECORD = 2, 9
_HEAD, _TAIL = 1024, 1032
"""Where struct perf_event_mmap_page has data_head and data_tail."""
_RECORD, _SAMPLE, _WORD = struct.Struct("<IHH"), struct.Struct("<QIIQ"), struct.Struct("<Q")
_CONTEXTS = (1 << 64) - 4096
"""Addresses of a call chain from here on are none: they say whose the next ones are."""


class RingSample(NamedTuple):
    """An event: when (nanoseconds), which process and thread, which tracepoint, the kernel's back-trace, and the record."""

    when: int
    pid: int
    tid: int
    event: str
    stack: tuple[int, ...]
    record: bytes


class AskedEvent(NamedTuple):
    """A tracepoint to be read, those of its events that a filter lets through (in the kernel's words), with back-traces or without."""

    event: Tracepoint
    filter: str | None = None
    stack: bool = False


class Rings:
    """A ring a CPU for the events of some tracepoints, until it is closed. Raises UnavailableError where the kernel refuses."""

    def __init__(self, asked: tuple[AskedEvent, ...]) -> None:
        self._open = ExitStack()
        self._rings: list[mmap.mmap] = []
        self._events: dict[int, tuple[KernelObject, AskedEvent]] = {}
        self._dropped: Counter[str] = Counter()
        self._tells_lost = True
        try:
            for cpu in online_cpus():
                self._of_cpu(cpu, asked)
            for event, _ in self._events.values():
                fcntl.ioctl(event.fd, _ENABLE, 0)
        except OSError as error:
            self.close()
            raise perf_lacking(error) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the rings back."""
        self._open.close()

    def stop(self) -> None:
        """Let no more events in; what is there can still be taken."""
        for event, _ in self._events.values():
            fcntl.ioctl(event.fd, _DISABLE, 0)

    def samples(self) -> list[RingSample]:
        """Take the events that came since the last time, in their order."""
        return sorted(sample for ring in self._rings for sample in self._parsed(self._taken(ring)))

    def lost(self) -> Mapping[str, int]:
        """Count by tracepoint the events that had no room so far."""
        if not self._tells_lost:
            return self._dropped
        lost: Counter[str] = Counter()
        for event, asked in self._events.values():
            lost[asked.event.name] += _WORD.unpack_from(os.read(event.fd, 16), 8)[0]
        return lost

    def _of_cpu(self, cpu: int, asked: tuple[AskedEvent, ...]) -> None:
        leader: KernelObject | None = None
        for one in asked:
            event = self._open.enter_context(KernelObject(self._opened(one, cpu)))
            if one.filter is not None:
                fcntl.ioctl(event.fd, _SET_FILTER, bytearray(one.filter.encode() + b"\0"))
            if leader is None:
                leader = event
                self._rings.append(self._open.enter_context(mmap.mmap(event.fd, (PAGES + 1) * mmap.PAGESIZE)))
            else:
                fcntl.ioctl(event.fd, _SET_OUTPUT, leader.fd)
            room = bytearray(8)
            fcntl.ioctl(event.fd, _ID, room)
            self._events[_WORD.unpack(room)[0]] = event, one

    def _opened(self, asked: AskedEvent, cpu: int) -> int:
        sample = _IDENTIFIER | _TID | _TIME | _RAW | (_CALLCHAIN if asked.stack else 0)
        flags = _DISABLED | _NO_USER_CHAIN | _USE_CLOCK
        for tells_lost in (True, False) if self._tells_lost else (False,):
            form = _FORMAT_LOST if tells_lost else 0
            head = _TRACEPOINT, _ATTRIBUTES.size, asked.event.number, 1, sample, form, flags, _MONOTONIC
            try:
                opened = perf_event_open(_ATTRIBUTES.pack(*head), -1, cpu)
            except OSError as error:
                if error.errno != errno.EINVAL or not tells_lost:
                    raise
            else:
                self._tells_lost = tells_lost
                return opened
        raise UnavailableError("perf_event_open(2): the kernel takes no ring of tracepoints")

    def _taken(self, ring: mmap.mmap) -> bytes:
        size = PAGES * mmap.PAGESIZE
        (head,), (tail,) = _WORD.unpack_from(ring, _HEAD), _WORD.unpack_from(ring, _TAIL)
        first, last = mmap.PAGESIZE + tail % size, mmap.PAGESIZE + head % size
        if head == tail:
            return b""
        taken = ring[first:last] if first < last else ring[first : mmap.PAGESIZE + size] + ring[mmap.PAGESIZE : last]
        _WORD.pack_into(ring, _TAIL, head)
        return taken

    def _parsed(self, data: bytes) -> Iterator[RingSample]:
        at = 0
        while at < len(data):
            kind, _, size = _RECORD.unpack_from(data, at)
            if kind == _SAMPLE_RECORD:
                yield self._sample(data, at + _RECORD.size)
            elif kind == _LOST_RECORD:
                event, count = struct.unpack_from("<QQ", data, at + _RECORD.size)
                self._dropped[self._events[event][1].event.name] += count
            at += size

    def _sample(self, data: bytes, at: int) -> RingSample:
        event, pid, tid, when = _SAMPLE.unpack_from(data, at)
        at += _SAMPLE.size
        asked = self._events[event][1]
        stack: tuple[int, ...] = ()
        if asked.stack:
            (depth,) = _WORD.unpack_from(data, at)
            stack = tuple(address for address in struct.unpack_from(f"<{depth}Q", data, at + 8) if address < _CONTEXTS)
            at += 8 + 8 * depth
        (size,) = struct.unpack_from("<I", data, at)
        return RingSample(when, pid, tid, asked.event.name, stack, data[at + 4 : at + 4 + size])
