"""The CPUIDs of a program, and of all that it starts while it runs, without a guest and as any user: under ptrace, by two ways.

`faulting`: each CPUID faults, and is answered here, by the processor on which this process runs. The program does not notice, and runs at
full speed otherwise. `stepping`: every instruction is looked at before it is executed. That works on any processor, and is slow.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from vcpuid.errors import UnavailableError
from vcpuid.live import ptrace
from vcpuid.live.faulting import ARCH_PRCTL, ARCH_SET_CPUID, require_faulting
from vcpuid.live.instruction import instruction
from vcpuid.live.processes import process_of
from vcpuid.live.tracees import Kind, Stop, Tracees
from vcpuid.trace.objects import CodePlace, place

_OPCODE = b"\x0f\xa2"
_PREFIXES = frozenset((0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x3E, 0x26, 0x64, 0x65))
_REX = frozenset(range(0x40, 0x50))
_ALL_PREFIXES = _PREFIXES | _REX
_CODE_64 = 0x33
"""The selector of 64-bit user code, in which REX is a prefix."""
_LONGEST = 15
_SYSTEM_CALLS = (b"\x0f\x05", b"\x0f\x34", b"\xcd\x80")
"""SYSCALL, SYSENTER, INT 80h."""
_GETPID = 39
_LOW = 0xFFFFFFFF
_TURN = 1000
"""Steps of a thread before another gets its turn, for which it may be waiting."""
_STEPPED = (1, 2)
"""TRAP_BRKPT and TRAP_TRACE: a trap's si_code after a step."""


class ProgramCpuid(NamedTuple):
    """One kind of a program's CPUID: `program` is what was executed last, `function` and `index` are EAX and ECX."""

    program: str
    place: CodePlace
    function: int
    index: int  # type: ignore[assignment]  # the field's own name; hides tuple.index, which nobody asks of a CPUID


@dataclass
class ProgramTrace:
    """What a command executed: `execs` programs were started, `threads` seen; `status` is what it ended with, as a shell tells it.

    `steps` are the instructions that were looked at, None by faulting; `left` the processes that it left running, which were let go.
    """

    command: tuple[str, ...]
    counts: Counter[ProgramCpuid] = field(default_factory=Counter)
    execs: int = 0
    threads: int = 1
    steps: int | None = None
    seconds: float = 0.0
    status: int = 0
    left: int = 0

    @property
    def way(self) -> str:
        """How they were found: faulting, or stepping."""
        return "faulting" if self.steps is None else "stepping"

    @property
    def total(self) -> int:
        """All CPUIDs."""
        return sum(self.counts.values())


class _Follower:
    """What both ways have in common: which program a thread runs, where its code lies, what was counted."""

    def __init__(self, trace: ProgramTrace) -> None:
        self.trace = trace
        self._programs: dict[int, str] = {}
        self._places: dict[tuple[int, int], CodePlace] = {}
        self._left: set[int] = set()

    def leave(self, tid: int, call: int, *arguments: int) -> None:
        """Let a thread go that the command left running, behind a call that is made for it."""
        self._left.add(process_of(tid))
        self.trace.left = len(self._left)
        with suppress(ChildProcessError):  # it ended meanwhile
            ptrace.make_call(tid, call, *arguments)
            ptrace.detach(tid)

    def executed(self, tid: int) -> None:
        """A thread became another program."""
        self.trace.execs += 1
        self._programs[tid] = _program(tid)
        self._places = {key: known for key, known in self._places.items() if key[0] != tid}

    def count(self, tid: int, now: ptrace.ThreadRegisters) -> None:
        """A thread executes CPUID with these registers."""
        if tid not in self._programs:
            self._programs[tid] = _program(tid)
        if (tid, now.rip) not in self._places:
            self._places[tid, now.rip] = place(tid, now.rip)
        found = ProgramCpuid(self._programs[tid], self._places[tid, now.rip], now.rax & _LOW, now.rcx & _LOW)
        self.trace.counts[found] += 1


