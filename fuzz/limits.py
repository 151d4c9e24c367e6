"""The limits within which one input is tried: processor time, time, memory."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PATIENCE = 60
"""How much longer than its processor time an input may take, on a busy machine or waiting."""

_PAGE = resource.getpagesize()


class TooLong(BaseException):
    """An input that takes too long. No Exception: what catches these must not catch it."""


def _strike(number: int, frame: FrameType | None) -> None:
    raise TooLong


@contextmanager
def limited(seconds: float, mebibytes: int) -> Iterator[None]:
    """Raise TooLong in the block after so many seconds of processor time, and MemoryError where it maps so much more memory.

    The time strikes again until the block has ended: what swallows one exception does not get away. Only in the main thread.
    """
    struck_before = [(number, signal.signal(number, _strike)) for number in (signal.SIGPROF, signal.SIGALRM)]
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = _mapped() + (mebibytes << 20)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (ceiling if hard == resource.RLIM_INFINITY else min(ceiling, hard), hard))
        signal.setitimer(signal.ITIMER_PROF, seconds, 1)
        signal.setitimer(signal.ITIMER_REAL, seconds * _PATIENCE, 1)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in struck_before:
            signal.signal(number, handler)


def _mapped() -> int:
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * _PAGE


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * _PAGE
