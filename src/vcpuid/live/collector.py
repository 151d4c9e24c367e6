"""The stand-alone collector's command line.

tools/build_collector.py makes one file of this module and of all that it needs, for machines without vcpuid:
data/collector/vcpuid_collect.py.txt.
"""

from __future__ import annotations

import argparse
import errno
import os
import platform
import sys
import traceback
from contextlib import suppress
from typing import TextIO

from vcpuid.errors import UnavailableError, VcpuidError, tell_fault
from vcpuid.formats.lines import format_snapshot
from vcpuid.live.observe import observe
from vcpuid.live.qemu_version import with_qemu


def main() -> int:
    """Write a snapshot of this machine to standard output; returns the exit status, as vcpuid's own commands do."""
    parser = argparse.ArgumentParser(
        prog="vcpuid_collect",
        description="Write what this machine tells of its CPU and its KVM to standard output, as a snapshot for vcpuid.",
    )
    parser.add_argument("--cpu", type=int, metavar="N", help="the CPU whose answers are taken (the first one allowed)")
    parser.add_argument("--traceback", action="store_true", help="show where it failed, if it does")
    options = parser.parse_args()
    try:
        snapshot = with_qemu(observe(options.cpu))
        _answer("".join(line + "\n" for line in format_snapshot(snapshot)))
    except VcpuidError as error:
        _tell(str(error))
        return error.exit_status
    except Exception as fault:
        more = "" if options.traceback else ", --traceback shows the rest"
        status, line = tell_fault(fault, f"vcpuid's collector on Python {platform.python_version()}", more)
        if options.traceback:
            traceback.print_exc()
        _tell(line)
        return status
    for note in snapshot.notes:
        _tell(note)
    return 0


def _answer(text: str) -> None:
    """Write to standard output; that its reader has gone is no error. Raises UnavailableError."""
    try:
        _write(sys.stdout, text)
    except BrokenPipeError:
        pass
    except OSError as error:
        raise UnavailableError(f"standard output: cannot be written: {error.strerror}") from None


def _tell(line: str) -> None:
    """Write a line to standard error, as far as that takes it."""
    with suppress(OSError):
        _write(sys.stderr, f"vcpuid_collect: {line}\n")


def _write(stream: TextIO | None, text: str) -> None:
    """Write past the stream's buffer: when Python ends it would try once more, and fail. Of a stream that is closed Python has None."""
    if stream is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    left = text.encode(errors="backslashreplace")
    while left:
        left = left[os.write(stream.fileno(), left) :]
