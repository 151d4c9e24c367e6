"""CPUID faulting: whether this machine lets the CPUIDs of user code fault, so that a tracer can see them. It is tried, not believed.

arch_prctl(ARCH_SET_CPUID, 0) makes every CPUID of a thread, and of those that it starts, raise SIGSEGV up to its next exec. Intel's
processors can do that since Ivy Bridge, AMD's since Zen 5 with newer kernels; KVM lets Linux guests of Intel's vendor do it on any.
Machines were seen that have the flag and do not fault.
"""

from __future__ import annotations

import ctypes
import os
import signal

from vcpuid.errors import UnavailableError
from vcpuid.live.instruction import instruction

ARCH_PRCTL, ARCH_SET_CPUID = 158, 0x1012
_RETURNED, _REFUSED = 1, 2


class NoFaultError(UnavailableError):
    """CPUID does not fault here."""


def require_faulting() -> None:
    """Raise NoFaultError where CPUID does not fault, with the reason. A child of this process tries it."""
    cpuid = instruction()
    libc = ctypes.CDLL(None, use_errno=True)
    leave = ctypes.cast(libc._exit, ctypes.c_void_p)
    libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, ctypes.c_void_p), ctypes.c_void_p
    child = os.fork()
    if child == 0:
        try:
            libc.signal(signal.SIGSEGV, leave)  # which leaves with the signal's number; Python's own handlers would not
            if libc.syscall(ARCH_PRCTL, ARCH_SET_CPUID, 0):
                os._exit(_REFUSED)
            cpuid(0, 0)
            os._exit(_RETURNED)
        finally:
            os._exit(_REFUSED)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == _REFUSED:
        raise NoFaultError("CPUID does not fault here: this processor, or the hypervisor below, does not let Linux make it")
    if status != signal.SIGSEGV:
        raise NoFaultError("CPUID does not fault here: Linux said that it would (arch_prctl(ARCH_SET_CPUID)), and it does not")
