"""CPUID exits counted in the kernel, by BPF programs on KVM's tracepoints: exact, and next to nothing for the guest.

kvm:kvm_cpuid tells leaf, sub-leaf and answer; the thread is the vCPU. The guest's address stands in the event before it, of the same
thread: in kvm:kvm_exit, or in kvm:kvm_emulate_insn where KVM's emulator runs the instruction. The emulator also looks leaves up for itself,
when it has to know the guest's vendor: such an exit has no address.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import cache
from typing import NamedTuple

from vcpuid.cpuid import Registers
from vcpuid.errors import UnavailableError
from vcpuid.trace.bpf.access import count_up, look_up, update
from vcpuid.trace.bpf.assembler import R0, R1, R2, R3, R6, R7, R10, Assembler, Helper
from vcpuid.trace.bpf.maps import Map, MapKind
from vcpuid.trace.bpf.program import Program, ProgramKind, on_raw_tracepoint, on_tracepoint
from vcpuid.trace.exits import Exit, Tally, WantedExits
from vcpuid.trace.tracepoints import Events, RecordField, Tracepoint

_ARGUMENTS = ("function", "index", "rax", "rbx", "rcx", "rdx")
"""The arguments of kvm_cpuid's tracepoint as far as they are read; older ones lack the index."""
_KINDS, _THREADS, _STACKS, _DEPTH = 1 << 16, 1 << 14, 1 << 10, 127
_COMM = 16
_CPUID_OPCODE = (0x0F, 0xA2)
_ASKS_FOR_ITSELF = (0x05, 0x34, 0x35)
"""Second bytes of SYSCALL, SYSENTER and SYSEXIT, at which KVM's emulator looks a leaf up for itself."""
_VMX, _SVM = (1, 10), (2, 0x72)
"""kvm_exit's isa, and its exit_reason for CPUID."""


class _RowKey(NamedTuple):
    """How rows are told apart: where in the key each part stands, None where it is no part of it."""

    size: int
    registers: int | None
    rip: int | None
    stack: int | None

    @classmethod
    def of(cls, wanted: WantedExits) -> _RowKey:
        """Lay it out: thread and leaf, 8 bytes each, and what else is wanted. A shorter key is a quicker one."""
        size, places = 16, []
        for width, part in ((16, wanted.answers), (8, wanted.rip), (8, wanted.stack)):
            places.append(size if part else None)
            size += width if part else 0
        return cls(size, *places)

    def exit(self, key: bytes, stacks: Callable[[int], tuple[int, ...]]) -> Exit:
        """Read a row's key; `stacks` gives a back-trace by its number."""
        thread, function, index = struct.unpack_from("<QII", key)
        registers = None if self.registers is None else Registers(*struct.unpack_from("<4I", key, self.registers))
        rip = None if self.rip is None else struct.unpack_from("<Q", key, self.rip)[0] or None
        stack = () if self.stack is None else stacks(struct.unpack_from("<q", key, self.stack)[0])
        return Exit(thread >> 32, thread & 0xFFFFFFFF, function, index, registers, rip, stack)


