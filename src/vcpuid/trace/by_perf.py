"""CPUID exits counted here, one event after the other, out of perf's rings: where the kernel gives no BPF. It says what it lost."""

from __future__ import annotations

import struct
from collections import Counter

from vcpuid.cpuid import Registers
from vcpuid.trace.exits import Exit, Tally, WantedExits
from vcpuid.trace.rings import AskedEvent, Rings, RingSample
from vcpuid.trace.tracepoints import CPUID_EXITS, Events, RecordField

_CPUID_OPCODE = b"\x0f\xa2"
_ASKS_FOR_ITSELF = (b"\x0f\x05", b"\x0f\x34", b"\x0f\x35")
"""SYSCALL, SYSENTER and SYSEXIT, at which KVM's emulator looks a leaf up for itself."""


class ByPerf:
    """Counts exits until it is closed. Raises UnavailableError where the kernel refuses."""

    name = "perf"
    pause = 0.02

    def __init__(self, events: Events, wanted: WantedExits) -> None:
        self._wanted, self._events = wanted, events
        asked = [AskedEvent(events.cpuid, stack=wanted.stack)]
        if wanted.rip:
            asked += [AskedEvent(events.exit, CPUID_EXITS), AskedEvent(events.emulate)]
        self._counts: Counter[Exit] = Counter()
        self._rips: dict[int, int] = {}
        self._others_lost = 0
        self._rings = Rings(tuple(asked))

    def stop(self) -> None:
        """Let no more events into the rings."""
        self._rings.stop()

    def close(self) -> None:
        """Give the rings back."""
        self._rings.close()

    def read(self) -> Tally:
        """Tell what was counted so far; the rings have room for a moment only."""
        samples, lost = self._rings.samples(), self._rings.lost()
        others = sum(lost.values()) - lost[self._events.cpuid.name]
        certain, self._others_lost = others == self._others_lost, others
        for sample in samples:
            if sample.event == self._events.cpuid.name:
                self._count(sample, certain)
            elif sample.event == self._events.exit.name:
                self._rips[sample.tid] = _number(sample, self._events.exit.fields["guest_rip"])
            else:
                self._emulated(sample)
        return Tally(self._counts, lost=lost[self._events.cpuid.name])

    def _count(self, sample: RingSample, certain: bool) -> None:
        """Count an exit; where events were lost that tell addresses, one that is there may be another exit's, and is not told."""
        rip = self._rips.pop(sample.tid, None) if certain else None
        if self._wanted.pid not in (None, sample.pid):
            return
        fields = self._events.cpuid.fields
        registers = None
        if self._wanted.answers:
            registers = Registers(*(_number(sample, fields[name]) & 0xFFFFFFFF for name in ("rax", "rbx", "rcx", "rdx")))
        index = _number(sample, fields["index"]) if "index" in fields else 0
        self._counts[Exit(sample.pid, sample.tid, _number(sample, fields["function"]), index, registers, rip, sample.stack)] += 1

    def _emulated(self, sample: RingSample) -> None:
        fields = self._events.emulate.fields
        at = fields["insn"].offset
        if (instruction := sample.record[at : at + 2]) == _CPUID_OPCODE:
            self._rips[sample.tid] = _number(sample, fields["rip"]) + _number(sample, fields["csbase"])
        elif instruction in _ASKS_FOR_ITSELF:
            self._rips.pop(sample.tid, None)


def _number(sample: RingSample, field: RecordField) -> int:
    """Read a field, 4 or 8 bytes of it."""
    value: int = struct.unpack_from("<Q" if field.size == 8 else "<I", sample.record, field.offset)[0]
    return value
