"""Programs: loaded through the kernel's verifier, attached to tracepoints by perf events, or to iterators by links."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from enum import IntEnum

from vcpuid.errors import UnavailableError
from vcpuid.trace.bpf.maps import NAME
from vcpuid.trace.bpf.syscalls import KernelObject, bpf, bpf_lacking, perf_event_open, perf_lacking
from vcpuid.trace.online import online_cpus

_LOAD, _INFO_BY_FD, _RAW_TRACEPOINT_OPEN, _LINK_CREATE, _ITERATOR_CREATE = 5, 15, 17, 28, 33
LICENSE = b"Dual BSD/GPL"
"""What the kernel asks of whoever calls its helpers: the programs that vcpuid loads may be taken under these as well."""
_LOG = 1 << 16
_INFO, _MISSED = 232, 208
"""Bytes of struct bpf_prog_info, and where it counts the times that a program was passed over (recursion_misses, Linux 5.12)."""

_TYPE_TRACEPOINT, _ALL_BITS = 2, 128
_SAMPLE_RAW = 1 << 10
_SET_BPF, _ENABLE = 0x40042408, 0x2400


class ProgramKind(IntEnum):
    """What a program is (enum bpf_prog_type)."""

    TRACEPOINT = 5
    RAW_TRACEPOINT = 17
    TRACING = 26


ITERATOR = 28
"""BPF_TRACE_ITER: where a TRACING program is attached that walks the kernel's objects."""


class Program(KernelObject):
    """A loaded program; `attach_type` and `btf_id`, of the function that it is attached to, serve TRACING programs.

    Raises UnavailableError where this kernel does not load it, with what the verifier says.
    """

    def __init__(self, code: bytes, kind: ProgramKind, *, attach_type: int = 0, btf_id: int = 0) -> None:
        instructions = ctypes.create_string_buffer(code, len(code))
        license_ = ctypes.create_string_buffer(LICENSE)
        log = ctypes.create_string_buffer(_LOG)

        def load(level: int) -> int:
            said = (level, _LOG, ctypes.addressof(log)) if level else (0, 0, 0)
            head = struct.pack("<IIQQIIQ", kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(license_), *said)
            return bpf(_LOAD, head + struct.pack("<II16sIIIIQIIQIII", 0, 0, NAME, 0, attach_type, 0, 0, 0, 0, 0, 0, 0, btf_id, 0))

        try:
            super().__init__(load(0))
        except OSError:
            try:
                super().__init__(load(1))  # once more, for the log
            except OSError as error:
                raise _refused(error, log.value) from None

    def missed(self) -> int:
        """Count the times that the kernel passed this program over, 0 where it does not count them."""
        info = ctypes.create_string_buffer(_INFO)
        try:
            bpf(_INFO_BY_FD, struct.pack("<IIQ", self.fd, _INFO, ctypes.addressof(info)))
        except OSError:
            return 0
        missed: int = struct.unpack_from("<Q", info.raw, _MISSED)[0]
        return missed


def on_tracepoint(program: Program, number: int) -> KernelObject:
    """Run a program whenever the tracepoint of a number fires, on any CPU, until what is returned is closed.

    The event counts on one CPU alone; its program runs on all. Raises UnavailableError where the kernel refuses it.
    """
    attributes = struct.pack("<IIQQQ", _TYPE_TRACEPOINT, _ALL_BITS, number, 1, _SAMPLE_RAW)
    try:
        event = KernelObject(perf_event_open(attributes, -1, online_cpus()[0]))
    except OSError as error:
        raise perf_lacking(error) from None
    try:
        fcntl.ioctl(event.fd, _SET_BPF, program.fd)
        fcntl.ioctl(event.fd, _ENABLE, 0)
    except OSError as error:
        event.close()
        raise bpf_lacking(error) from None
    return event


def on_raw_tracepoint(program: Program, name: str) -> KernelObject:
    """Run a RAW_TRACEPOINT program whenever the tracepoint of a name fires, until what is returned is closed.

    No record is made: the program finds the tracepoint's arguments, 8 bytes each. Raises UnavailableError where the kernel refuses it, as
    before Linux 4.17, or 5.0 where the tracepoint is a module's.
    """
    room = ctypes.create_string_buffer(name.encode())
    try:
        return KernelObject(bpf(_RAW_TRACEPOINT_OPEN, struct.pack("<QI", ctypes.addressof(room), program.fd)))
    except OSError as error:
        raise bpf_lacking(error) from None


def iterate(program: Program, about: bytes = b"") -> bytes:
    """Run an iterator once and return all that it wrote; `about` is its union bpf_iter_link_info, which restricts it where the kernel can.

    Raises UnavailableError where the kernel refuses it; OSError(EINVAL) where it does not know what `about` asks for.
    """
    info = ctypes.create_string_buffer(about, max(len(about), 1))
    asked = (ctypes.addressof(info), len(about)) if about else (0, 0)
    try:
        with (
            KernelObject(bpf(_LINK_CREATE, struct.pack("<4IQI", program.fd, 0, ITERATOR, 0, *asked))) as link,
            KernelObject(bpf(_ITERATOR_CREATE, struct.pack("<II", link.fd, 0))) as reader,
        ):
            return b"".join(iter(lambda: os.read(reader.fd, 1 << 16), b""))
    except OSError as error:
        if about and error.errno in (errno.EINVAL, errno.E2BIG):
            raise
        raise bpf_lacking(error) from None


def _refused(error: OSError, log: bytes) -> UnavailableError:
    if error.errno in (errno.EPERM, errno.ENOSYS) or not log:
        return bpf_lacking(error)
    lines = [line for line in log.decode("utf-8", "replace").splitlines() if line and not line.startswith("processed ")]
    return UnavailableError(f"this kernel's verifier refuses the BPF program: {lines[-1] if lines else error.strerror}")