class ByBpf:
    """Counts exits until it is closed. Raises UnavailableError where the kernel has no such tracepoints, or refuses BPF."""

    name = "BPF"
    pause = 0.5

    def __init__(self, events: Events, wanted: WantedExits) -> None:
        self._open, self._attached = ExitStack(), ExitStack()
        self._key = _RowKey.of(wanted)
        try:
            self._counts = self._open.enter_context(Map(MapKind.HASH, self._key.size, 8, _KINDS))
            self._comms = self._open.enter_context(Map(MapKind.HASH, 8, _COMM, _THREADS))
            self._missed = self._open.enter_context(Map(MapKind.ARRAY, 4, 8, 1))
            self._stacks = self._open.enter_context(Map(MapKind.STACK_TRACE, 4, 8 * _DEPTH, _STACKS)) if wanted.stack else None
            self._rips = self._open.enter_context(Map(MapKind.LRU_HASH, 8, 8, _THREADS)) if wanted.rip else None
            self._programs: list[Program] = []
            if self._rips is not None:  # before what counts, so that no exit is counted without its address
                self._attach(events.exit, _note_exit(events.exit, self._rips))
                self._attach(events.emulate, _note_emulation(events.emulate, self._rips))
            self._attach_count(events.cpuid, wanted.pid)
        except BaseException:
            self.close()
            raise

    def stop(self) -> None:
        """Detach the programs."""
        self._attached.close()

    def close(self) -> None:
        """Give all back to the kernel."""
        self.stop()
        self._open.close()

    def read(self) -> Tally:
        """Tell what was counted so far."""
        stacks = cache(self._stack)
        exits: Counter[Exit] = Counter()
        for key, value in self._counts.items().items():
            exits[self._key.exit(key, stacks)] += int.from_bytes(value, "little")
        missed = int.from_bytes(self._missed[bytes(4)], "little")
        comms = {}
        for thread_key, name in self._comms.items().items():
            tid, pid = struct.unpack("<II", thread_key)
            comms[pid, tid] = name.split(b"\0")[0].decode("utf-8", "surrogateescape")
        return Tally(exits, missed, sum(program.missed() for program in self._programs), comms)

    def _stack(self, number: int) -> tuple[int, ...]:
        """Give a back-trace; below 0 it is the error for which there is none."""
        if self._stacks is None or number < 0:
            return ()
        try:
            return tuple(address for address in struct.unpack(f"<{_DEPTH}Q", self._stacks[number.to_bytes(4, "little")]) if address)
        except KeyError:
            return ()

    def _attach(self, event: Tracepoint, program: Assembler) -> None:
        loaded = self._open.enter_context(Program(program.code(), ProgramKind.TRACEPOINT))
        self._programs.append(loaded)
        self._attached.enter_context(on_tracepoint(loaded, event.number))

    def _attach_count(self, event: Tracepoint, pid: int | None) -> None:
        """Attach what counts: to the tracepoint's arguments, or else to its record, which takes the kernel longer."""
        arguments = [name for name in event.fields if not name.startswith("common_")]
        if [name for name in arguments if name in _ARGUMENTS] == [name for name in _ARGUMENTS if name in arguments]:
            places = {name: RecordField(8 * at, 8) for at, name in enumerate(arguments)}
            with suppress(UnavailableError):
                loaded = self._open.enter_context(Program(self._count(places, pid).code(), ProgramKind.RAW_TRACEPOINT))
                self._attached.enter_context(on_raw_tracepoint(loaded, event.name))
                self._programs.append(loaded)
                return
        self._attach(event, self._count(event.fields, pid))

    def _count(self, fields: Mapping[str, RecordField], pid: int | None) -> Assembler:
        """Count an exit by what it is; the first of its kind makes its row, and notes the thread's name."""
        a, key = Assembler(), -self._key.size
        one, comm = key - 8, key - 8 - _COMM
        a.mov(R6, R1)
        a.call(Helper.GET_CURRENT_PID_TGID)
        a.store(8, R10, key, R0)
        if pid is not None:
            a.do("rsh", R0, 32)
            a.jump_if(R0, "!=", pid, "other")
        places = {"function": key + 8, "index": key + 12}
        if self._key.registers is not None:
            places |= {name: key + self._key.registers + 4 * at for at, name in enumerate(("rax", "rbx", "rcx", "rdx"))}
        for name, place in places.items():
            if name in fields:
                a.load(4, R1, R6, fields[name].offset)
                a.store(4, R10, place, R1)
            else:
                a.store(4, R10, place, 0)
        if self._key.rip is not None and self._rips is not None:
            a.store(8, R10, key + self._key.rip, 0)
            look_up(a, self._rips, key, "no address")
            a.load(8, R1, R0, 0)
            a.store(8, R10, key + self._key.rip, R1)
            a.store(8, R0, 0, 0)
            a.label("no address")
        if self._key.stack is not None and self._stacks is not None:
            a.mov(R1, R6)
            a.map(R2, self._stacks.fd)
            a.mov(R3, 0)
            a.call(Helper.GET_STACKID)
            a.store(8, R10, key + self._key.stack, R0)
        look_up(a, self._counts, key, "first")
        a.load(8, R1, R0, 0)  # the thread is part of the key, so nobody else adds to this
        a.do("add", R1, 1)
        a.store(8, R0, 0, R1)
        a.exit()
        a.label("first")
        a.store(8, R10, one, 1)
        update(a, self._counts, key, one)
        a.mov(R7, R0)
        a.address(R1, R10, comm)
        a.mov(R2, _COMM)
        a.call(Helper.GET_CURRENT_COMM)
        update(a, self._comms, key, comm)
        a.jump_if(R7, "==", 0, "other")
        count_up(a, self._missed, one, "other")
        a.label("other")
        a.exit()
        return a


def _note_exit(event: Tracepoint, rips: Map) -> Assembler:
    """Note where the guest executed CPUID, at the exit that hardware made of it."""
    a = Assembler()
    a.load(4, R2, R1, event.fields["exit_reason"].offset)
    a.load(4, R3, R1, event.fields["isa"].offset)
    for isa, reason in (_VMX, _SVM):
        a.jump_if(R3, "!=", isa, f"not {isa}")
        a.jump_if(R2, "==", reason, "cpuid")
        a.label(f"not {isa}")
    a.exit()
    a.label("cpuid")
    a.load(8, R6, R1, event.fields["guest_rip"].offset)
    _note(a, rips)
    return a


def _note_emulation(event: Tracepoint, rips: Map) -> Assembler:
    """Note where the guest executed CPUID, at its emulation; where the emulator may ask for itself, that nobody told."""
    a, bytes_ = Assembler(), event.fields["insn"].offset
    a.load(1, R2, R1, bytes_)
    a.jump_if(R2, "!=", _CPUID_OPCODE[0], "no")
    a.load(1, R2, R1, bytes_ + 1)
    a.load(8, R6, R1, event.fields["rip"].offset)
    a.load(4, R3, R1, event.fields["csbase"].offset)
    a.do("add", R6, R3)
    a.jump_if(R2, "==", _CPUID_OPCODE[1], "note")
    a.mov(R6, 0)
    for byte in _ASKS_FOR_ITSELF:
        a.jump_if(R2, "==", byte, "note")
    a.label("no")
    a.exit()
    a.label("note")
    _note(a, rips)
    return a


def _note(a: Assembler, rips: Map) -> None:
    """Put R6 under the thread that runs, and return."""
    a.store(8, R10, -16, R6)
    a.call(Helper.GET_CURRENT_PID_TGID)
    a.store(8, R10, -8, R0)
    update(a, rips, -8, -16)
    a.exit()
