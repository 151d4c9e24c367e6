"""The CPUID instruction, executed from Python with the standard library alone, on a CPU of choice."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from vcpuid.cpuid.registers import Registers
from vcpuid.cpuid.walk import Cpuid
from vcpuid.errors import UnavailableError

# void cpuid(uint32_t function /* edi */, uint32_t index /* esi */, uint32_t answer[4] /* rdx */), System V ABI; RBX is the caller's.
_CODE = bytes.fromhex(
    "f30f1efa"  # endbr64
    "53"  # push rbx
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8 + 4], ebx
    "41894808"  # mov [r8 + 8], ecx
    "4189500c"  # mov [r8 + 12], edx
    "5b"  # pop rbx
    "c3"  # ret
)


def instruction() -> Cpuid:
    """Return a function that executes CPUID on whichever CPU the calling thread runs.

    Its machine code lies in a page of its own, which is written first and made executable then, never both at once. Raises
    UnavailableError where there is no x86-64, or where the system's policy (SELinux, systemd's MemoryDenyWriteExecute) forbids
    executable memory; the kernel's /dev/cpu/N/cpuid (dev_cpu.py) needs none.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        raise UnavailableError("executing CPUID takes Linux on an x86-64 processor and a 64-bit Python")
    try:
        import ctypes
        import mmap

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC):
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))
    except (ImportError, OSError) as error:
        raise UnavailableError(f"no executable memory to put a CPUID instruction in ({error}); try cpu:N, the kernel's device") from None
    four = ctypes.c_uint32 * 4
    call = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))(address)

    def cpuid(function: int, index: int = 0, _page: object = page) -> Registers:  # _page: the code lives as long as the function
        answer = four()
        call(function, index, answer)
        return Registers(*answer)

    return cpuid


@contextmanager
def pinned(cpu: int | None = None) -> Iterator[int]:
    """Keep the calling thread on one CPU: on `cpu`, or else on the first that it may run on; yields which.

    The thread's affinity is as before afterwards, whatever happens. Raises UnavailableError where there is no such CPU or the thread
    may not run on it.
    """
    if sys.platform != "linux":
        raise UnavailableError("choosing a CPU takes Linux")
    before = os.sched_getaffinity(0)
    chosen = min(before) if cpu is None else cpu
    try:
        try:
            os.sched_setaffinity(0, {chosen})
        except (OSError, ValueError, OverflowError):
            raise UnavailableError(f"CPU {chosen}: there is none of that number here, or this process may not run on it") from None
        yield chosen
    finally:
        os.sched_setaffinity(0, before)
