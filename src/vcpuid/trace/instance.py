"""A private instance of tracefs, in which tracing disturbs nobody; it is removed at any end of this process, SIGKILL included.

A descriptor is all that BPF and perf leave to the kernel to clean up. An instance is a directory and would stay. So a child of this process
does nothing but wait for its end: for the end of a pipe whose other side dies with this process. What even so is left behind, as when
both are killed at once, the next instance takes away.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import time
from contextlib import suppress

from vcpuid.errors import UnavailableError
from vcpuid.numbers import decimal

PREFIX = "vcpuid-"
_PATIENCE = 10.0
"""Seconds for which the child tries to remove the instance: while a dying process has it open, it is busy."""


class Instance:
    """An instance of tracefs, `path`, until it is closed. Raises UnavailableError where none can be made."""

    def __init__(self, tracefs: str) -> None:
        folder = f"{tracefs}/instances"
        _sweep(folder)
        self.path = f"{folder}/{PREFIX}{os.getpid()}-{_started(os.getpid())}-{secrets.token_hex(4)}"
        inner, self._alive = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _outlive(inner, self.path)
        os.close(inner)
        try:
            os.mkdir(self.path, 0o700)
        except OSError as error:
            self.close()
            raise UnavailableError(f"tracefs: no instance can be made: {error.strerror}") from None

    def close(self) -> None:
        """Remove the instance; a second time does nothing."""
        alive, self._alive = self._alive, -1
        if alive >= 0:
            with suppress(OSError):
                os.rmdir(self.path)
            os.close(alive)
            os.waitpid(self._child, 0)

    def write(self, name: str, text: str) -> None:
        """Write into a file of the instance; raises UnavailableError."""
        try:
            with open(f"{self.path}/{name}", "w", encoding="ascii") as file:
                file.write(text)
        except OSError as error:
            raise UnavailableError(f"tracefs: {name}: {error.strerror}") from None

    def read(self, name: str) -> str:
        """Read a file of the instance; raises UnavailableError."""
        try:
            with open(f"{self.path}/{name}", encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except OSError as error:
            raise UnavailableError(f"tracefs: {name}: {error.strerror}") from None


def _outlive(pipe: int, path: str) -> None:
    """Wait for the parent's end, remove the instance, and end: in the child, which runs nothing else of the program."""
    try:
        os.setsid()
        for ending in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(ending, signal.SIG_IGN)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        kept = {pipe, *_mount_of(path)}
        for name in os.listdir("/proc/self/fd"):
            if (number := decimal(name)) is not None and number > 2 and number not in kept:
                with suppress(OSError):
                    os.close(number)
        os.read(pipe, 1)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            try:
                os.rmdir(path)
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    break
                time.sleep(0.05)
    finally:
        os._exit(0)


def _mount_of(path: str) -> tuple[int, ...]:
    """Give the descriptor through which a path leads, where tracefs is mounted for this process alone."""
    parts = path.split("/")
    number = decimal(parts[4]) if path.startswith("/proc/self/fd/") else None
    return () if number is None else (number,)


def _sweep(folder: str) -> None:
    """Remove instances of processes that are no more."""
    with suppress(OSError):
        for name in os.listdir(folder):
            pid, _, rest = name.removeprefix(PREFIX).partition("-")
            number = decimal(pid)
            if name.startswith(PREFIX) and number is not None and _started(number) != rest.partition("-")[0]:
                with suppress(OSError):
                    os.rmdir(f"{folder}/{name}")


def _started(pid: int) -> str:
    """Tell when a process began, in the kernel's ticks; by that and its number it is one of its kind. "0" where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "0"
