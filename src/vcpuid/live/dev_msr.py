"""The kernel's MSR device, /dev/cpu/N/msr: the kernel executes RDMSR on that CPU (Linux arch/x86/kernel/msr.c). Nothing is written."""

from __future__ import annotations

import errno
import os
import struct

from vcpuid.cpuid.hardware_msrs import COMMON, OF_AMD, OF_INTEL
from vcpuid.cpuid.registers import MsrTable
from vcpuid.cpuid.vendors import AMD_AND_HYGON, INTEL
from vcpuid.errors import UnavailableError

_REASONS = {
    errno.ENOENT: "load the kernel module msr (modprobe msr)",
    errno.EACCES: "root may read it",
    errno.EPERM: "root may read it, unless the kernel is locked down or a container keeps CAP_SYS_RAWIO from it",
    errno.ENXIO: "this CPU is offline, or has no MSRs",
}


def read_msrs(cpu: int, vendor: str) -> MsrTable:
    """Read the MSRs of a CPU that rules ask for; those on which RDMSR raises #GP are listed as refused.

    Raises UnavailableError, with what can be done about it, where the kernel does not let us.
    """
    path = f"/dev/cpu/{cpu}/msr"
    wanted = COMMON + (OF_INTEL if vendor == INTEL else OF_AMD if vendor in AMD_AND_HYGON else ())
    values = {}
    refused = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot_read(path, error) from None
    try:
        for index in wanted:
            try:
                values[index] = struct.unpack("<Q", os.pread(descriptor, 8, index))[0]
            except OSError as error:
                if error.errno != errno.EIO:
                    raise _cannot_read(path, error) from None
                refused.append(index)
    except struct.error:
        raise UnavailableError(f"{path} is not the kernel's: it gives less than eight bytes") from None
    finally:
        os.close(descriptor)
    return MsrTable(values, refused)


def _cannot_read(path: str, error: OSError) -> UnavailableError:
    help_ = _REASONS.get(error.errno or 0)
    return UnavailableError(f"{path}: {error.strerror}{f': {help_}' if help_ else ''}")
