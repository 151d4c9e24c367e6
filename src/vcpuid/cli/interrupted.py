"""A signal that ends what goes on until somebody says so, and lets the verb answer: Ctrl-C, and what `timeout` and systemd send."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupted() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT, SIGTERM or SIGHUP has come; a second one ends the program as everywhere.

    Those that are ignored, as SIGINT is for what a script runs in the background, stay so.
    """
    came: list[int] = []
    before = {number: handler for number in _ENDING if (handler := signal.getsignal(number)) is not signal.SIG_IGN}

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(came)
    finally:
        restore()
