"""A command and all that it starts under ptrace: threads, children, programs that it becomes.

It runs as it would alone: signals reach it, Ctrl-Z stops it, and it ends when its tracer does, however that ends (PTRACE_O_EXITKILL).
"""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import NamedTuple, Self

from vcpuid.errors import InputError, UnavailableError
from vcpuid.live import ptrace, seccomp

_WALL = 0x40000000
_OPTIONS = ptrace.SYSGOOD | ptrace.FORKS | ptrace.EXECS | ptrace.SECCOMP | ptrace.EXITKILL
_FORKED = (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE)
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_LOOK_AGAIN = 0.05
"""Seconds. A SIGCHLD that comes just before it is waited for is lost where another thread of this process, which ignores it, gets it."""
_OF_KERNEL = 0x80
"""SI_KERNEL: the kernel sent the signal, as it does for a terminal's keys, to the command as well."""


class Kind(Enum):
    """Why a thread stopped."""

    CALL = "call"
    """At a system call, by the seccomp filter, or by `ptrace.go_to_call`, which stops at a call's entry and at the return alike."""
    RETURN = "return"
    """At a return from a system call, or an entry to one."""
    EXEC = "exec"
    """The process became another program. Its other threads are gone, and the thread has the number of the process."""
    SIGNAL = "signal"
    """A signal is to be delivered: give it to `ptrace.go`, or keep it from the thread."""
    GONE = "gone"
    """The thread has ended: there is nothing to set going."""
    LEFT = "left"
    """The command has ended, and this thread of what it left running is to go on without a tracer: `ptrace.detach` it."""


class Stop(NamedTuple):
    """A thread that stopped; `signal` is the one to be delivered, and `was` the number that it had before an exec."""

    tid: int
    kind: Kind
    signal: int = 0
    was: int = 0


