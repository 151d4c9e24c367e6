"""ptrace(2) on x86-64 by ctypes: other processes' threads stopped, read, changed and set going again.

A thread is named by its number (tid). What it does not let happen raises OSError with the errno; a thread that is gone, ProcessLookupError.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from vcpuid.numbers import U64, hexadecimal

SYSCALL_STOP = 0x80
"""What PTRACE_O_TRACESYSGOOD adds to SIGTRAP at the entry to a system call and at the return from it."""

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_SECCOMP, EVENT_STOP = 1, 2, 3, 4, 7, 128

_PEEKTEXT, _PEEKUSER, _CONT, _SINGLESTEP, _GETREGS, _SETREGS, _DETACH, _SYSCALL = 1, 3, 7, 9, 12, 13, 17, 24
_SETOPTIONS, _GETEVENTMSG, _GETSIGINFO, _SEIZE, _INTERRUPT, _LISTEN, _GET_SYSCALL_INFO = (
    0x4200,
    0x4201,
    0x4202,
    0x4206,
    0x4207,
    0x4208,
    0x420E,
)

SYSGOOD, FORKS, EXECS, SECCOMP, EXITKILL, SUSPEND_SECCOMP = 0x1, 0x2 | 0x4 | 0x8, 0x10, 0x80, 1 << 20, 1 << 21
"""Options for `seize`: PTRACE_O_TRACESYSGOOD; TRACEFORK, TRACEVFORK and TRACECLONE; TRACEEXEC; TRACESECCOMP; EXITKILL; SUSPEND_SECCOMP."""

X86_64 = 0xC000003E
"""AUDIT_ARCH_X86_64: the architecture of a system call by the 64-bit way; x32's numbers have bit 30 set."""


class ThreadRegisters(ctypes.Structure):
    """struct user_regs_struct: a stopped thread's registers. In a system call, `orig_rax` is its number."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip",
            "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
        )
    ]  # fmt: skip

    def copy(self) -> ThreadRegisters:
        """Return the same registers to be changed."""
        return ThreadRegisters.from_buffer_copy(self)


class SystemCall(NamedTuple):
    """A system call as its thread stops at it: by which architecture's way, its number and its arguments."""

    arch: int
    number: int
    arguments: tuple[int, ...]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    libc.ptrace.restype = ctypes.c_long
    return libc


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    done: int = _libc().ptrace(request, tid, address, data)
    if done == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return done


def seize(tid: int, options: int = 0) -> None:
    """Become the thread's tracer (PTRACE_SEIZE): it goes on, and stops where the options say."""
    _ptrace(_SEIZE, tid, 0, options)


def interrupt(tid: int) -> None:
    """Make the thread stop; waiting tells when it has."""
    _ptrace(_INTERRUPT, tid)


def detach(tid: int, signal: int = 0) -> None:
    """Let a stopped thread go for good."""
    _ptrace(_DETACH, tid, 0, signal)


def go(tid: int, signal: int = 0) -> None:
    """Set a stopped thread going, with a signal delivered."""
    _ptrace(_CONT, tid, 0, signal)


def go_to_call(tid: int, signal: int = 0) -> None:
    """Set a stopped thread going up to its next entry to a system call or return from one."""
    _ptrace(_SYSCALL, tid, 0, signal)


def stay(tid: int) -> None:
    """Leave a thread stopped that a signal for the whole process stopped (PTRACE_LISTEN), as it would be without a tracer."""
    _ptrace(_LISTEN, tid)


def step(tid: int, signal: int = 0) -> None:
    """Let a stopped thread execute one instruction; with a signal delivered, none yet where it has a handler for that."""
    _ptrace(_SINGLESTEP, tid, 0, signal)


def instruction_pointer(tid: int) -> int:
    """Return where a stopped thread goes on, in a quarter of the time that all registers take."""
    return _peek(_PEEKUSER, tid, ThreadRegisters.rip.offset)


def peek(tid: int, address: int) -> bytes:
    """Read 8 bytes of a stopped thread's memory."""
    return _peek(_PEEKTEXT, tid, address).to_bytes(8, "little")


def _peek(request: int, tid: int, address: int) -> int:
    ctypes.set_errno(0)
    found: int = _libc().ptrace(request, tid, address, 0)
    if found == -1 and (number := ctypes.get_errno()):
        raise OSError(number, os.strerror(number))
    return found & U64


def event_message(tid: int) -> int:
    """Return what the event that stopped a thread tells: a new thread's number, or after exec the one that the thread had before."""
    room = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, tid, 0, ctypes.addressof(room))
    return room.value


def signal_code(tid: int) -> int:
    """Return who sent the signal that a thread stopped with (si_code): above 0 the kernel, for what the thread itself did."""
    room = ctypes.create_string_buffer(_SIGINFO)
    _ptrace(_GETSIGINFO, tid, 0, ctypes.addressof(room))
    code: int = struct.unpack_from("<i", room, 8)[0]
    return code


