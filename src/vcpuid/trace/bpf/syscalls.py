"""bpf(2) and perf_event_open(2) by ctypes, on Linux on x86-64, and what their errors mean to somebody who wants to trace."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from vcpuid.errors import UnavailableError

_BPF, _PERF_EVENT_OPEN = 321, 298
"""Numbers of the system calls (arch/x86/entry/syscalls/syscall_64.tbl)."""
ATTRIBUTES = 144
"""Bytes handed over as attributes: a kernel that knows fewer takes them all the same, as long as the rest is zero."""
_PERF_ATTRIBUTES = 128
_CLOSE_ON_EXEC = 8
_LOCKDOWN = Path("/sys/kernel/security/lockdown")


class KernelObject:
    """Something of the kernel's that lives as long as its descriptor; closed by `close` or at the end of a `with`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; a second time does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def here() -> None:
    """Raise UnavailableError where this is not Linux on x86-64 with a 64-bit Python."""
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        raise UnavailableError("tracing takes Linux on x86-64 and a 64-bit Python")


def bpf(command: int, attributes: bytes) -> int:
    """Call bpf(2) and return what it returns; raises OSError as the kernel says it."""
    buffer = ctypes.create_string_buffer(attributes, ATTRIBUTES)
    return _call(_BPF, command, ctypes.addressof(buffer), ATTRIBUTES)


def perf_event_open(attributes: bytes, pid: int, cpu: int) -> int:
    """Open an event of a process (-1 for all) on a CPU (-1 for any) and return its descriptor; raises OSError as the kernel says it."""
    buffer = ctypes.create_string_buffer(attributes, _PERF_ATTRIBUTES)
    return _call(_PERF_EVENT_OPEN, ctypes.addressof(buffer), pid, cpu, -1, _CLOSE_ON_EXEC)


def bpf_lacking(error: OSError) -> UnavailableError:
    """Say in one line what the kernel's refusal of bpf(2) means, and what helps."""
    if error.errno == errno.ENOSYS:
        return UnavailableError("bpf(2): this kernel has none (CONFIG_BPF_SYSCALL is off)")
    return _lacking("bpf(2)", "CAP_BPF and CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN)", error)


def perf_lacking(error: OSError) -> UnavailableError:
    """Say in one line what the kernel's refusal of perf_event_open(2) means, and what helps."""
    if error.errno in (errno.ENOSYS, errno.ENOENT, errno.EOPNOTSUPP):
        return UnavailableError("perf_event_open(2): this kernel has none for tracepoints (CONFIG_PERF_EVENTS, CONFIG_EVENT_TRACING)")
    return _lacking("perf_event_open(2)", "CAP_PERFMON (before Linux 5.8 CAP_SYS_ADMIN)", error)


def _lacking(what: str, needs: str, error: OSError) -> UnavailableError:
    if error.errno not in (errno.EPERM, errno.EACCES):
        return UnavailableError(f"{what}: {error.strerror}")
    if locked := _locked():
        return UnavailableError(f"{what}: kernel lockdown ({locked}) forbids to read kernel memory; boot without it to trace")
    if os.geteuid() == 0:
        return UnavailableError(f"{what}: {error.strerror}: it takes {needs}, and this container or its seccomp filter keeps them back")
    return UnavailableError(f"{what}: {error.strerror}: it takes root, or {needs}")


def _locked() -> str | None:
    """Tell the mode of kernel lockdown where it is one that refuses tracing."""
    try:
        told = _LOCKDOWN.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return "confidentiality" if "[confidentiality]" in told else None


def _call(number: int, *arguments: int) -> int:
    here()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    found: int = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if found < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return found