def faulting(command: Sequence[str], seconds: float | None = None) -> ProgramTrace:
    """Run a command to its end and count its CPUIDs, by faulting; after so many seconds it gets SIGTERM.

    What it starts is followed for as long as it runs itself. Raises UnavailableError where CPUID does not fault here or nobody may be
    traced, InputError where the command cannot be started.
    """
    require_faulting()
    cpuid = instruction()
    trace = ProgramTrace(tuple(command))
    follower, start = _Follower(trace), time.monotonic()

    def answer(stop: Stop) -> bool:
        """Answer a fault that is a CPUID's."""
        if stop.signal != signal.SIGSEGV or ptrace.signal_code(stop.tid) <= 0:
            return False
        now = ptrace.registers(stop.tid)
        length = cpuid_length(_code(stop.tid, now.rip), now.cs)
        if not length:
            return False
        follower.count(stop.tid, now)
        now.rax, now.rbx, now.rcx, now.rdx = cpuid(now.rax & _LOW, now.rcx & _LOW)
        now.rip += length
        ptrace.set_registers(stop.tid, now)
        return True

    threads = set()
    with Tracees(command) as tracees:
        for stop in tracees.stops(seconds, alone=True):
            threads.add(stop.tid)
            with suppress(ProcessLookupError):  # killed meanwhile: its end comes next
                if stop.kind is Kind.EXEC:
                    follower.executed(stop.tid)
                    if result := ptrace.make_call(stop.tid, ARCH_PRCTL, ARCH_SET_CPUID, 0):
                        raise UnavailableError(f"CPUID does not fault in {command[0]}: arch_prctl: {os.strerror(-result)}")
                    ptrace.go(stop.tid)
                elif stop.kind is Kind.SIGNAL:
                    ptrace.go(stop.tid, 0 if answer(stop) else stop.signal)
                elif stop.kind is Kind.LEFT:
                    follower.leave(stop.tid, ARCH_PRCTL, ARCH_SET_CPUID, 1)
                elif stop.kind is not Kind.GONE:
                    ptrace.go(stop.tid)
        trace.status = tracees.status or 0
    trace.threads, trace.seconds = len(threads), time.monotonic() - start
    return trace


def stepping(command: Sequence[str], seconds: float | None = None) -> ProgramTrace:
    """Do the same by looking at every instruction; raises as `faulting` does, but for what that asks of the processor."""
    trace = ProgramTrace(tuple(command))
    stepper, start = _Stepper(trace), time.monotonic()
    threads = set()
    with Tracees(command, resume=ptrace.step) as tracees:
        for stop in tracees.stops(seconds, alone=True):
            threads.add(stop.tid)
            with suppress(ProcessLookupError):
                stepper.take(tracees, stop)
        trace.status = tracees.status or 0
    trace.threads, trace.seconds, trace.steps = len(threads), time.monotonic() - start, stepper.steps
    return trace


class _Stepper(_Follower):
    """Steps threads, each for a while before the next gets its turn."""

    def __init__(self, trace: ProgramTrace) -> None:
        super().__init__(trace)
        self.steps = 0
        self._begun: dict[int, tuple[ptrace.ThreadRegisters, int]] = {}

    def take(self, tracees: Tracees, first: Stop) -> None:
        """Go on with a thread that stopped, up to its next system call, which may wait for another thread, or for some time."""
        stop: Stop | None = first
        for turn in range(_TURN, 0, -1):
            if stop is None or stop.kind is Kind.GONE:
                return
            if stop.kind is Kind.LEFT:
                self.leave(stop.tid, _GETPID)  # which takes the trap of its last step as well: it would die of that
                return
            waits = True
            if stop.kind is Kind.EXEC:
                self.executed(stop.tid)
            elif stop.kind is Kind.SIGNAL and stop.signal == signal.SIGTRAP and ptrace.signal_code(stop.tid) in _STEPPED:
                waits = self._stepped(stop.tid)
                stop = stop._replace(signal=0)
            ptrace.step(stop.tid, stop.signal)
            if waits or turn == 1:
                return
            stop = tracees.stop_of(stop.tid)

    def _stepped(self, tid: int) -> bool:
        """Look at where a thread stands after a step; tell whether its next one may take long."""
        self.steps += 1
        at = ptrace.instruction_pointer(tid)
        if tid in self._begun:
            before, length = self._begun.pop(tid)
            if at == before.rip + length:  # and not in a signal's handler, from which it will come back to it
                self.count(tid, before)
        try:
            code = ptrace.peek(tid, at)
        except OSError:  # fewer bytes than that are mapped there, or none
            code = _code(tid, at)
        if _OPCODE in code or _ALL_PREFIXES.issuperset(code):
            now = ptrace.registers(tid)
            if length := cpuid_length(_code(tid, at), now.cs):
                self._begun[tid] = now, length
        return code[:2] in _SYSTEM_CALLS


def cpuid_length(code: bytes, cs: int) -> int:
    """Return the bytes of a CPUID instruction, its prefixes among them; 0 where these bytes are another one."""
    at = 0
    while at < len(code) and (code[at] in _PREFIXES or (cs == _CODE_64 and code[at] in _REX)):
        at += 1
    return at + 2 if code[at : at + 2] == _OPCODE else 0


def _code(tid: int, address: int) -> bytes:
    """Read what a thread executes next; nothing where it has gone astray, and is about to fault."""
    with suppress(OSError):
        return ptrace.read_memory(tid, address, _LONGEST)
    return b""


def _program(tid: int) -> str:
    """Name what a thread executes."""
    try:
        return os.readlink(f"/proc/{tid}/exe").rpartition("/")[2]
    except OSError:
        return "?"