class Tracees:
    """A command under ptrace, from its first instruction on. `filter_` is a seccomp filter (`seccomp.program`) whose calls stop it.
    `resume` sets a thread going after a stop that is nobody's business, `ptrace.go` or `ptrace.step`.

    Raises InputError where the command cannot be started, UnavailableError where the system lets nobody trace. `status` is what the
    command ended with, as a shell tells it: its exit status, or 128 and the signal's number; None while it runs.

    Whatever other children this process has, `stops` takes note of their end too: use it in a process without any.
    """

    def __init__(self, command: Sequence[str], filter_: bytes | None = None, *, resume: Callable[[int], None] = ptrace.go) -> None:
        self._resume = resume
        self.status: int | None = None
        self._threads: set[int] = set()
        self._leaving = False
        self._waited = _ENDING
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_ENDING, signal.SIGCHLD})
        try:
            self.pid = self._start(command, filter_)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End what still runs, and give the signals back."""
        for tid in self._threads:
            with suppress(ProcessLookupError):
                os.kill(tid, signal.SIGKILL)
        while self._threads:
            try:
                tid, status = os.waitpid(-1, _WALL)
            except ChildProcessError:
                break
            if not os.WIFSTOPPED(status):
                self._threads.discard(tid)
        self._threads.clear()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _start(self, command: Sequence[str], filter_: bytes | None) -> int:
        """Start the command: its child waits until it has its tracer, puts itself under the filter, and becomes the program."""
        begin, started = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            os.close(begin[1])
            _become(command, filter_, begin[0], started[1], self._mask)
        self._threads.add(pid)
        os.close(begin[0])
        os.close(started[1])
        try:
            ptrace.seize(pid, _OPTIONS)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise UnavailableError(
                f"ptrace: {error.strerror}: this system lets nobody trace (kernel.yama.ptrace_scope, a container)"
            ) from None
        finally:
            os.close(begin[1])
        self._started, self._command = started[0], command[0]
        return pid

    def stops(self, seconds: float | None = None, *, alone: bool = False) -> Iterator[Stop]:
        """Yield each stop that matters, up to the end of all processes; whoever takes one sets its thread going, but for GONE.

        The signals that end programs are passed on to the command. After so many seconds it gets SIGTERM. With `alone` it is over when the
        command has ended, with a LEFT for each thread of what it left running.
        """
        limit = None if seconds is None else time.monotonic() + seconds
        while self._threads:
            if alone and self.status is not None and not self._leaving:
                self._leave()
            try:
                tid, status = os.waitpid(-1, _WALL | os.WNOHANG)
            except ChildProcessError:
                return
            if tid:
                stop = self._look(tid, status)
                if stop is not None:
                    yield stop
                continue
            limit = self._wait(limit)

    def _leave(self) -> None:
        """Make all that still runs stop, to be let go."""
        self._leaving = True
        for tid in self._threads:
            with suppress(ProcessLookupError):
                ptrace.interrupt(tid)

    def stop_of(self, tid: int) -> Stop | None:
        """Wait for the next stop of one thread, which does nothing that could take long; None for what is nobody's business."""
        return self._look(*os.waitpid(tid, _WALL))

    def _wait(self, limit: float | None) -> float | None:
        """Wait for a signal: a child's, which says that one has stopped, or one to pass on. Return the time limit that is left."""
        left = _LOOK_AGAIN if limit is None else min(_LOOK_AGAIN, limit - time.monotonic())
        came = signal.sigtimedwait({*self._waited, signal.SIGCHLD}, max(0, left))
        if came is None:
            if limit is None or time.monotonic() < limit:
                return limit
            self._tell(signal.SIGTERM)
            return None
        if came.si_signo != signal.SIGCHLD and (came.si_code != _OF_KERNEL or self.status is not None):
            self._tell(came.si_signo)
        return limit

    def _tell(self, number: int) -> None:
        """Send a signal to the command; where that has ended, to what it left running, which no terminal may reach any more."""
        for pid in (self.pid,) if self.status is None else tuple(self._threads):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _look(self, tid: int, status: int) -> Stop | None:
        """Say what a change of a thread's state is; None for what is nobody's business, with the thread set going again."""
        if not os.WIFSTOPPED(status):
            self._threads.discard(tid)
            if tid == self.pid:
                self._ended(status)
            return Stop(tid, Kind.GONE)
        self._threads.add(tid)
        number, event = os.WSTOPSIG(status), status >> 16
        if event == ptrace.EVENT_SECCOMP:
            return Stop(tid, Kind.CALL)
        if number == signal.SIGTRAP | ptrace.SYSCALL_STOP:
            return Stop(tid, Kind.RETURN)
        with suppress(ProcessLookupError):  # killed meanwhile: its end comes next
            if event == ptrace.EVENT_EXEC:
                self._check_start()
                was = ptrace.event_message(tid)
                self._threads -= {was} - {tid}
                return Stop(tid, Kind.EXEC, was=was)
            if event in _FORKED:
                self._threads.add(ptrace.event_message(tid))
                self._resume(tid)
            elif event == ptrace.EVENT_STOP and self._leaving:
                self._threads.discard(tid)
                return Stop(tid, Kind.LEFT)
            elif event == ptrace.EVENT_STOP and number in _STOPPING:
                ptrace.stay(tid)
            elif event:
                self._resume(tid)
            else:
                return Stop(tid, Kind.SIGNAL, number)
        return None

    def _ended(self, status: int) -> None:
        self.status = os.waitstatus_to_exitcode(status)
        if self.status < 0:
            self.status = 128 - self.status
        self._check_start()

    def _check_start(self) -> None:
        """Raise InputError where the child could not become the program: it has written why, else nothing."""
        descriptor, self._started = self._started, -1
        if descriptor < 0:
            return
        told = os.read(descriptor, 64) if select.select([descriptor], [], [], 0)[0] else b""
        os.close(descriptor)
        if told:
            number = int.from_bytes(told[1:5], "little")
            if told[:1] == b"f":
                raise UnavailableError(f"seccomp: {os.strerror(number)}: this system takes no filter of system calls")
            folder = "it is a folder, and no program" if os.path.isdir(self._command) else os.strerror(number)
            cause = "there is no such program" if number == errno.ENOENT else folder
            raise InputError(cause, source=self._command)


def _become(command: Sequence[str], filter_: bytes | None, begin: int, started: int, mask: set[int]) -> None:
    """In the child: wait for the tracer, then become the command; of what goes wrong, write what it was."""
    what = b"f"
    try:
        os.read(begin, 1)
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if filter_ is not None:
            seccomp.install(filter_)
        what = b"x"
        os.execvp(command[0], list(command))
    except OSError as error:
        os.write(started, what + (error.errno or 0).to_bytes(4, "little"))
    except ValueError:  # Python asks the kernel neither for an empty name, which that would not find, nor with zeros in an argument
        os.write(started, what + (errno.EINVAL if command[0] else errno.ENOENT).to_bytes(4, "little"))
    finally:
        os._exit(127)
