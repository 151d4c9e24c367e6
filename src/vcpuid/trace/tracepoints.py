"""Tracepoints of the running kernel: their numbers, and where in an event's record each field stands, which differs by release.

tracefs tells, as `events/SYSTEM/NAME/id` and `…/format`. Where it is not mounted, it is mounted for this process alone and nowhere in
the tree (fsopen(2), Linux 5.2), so that there is nothing to take away afterwards.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from vcpuid.errors import InputError, UnavailableError
from vcpuid.numbers import decimal
from vcpuid.trace.bpf.syscalls import KernelObject, here

CPUID_EXITS = "(isa == 1 && exit_reason == 10) || (isa == 2 && exit_reason == 114)"
"""The events of kvm_exit that are CPUID's, on Intel and on AMD, as a filter in the kernel's words."""
MOUNTED = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOSE_ON_EXEC, _CONFIG_CREATE = 1, 6
_FIELD = re.compile(r"field:([^;]*?)(\w+)(?:\[[^];]*\])?;\s*offset:([0-9]{1,9});\s*size:([0-9]{1,9});")
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class RecordField:
    """Where a field stands in an event's record, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """A tracepoint: `number` is what perf_event_open(2) takes."""

    name: str
    number: int
    fields: Mapping[str, RecordField]

    def has(self, *names: str) -> bool:
        """Tell whether it has all of these fields."""
        return all(name in self.fields for name in names)


@dataclass(frozen=True, slots=True)
class Events:
    """KVM's tracepoints that tell of a CPUID exit: `cpuid` is the look-up, the others stand before it and know the guest's address."""

    cpuid: Tracepoint
    exit: Tracepoint
    emulate: Tracepoint

    @classmethod
    def of_kvm(cls, tracefs: str) -> Events:
        """Read them; raises UnavailableError where this kernel has none, or other ones."""
        found = cls(*(tracepoint(tracefs, "kvm", name) for name in _NEEDED))
        for event, fields in zip((found.cpuid, found.exit, found.emulate), _NEEDED.values(), strict=True):
            if not event.has(*fields):
                raise UnavailableError(f"this kernel's tracepoint kvm:{event.name} does not tell {' '.join(fields)}")
        return found


_NEEDED = {
    "kvm_cpuid": ("function", "rax", "rbx", "rcx", "rdx"),
    "kvm_exit": ("exit_reason", "isa", "guest_rip"),
    "kvm_emulate_insn": ("rip", "csbase", "insn"),
}
"""The fields that are read; kvm_cpuid's `index` is not in all releases."""


@contextmanager
def tracefs() -> Iterator[str]:
    """Yield a path of tracefs, good until the end of the `with`; raises UnavailableError where there is none to be had."""
    here()
    for path in MOUNTED:
        if os.path.exists(f"{path}/events"):
            yield path
            return
    with _mounted() as mount:
        yield f"/proc/self/fd/{mount.fd}"


def tracepoint(tracefs: str, system: str, name: str) -> Tracepoint:
    """Read a tracepoint; raises UnavailableError where the kernel has none of that name, or it may not be read."""
    folder = f"{tracefs}/events/{system}/{name}"
    try:
        with open(f"{folder}/id", encoding="ascii", errors="replace") as file:
            number = decimal(file.read(32).strip())
        with open(f"{folder}/format", encoding="ascii", errors="replace") as file:
            fields = read_format(file.read(_LARGEST))
    except FileNotFoundError:
        raise UnavailableError(f"this kernel has no tracepoint {system}:{name}{_why(tracefs, system)}") from None
    except OSError as error:
        raise UnavailableError(_unreadable(error)) from None
    if number is None:
        raise InputError("no number of a tracepoint", source=f"{folder}/id")
    return Tracepoint(name, number, fields)


def read_format(text: str) -> dict[str, RecordField]:
    """Read the fields out of the text of a `format` file, by name."""
    found = {}
    for _type, name, offset, size in _FIELD.findall(text):
        place, width = decimal(offset, _LARGEST), decimal(size, _LARGEST)
        if place is not None and width is not None:
            found[name] = RecordField(place, width)
    return found


_NOT_MOUNTED = "tracefs is not mounted here: mount -t tracefs tracefs /sys/kernel/tracing"


def _why(tracefs: str, system: str) -> str:
    if os.path.exists(f"{tracefs}/events/{system}"):
        return ""
    if system == "kvm":
        return ": KVM is not loaded, or built without tracepoints"
    return f": it has none of {system}"


def _unreadable(error: OSError) -> str:
    if error.errno in (errno.EACCES, errno.EPERM):
        return "tracefs: it may not be read here: tracing takes root, or CAP_BPF, CAP_PERFMON and the right to read /sys/kernel/tracing"
    return f"tracefs: {error.strerror}"


def _mounted() -> KernelObject:
    """Mount tracefs nowhere: a descriptor through which it can be read."""
    libc = ctypes.CDLL(None, use_errno=True)

    def call(number: int, *arguments: object) -> int:
        found: int = libc.syscall(ctypes.c_long(number), *arguments)
        if found < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return found

    try:
        with KernelObject(call(_FSOPEN, b"tracefs", ctypes.c_long(_CLOSE_ON_EXEC))) as made:
            call(_FSCONFIG, ctypes.c_long(made.fd), ctypes.c_long(_CONFIG_CREATE), None, None, ctypes.c_long(0))
            return KernelObject(call(_FSMOUNT, ctypes.c_long(made.fd), ctypes.c_long(_CLOSE_ON_EXEC), ctypes.c_long(0)))
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise UnavailableError("this kernel has no tracefs (CONFIG_TRACING is off)") from None
        if error.errno == errno.ENOSYS:
            raise UnavailableError(_NOT_MOUNTED) from None
        if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() == 0:
            raise UnavailableError(f"{_NOT_MOUNTED}; that takes CAP_SYS_ADMIN, which this process lacks") from None
        raise UnavailableError(_unreadable(error)) from None
