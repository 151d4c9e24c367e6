"""A Ctrl-C that ends what goes on until somebody says so, and lets the verb answer: the first one only."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupted() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a Ctrl-C (SIGINT) has come; a second one ends the program as everywhere.

    Where SIGINT is ignored, as for what a shell runs in the background, it stays so.
    """
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        yield lambda: False
        return

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGINT, before)
