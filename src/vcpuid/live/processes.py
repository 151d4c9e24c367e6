"""What Linux tells of other processes: whose thread one is, and which program it runs."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import re
from contextlib import suppress

from vcpuid.errors import UnavailableError
from vcpuid.numbers import decimal

_QEMU = b"QEMU emulator version "
_LARGEST = 1 << 28
_WORDS, _LETTERS = 1024, 1 << 15
_VCPU = re.compile(r"anon_inode:\[?kvm-vcpu(?::([0-9]{1,5}))?\]?")
"""The file of a vCPU; since Linux 6.3 there are files of its statistics, kvm-vcpu-stats, too."""
_KCMP, _KCMP_FILE = 312, 0
_STATUS = re.compile(r"^Tgid:\s*([0-9]+)$", re.MULTILINE)


def process_of(tid: int) -> int:
    """Return the process of a thread; the thread's own number where it is gone."""
    with suppress(OSError), open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as status:
        told = _STATUS.search(status.read())
        return tid if told is None else decimal(told[1]) or tid
    return tid


def vcpu_files(pid: int) -> dict[int, int | None]:
    """Give the descriptors of a process that are vCPUs, each with its vCPU's number where the file's name tells it.

    Raises UnavailableError where the process is none of this user's, ProcessLookupError where there is none.
    """
    found: dict[int, int | None] = {}
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, f"there is no process {pid}") from None
    except PermissionError:
        raise UnavailableError(f"process {pid}: its files are not to be seen: it is another user's") from None
    for name in names:
        with suppress(OSError):
            told = _VCPU.fullmatch(os.readlink(f"{folder}/{name}"))
            if told and (descriptor := decimal(name)) is not None:
                found[descriptor] = None if told[1] is None else decimal(told[1])
    return _each_once(pid, found)


def _each_once(pid: int, found: dict[int, int | None]) -> dict[int, int | None]:
    """Leave out further descriptors of a vCPU that has one, where the kernel tells (kcmp(2))."""
    kept: dict[int, int | None] = {}
    for descriptor in sorted(found):
        if not any(found[other] == found[descriptor] and _same_file(pid, other, descriptor) for other in kept):
            kept[descriptor] = found[descriptor]
    return kept


def _same_file(pid: int, one: int, other: int) -> bool:
    libc = ctypes.CDLL(None)
    same: int = libc.syscall(_KCMP, pid, pid, _KCMP_FILE, one, other)
    return same == 0


def describe(pid: int) -> dict[str, object]:
    """Name a process's program, its command line, and what its file says of its version, as far as that is to be seen."""
    found: dict[str, object] = {}
    with suppress(OSError):
        found["exe"] = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    with suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace", newline="") as file:
        found["argv"] = file.read(_LETTERS).removesuffix("\0").split("\0")[:_WORDS]
    if version := _version(pid, str(found.get("exe", ""))):
        found["program"] = version
    return found


def _version(pid: int, name: str) -> str | None:
    """Look for QEMU's version where its own --version prints it from: nothing is run for it."""
    if not ("qemu" in name or name == "kvm"):
        return None
    with suppress(OSError, ValueError), open(f"/proc/{pid}/exe", "rb") as file:
        if os.fstat(file.fileno()).st_size > _LARGEST:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            at = text.find(_QEMU)
            if at >= 0:
                line = text[at : at + 256].partition(b"\0")[0].partition(b"\n")[0]
                return line.decode("utf-8", "replace").replace("QEMU emulator version", "QEMU", 1).strip()
    return None
