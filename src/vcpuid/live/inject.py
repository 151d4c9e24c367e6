"""What a running guest's vCPUs keep, asked of KVM in the VMM's own name: its threads are stopped, and one makes the calls.

KVM answers a vCPU's ioctls to the process alone that made it. The VMM stands still for some milliseconds. Whoever can read the tables
without it (`vcpuid.trace.vcpus`) should.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from vcpuid.cpuid import CpuidTable
from vcpuid.errors import UnavailableError
from vcpuid.live import kvm_structs as structs
from vcpuid.live import ptrace
from vcpuid.live.kvm_talk import MOST_ENTRIES
from vcpuid.live.processes import vcpu_files
from vcpuid.numbers import decimal

_MMAP, _MUNMAP, _IOCTL = 9, 11, 16
_READ_WRITE, _PRIVATE_ANONYMOUS = 0x3, 0x22
_WALL = 0x40000000
_PATIENCE = 5.0


def ask_vcpus(pid: int) -> dict[int, CpuidTable]:
    """Return what each vCPU of a process keeps, by its descriptor; none where it has none.

    Raises UnavailableError where the process may not be stopped, ProcessLookupError where there is none.
    """
    wanted = sorted(vcpu_files(pid))
    if not wanted:
        return {}
    with _stopped(pid) as call:
        size = 8 + 40 * MOST_ENTRIES
        room = call(_MMAP, 0, size, _READ_WRITE, _PRIVATE_ANONYMOUS, -1, 0)
        if -4096 < room < 0:
            raise UnavailableError(f"process {pid} has no memory left for an answer: {os.strerror(-room)}")
        try:
            return {descriptor: _ask(pid, call, descriptor, room) for descriptor in wanted}
        finally:
            call(_MUNMAP, room, size)


def _ask(pid: int, call: Callable[..., int], descriptor: int, room: int) -> CpuidTable:
    ptrace.write_memory(pid, room, bytes(structs.empty_table(MOST_ENTRIES)))
    result = call(_IOCTL, descriptor, structs.GET_CPUID2, room)
    if result < 0:
        raise UnavailableError(f"process {pid}, descriptor {descriptor}: KVM_GET_CPUID2: {os.strerror(-result)}")
    return structs.unpack_table(bytearray(ptrace.read_memory(pid, room, 8 + 40 * MOST_ENTRIES)))


@contextmanager
def _stopped(pid: int) -> Iterator[Callable[..., int]]:
    """Stop all threads of a process, so that no vCPU is in the guest, and give what makes a call in its name; let them go at the end."""
    options = ptrace.SUSPEND_SECCOMP if _filtered(pid) else 0
    held: set[int] = set()
    try:
        while new := _threads(pid) - held:
            for tid in new:
                _seize(pid, tid, options)
                held.add(tid)
                with suppress(ProcessLookupError):
                    ptrace.interrupt(tid)
        limit = time.monotonic() + _PATIENCE
        for tid in held:
            _wait(pid, tid, limit)
        yield lambda number, *arguments: ptrace.make_call(pid, number, *arguments)
    finally:
        for tid in held:
            with suppress(OSError):
                ptrace.detach(tid)


def _seize(pid: int, tid: int, options: int) -> None:
    try:
        ptrace.seize(tid, options)
    except ProcessLookupError:
        return
    except OSError as error:
        if options and error.errno in (errno.EPERM, errno.EINVAL):
            cause = "it runs under a seccomp filter, which might end it for a call of ours; only root can suspend that"
        else:
            cause = "it is another user's, it is traced already, or this system lets nobody trace (kernel.yama.ptrace_scope)"
        raise UnavailableError(f"process {pid} may not be stopped: {error.strerror}: {cause}") from None


def _wait(pid: int, tid: int, limit: float) -> None:
    while True:
        try:
            found, _ = os.waitpid(tid, _WALL | os.WNOHANG)
        except ChildProcessError:
            return
        if found:
            return
        if time.monotonic() > limit:
            raise UnavailableError(f"process {pid}: thread {tid} does not stop: it waits for something in the kernel")
        time.sleep(0.001)


def _threads(pid: int) -> set[int]:
    try:
        return {tid for name in os.listdir(f"/proc/{pid}/task") if (tid := decimal(name)) is not None}
    except OSError:
        raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}") from None


def _filtered(pid: int) -> bool:
    """Whether the process runs under a seccomp filter."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
        return "\nSeccomp:\t2" in status.read()
    return False
