"""The kernel's CPUID device, /dev/cpu/N/cpuid: the kernel executes the instruction on that CPU (Linux arch/x86/kernel/cpuid.c)."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from vcpuid.cpuid.registers import Registers
from vcpuid.cpuid.walk import Cpuid
from vcpuid.errors import UnavailableError


@contextmanager
def cpuid_device(cpu: int) -> Iterator[Cpuid]:
    """Open a CPU's device and yield a function that asks it; raises UnavailableError where that is not to be had.

    The position in the file is the question, index << 32 | function, and the 16 bytes there are EAX, EBX, ECX, EDX.
    """
    path = f"/dev/cpu/{cpu}/cpuid"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror} (the kernel module 'cpuid' makes it, and root may read it)") from None

    def cpuid(function: int, index: int = 0) -> Registers:
        try:
            return Registers(*struct.unpack("<4I", os.pread(descriptor, 16, index << 32 | function)))
        except (OSError, struct.error) as error:
            raise UnavailableError(f"{path}: cannot read leaf {function:x}.{index:x}: {error}") from None

    try:
        yield cpuid
    finally:
        os.close(descriptor)