def registers(tid: int) -> ThreadRegisters:
    """Return a stopped thread's registers."""
    found = ThreadRegisters()
    _ptrace(_GETREGS, tid, 0, ctypes.addressof(found))
    return found


def set_registers(tid: int, wanted: ThreadRegisters) -> None:
    """Give a stopped thread these registers."""
    _ptrace(_SETREGS, tid, 0, ctypes.addressof(wanted))


_INFO_SIZE, _SIGINFO = 88, 128
_CALL = struct.Struct("<4xI16x7Q")
_RESULT = struct.Struct("<24xq")


def call(tid: int) -> SystemCall:
    """Return the system call at which a seccomp filter, or `go_to_call`, stopped a thread (Linux 5.3 and newer)."""
    arch, number, *arguments = _CALL.unpack_from(_info(tid))
    return SystemCall(arch, number, tuple(arguments))


def returned(tid: int) -> int:
    """Return what the system call returned from which a thread has just come back, an error as its negative errno."""
    value: int = _RESULT.unpack_from(_info(tid))[0]
    return value


def _info(tid: int) -> bytes:
    room = ctypes.create_string_buffer(_INFO_SIZE)
    _ptrace(_GET_SYSCALL_INFO, tid, _INFO_SIZE, ctypes.addressof(room))
    return room.raw


def read_memory(tid: int, address: int, size: int) -> bytes:
    """Read a traced process's memory; the bytes end early where its mappings do."""
    with _memory(tid, os.O_RDONLY) as descriptor:
        return os.pread(descriptor, size, address)


def write_memory(tid: int, address: int, data: bytes) -> None:
    """Write into a traced process's memory, also where it may not write itself."""
    with _memory(tid, os.O_RDWR) as descriptor:
        os.pwrite(descriptor, data, address)


@contextmanager
def _memory(tid: int, mode: int) -> Iterator[int]:
    descriptor = os.open(f"/proc/{tid}/mem", mode | os.O_CLOEXEC)
    try:
        yield descriptor
    except OverflowError:
        raise OSError(14, os.strerror(14)) from None  # an address of the kernel's half
    finally:
        os.close(descriptor)


_WALL = 0x40000000
_SIGTRAP = 5
_FAULTS = (4, 7, 8, 11)
"""SIGILL, SIGBUS, SIGFPE, SIGSEGV: from the kernel, they come of an instruction of the thread's own."""
_SYSCALL_INSTRUCTION = b"\x0f\x05"


def make_call(tid: int, number: int, *arguments: int) -> int:
    """Let a stopped thread make a system call of ours, and return its result; the thread's registers are as before then.

    What it was about to execute it does behind that, also where that had just faulted: it may fault again, or no more. The instruction of
    the call is one of the vDSO's, so that no code is changed under other threads. Raises ChildProcessError where the thread ends
    meanwhile, OSError(ENOSYS) where the process has no vDSO.
    """
    before = registers(tid)
    wanted = before.copy()
    wanted.rip, wanted.rax, wanted.orig_rax = _syscall_instruction(tid), number, (1 << 64) - 1
    for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
        setattr(wanted, name, value & (1 << 64) - 1)
    set_registers(tid, wanted)
    signals: list[int] = []
    try:
        while True:
            step(tid)
            _, status = os.waitpid(tid, _WALL)
            if not os.WIFSTOPPED(status):
                raise ChildProcessError(10, f"thread {tid} ended in a system call that was made for it")
            if os.WSTOPSIG(status) != _SIGTRAP:
                if os.WSTOPSIG(status) not in _FAULTS or signal_code(tid) <= 0:
                    signals.append(os.WSTOPSIG(status))
            elif (now := registers(tid)).rip == wanted.rip:  # it was in a call of its own, exec for one, and has come back from that
                set_registers(tid, wanted)
            else:
                result = ctypes.c_int64(now.rax).value
                break
    finally:
        set_registers(tid, before)
    for late in signals:  # what arrived meanwhile comes again
        os.kill(tid, late)
    return result


def _syscall_instruction(tid: int) -> int:
    """Return where the vDSO has a system call's instruction."""
    with open(f"/proc/{tid}/maps", encoding="utf-8", errors="surrogateescape") as maps:
        for line in maps:
            if line.rstrip().endswith("[vdso]"):
                start, _, end = line.split(" ", 1)[0].partition("-")
                first, last = hexadecimal(start, U64) or 0, hexadecimal(end, U64) or 0
                at = read_memory(tid, first, last - first).find(_SYSCALL_INSTRUCTION)
                if at >= 0:
                    return first + at
    raise OSError(38, "the process has no vDSO")
