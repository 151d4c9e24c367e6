"""The command line in this process, with streams of its own that are files in memory."""

from __future__ import annotations

import gc
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest.mock import patch

from vcpuid.cli import main


class Run(NamedTuple):
    """What a run came to."""

    status: int
    stdout: str
    stderr: str


def run(arguments: Sequence[str], stdin: bytes = b"") -> Run:
    """Run `vcpuid ARGUMENTS` from its `main` on; raises what that raises, but for SystemExit."""
    thresholds = gc.get_threshold()
    with ExitStack() as held:
        out, err = (held.enter_context(os.fdopen(os.memfd_create("stream"), "r+b")) for _ in range(2))
        held.callback(gc.set_threshold, *thresholds)
        held.enter_context(warnings.catch_warnings())
        held.enter_context(patch.object(sys, "argv", ["vcpuid", *arguments]))
        held.enter_context(_streams(stdin, out.fileno(), err.fileno()))
        status = 0
        try:
            main()
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        sys.stderr.flush()
        return Run(status, *(_content(file) for file in (out, err)))


def _content(file: io.BufferedRandom) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "surrogateescape")


@contextmanager
def _streams(stdin: bytes, stdout: int, stderr: int) -> Iterator[None]:
    """Put streams in the place of a process's own, where `vcpuid.cli.streams` finds them."""
    with (
        io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8") as read,
        open(stdout, "w", encoding="utf-8", closefd=False) as write,
        open(stderr, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as tell,
        patch.multiple(sys, stdin=read, stdout=write, __stdout__=write, stderr=tell, __stderr__=tell),
    ):
        yield
