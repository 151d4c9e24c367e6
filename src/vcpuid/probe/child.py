"""Runs machine code that may fault, each piece in a process of its own. Stands alone: `process.py` starts it as a script.

Standard input: "permit COMPONENT" to ask Linux for an XSAVE component, or "run CODE SECONDS", the code in hexadecimal, one a line.
Standard output, a line for each: "0", or the errno of the refusal; then "answer EAX", "signal NUMBER" or "time".
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import signal
import struct
import sys

ARCH_PRCTL, ARCH_REQ_XCOMP_PERM = 158, 0x1023
PR_SET_PDEATHSIG = 1
FAILED = 255
FAULTS = (signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGTRAP, signal.SIGSYS)
SCRATCH = 4096

# long code(void *memory /* rdi */), System V ABI: the experiment has EAX, ECX and EDX zero and RSI 2 KiB behind RDI; RBX is the caller's.
BEFORE = bytes.fromhex("f30f1efa 53 488db700080000 31c0 31c9 31d2")  # endbr64; push rbx; lea rsi, [rdi+2048]; xor eax, ecx, edx
AFTER = bytes.fromhex("5b c3")  # pop rbx; ret

libc = ctypes.CDLL(None, use_errno=True)


def executable(code: bytes) -> tuple[int, mmap.mmap]:
    """Put code into a page that is first written and then executable, never both; its address holds as long as the page is kept."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(BEFORE + code + AFTER)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return address, page


def experiment(code: bytes, out: int) -> None:
    """Run code and write EAX to a pipe. A fault ends the process with the signal's number: no core, no line in the kernel's log."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    leave = ctypes.cast(libc._exit, ctypes.c_void_p)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    for number in FAULTS:
        libc.signal(number, leave)
    memory = mmap.mmap(-1, SCRATCH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    entry, _page = executable(code)
    answer = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p)(entry)(address)
    os.write(out, struct.pack("<I", answer))


def run(code: bytes, seconds: float) -> str:
    """Run code in a fork and say what came of it."""
    inner, outer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(inner)
            experiment(code, outer)
            os._exit(0)
        finally:
            os._exit(FAILED)
    os.close(outer)
    in_time = bool(select.select([inner], [], [], seconds)[0])
    if not in_time:
        os.kill(child, signal.SIGKILL)
    answer = os.read(inner, 4)
    os.close(inner)
    status = os.waitpid(child, 0)[1]
    if not in_time:
        return "time"
    if len(answer) == 4:
        return f"answer {struct.unpack('<I', answer)[0]}"
    return f"signal {os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)}"


def main() -> None:
    """Serve what comes in."""
    executable(b"")  # where the system forbids executable memory, the error is told at once
    for line in sys.stdin:
        order, first, *rest = line.split()
        if order == "permit":
            refused = libc.syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, int(first))
            print(ctypes.get_errno() if refused else 0, flush=True)
        else:
            print(run(bytes.fromhex(first), float(rest[0])), flush=True)


if __name__ == "__main__":
    main()
