"""Work on many classes at once: as many forks of this process as there are processors, each with its share.

A fork knows all that this process knows, so that nothing is read anew, and what it sends back comes through a pipe, which holds it up until
it is taken: the results come in order, and few are in memory. What a fork does not answer, since it met an error or was ended, is worked
out here: the error is then as it would have been. Forks end with whoever takes their answers, and by themselves where this process dies.
"""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO, TypeVar

T = TypeVar("T")
R = TypeVar("R")

SHARE = 16
"""Items that pay for a fork, of some 10 ms each: it takes as long as one or two of them."""

_HELD_OFF = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal sends to all processes: this one alone hears it."""


def on_each(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Give what `work` returns for each item, in their order; what it raises is raised where its item's turn comes.

    It must be picklable, and `work` must change nothing that is looked at afterwards. A process with more threads than one does it alone,
    since what they hold a fork would wait for.
    """
    hands = min(_processors(), len(items) // SHARE)
    if hands < 2 or not _single():
        yield from map(work, items)
        return
    with ExitStack() as held:
        shares: list[BinaryIO | None] = [held.enter_context(_fork(work, items[at::hands])) for at in range(hands)]
        for at, item in enumerate(items):
            share = shares[at % hands]
            try:
                if share is None:
                    raise EOFError
                found: R = pickle.load(share)  # a fork of this very process wrote it
            except (EOFError, pickle.UnpicklingError):
                shares[at % hands] = None
                found = work(item)
            yield found


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def _single() -> bool:
    """Tell whether this process has one thread: of whatever library, which only Linux tells."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


@contextmanager
def _fork(work: Callable[[T], R], items: Sequence[T]) -> Iterator[BinaryIO]:
    """Have a fork work on items; gives the pipe through which the results come, pickled."""
    reading, writing = os.pipe()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_OFF)
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            with open(writing, "wb") as answers:
                for item in items:
                    pickle.dump(work(item), answers, pickle.HIGHEST_PROTOCOL)
                    answers.flush()
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writing)
    try:
        with open(reading, "rb") as answers:
            yield answers
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
