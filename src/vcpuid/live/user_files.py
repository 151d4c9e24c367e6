"""Files in the user's folders, which several vcpuid may write, read or be stopped at, all at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(file: Path, text: str) -> None:
    """Write a file whole or not at all, whatever ends it: whoever reads it finds what was there before, or this. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    half = file.with_name(f".{file.name}.{os.urandom(8).hex()}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(file)
    except BaseException:
        half.unlink(missing_ok=True)
        raise


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep others out who hold the same lock, for as long as it takes; the file stays, empty. Raises OSError."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
