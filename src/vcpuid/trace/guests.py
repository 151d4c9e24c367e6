"""Which guest a VMM's process is, and which vCPU its thread: as Linux shows them, and as VMMs name them.

The kernel counts by numbers of its own. In a container's PID namespace they may be those of other processes, and none is looked up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from vcpuid.errors import InputError, UnavailableError
from vcpuid.live.processes import process_of
from vcpuid.numbers import decimal

_VCPU = re.compile(r"CPU ([0-9]{1,5})/KVM|(?:[a-z]+[_-])?vcpu[ _-]?([0-9]{1,5})")
"""Threads of QEMU and libvirt; of Firecracker (fc_vcpu 0), crosvm, Cloud Hypervisor, libkrun and kvmtool."""
_VM = "anon_inode:kvm-vm"
_QEMU_NAMES = ("-name", "--name")
_MOST = 1 << 17
_INITIAL_NAMESPACE = "pid:[4026531836]"
"""PROC_PID_INIT_INO: the PID namespace in which the kernel's own numbers are ours."""


@dataclass(frozen=True, slots=True)
class RunningGuest:
    """A VMM's process: its number, and the guest's name, or else the program's; "" where the process was gone before anybody looked."""

    pid: int
    name: str


class Guests:
    """Names of guests and vCPUs, looked up once: a process that is gone later keeps its name."""

    def __init__(self) -> None:
        self._guests: dict[int, RunningGuest] = {}
        self._vcpus: dict[tuple[int, int], int | None] = {}

    def guest(self, pid: int, comm: str = "") -> RunningGuest:
        """Name the guest of a process; `comm` is the thread's name, which serves where the process is gone."""
        if pid not in self._guests:
            self._guests[pid] = RunningGuest(pid, (numbers_are_ours() and (_guest_name(pid) or _comm(pid))) or comm)
        return self._guests[pid]

    def vcpu(self, pid: int, tid: int, comm: str = "") -> int | None:
        """Give a vCPU's number, by its thread's name; None where that does not tell."""
        if (pid, tid) not in self._vcpus:
            found = _VCPU.fullmatch((numbers_are_ours() and _comm(pid, tid)) or comm)
            self._vcpus[pid, tid] = decimal(found[1] or found[2]) if found else None
        return self._vcpus[pid, tid]

    def learn(self, threads: Iterable[tuple[int, int]], comms: Mapping[tuple[int, int], str]) -> None:
        """Look up all of these threads, by process and thread, while they are there; `comms` are names that the kernel told."""
        for pid, tid in threads:
            comm = comms.get((pid, tid), "")
            self.guest(pid, comm)
            self.vcpu(pid, tid, comm)


def running() -> Iterator[RunningGuest]:
    """Give the guests that run on this machine: processes that hold a KVM virtual machine, as far as this user may see."""
    guests = Guests()
    for name in sorted(os.listdir("/proc"), key=lambda name: (len(name), name)):
        if (pid := decimal(name)) is not None and _holds_vm(pid):
            yield guests.guest(pid)


def named(name: str) -> int:
    """Find the process of a guest by its name. Raises InputError where several have it, UnavailableError where none has."""
    all_of = list(running())
    found = [guest.pid for guest in all_of if guest.name == name]
    if len(found) > 1:
        raise InputError(f"guest {name!r}: processes {', '.join(map(str, found))} have this name; take --pid")
    if not found:
        others = ", ".join(f"{guest.name} ({guest.pid})" for guest in all_of)
        raise UnavailableError(f"no guest named {name!r} runs here{f'; there are {others}' if others else ', nor any other'}")
    return found[0]


def require(pid: int) -> None:
    """Raise UnavailableError where a number that somebody gave is no process."""
    if not os.path.exists(f"/proc/{pid}"):
        raise UnavailableError(f"there is no process {pid}")
    if (process := process_of(pid)) != pid:
        raise UnavailableError(f"{pid} is a thread of process {process}, and no process")


@cache
def numbers_are_ours() -> bool:
    """Tell whether the kernel's process numbers are those that this process sees: it is not in a container's PID namespace."""
    try:
        return os.readlink("/proc/self/ns/pid") == _INITIAL_NAMESPACE
    except OSError:
        return False


def _guest_name(pid: int) -> str:
    """Read the guest's name off the command line of QEMU: -name NAME, or -name guest=NAME,…"""
    words = _text(f"/proc/{pid}/cmdline").split("\0")
    for option, value in pairwise(words):
        if option in _QEMU_NAMES:
            parts = value.replace(",,", "\0").split(",")
            for part in parts:
                key, equals, told = part.partition("=")
                if key == "guest" and equals:
                    return told.replace("\0", ",")
            if "=" not in parts[0]:
                return parts[0].replace("\0", ",")
    return ""


def _comm(pid: int, tid: int | None = None) -> str:
    return _text(f"/proc/{pid}/comm" if tid is None else f"/proc/{pid}/task/{tid}/comm").removesuffix("\n")


def _text(path: str) -> str:
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read(_MOST)
    return ""


def _holds_vm(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):
                if os.readlink(f"{folder}/{name}") == _VM:
                    return True
    return False
