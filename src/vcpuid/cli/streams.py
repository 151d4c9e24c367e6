"""Where output goes: standard output, standard error and the files of --output, with one rule for what goes wrong there.

A reader that has gone is no error: what is written further is dropped, and the verb ends as it would have, with its own exit status. Any
other error of writing is an UnavailableError, raised once. What cannot be written on standard error is dropped: it could be told nowhere.
A character that standard output's encoding lacks is written as its like in ASCII, or as `?`. What a terminal would obey is spelled out
(`safe`), on both streams; `styled` is for who colours on purpose, and `tell` for every line on standard error.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, BinaryIO, TextIO

from vcpuid.cli import safe
from vcpuid.errors import UnavailableError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ERRORS = "vcpuid-like"
_ASCII = 0x80
_ESCAPED = range(0xDC80, 0xDD00)
_BOXES, _BLOCKS = range(0x2500, 0x2580), range(0x2580, 0x25A0)
_HORIZONTAL, _VERTICAL = "─━┄┅┈┉╌╍═╴╶╸╺", "│┃┆┇┊┋╎╏║╵╷╹╻"


class _Outlet(io.RawIOBase):
    """A file descriptor to write to, until an error shuts it; `name` is what the error's message calls it, None for one that tells none."""

    def __init__(self, fd: int, name: str | None) -> None:
        self.fd, self.name, self.shut = fd, name, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.fd

    def isatty(self) -> bool:
        return os.isatty(self.fd)

    def write(self, data: ReadableBuffer) -> int:
        """Write what the descriptor takes, all of it to nowhere once it is shut; raises UnavailableError."""
        if not self.shut:
            try:
                return os.write(self.fd, data)
            except OSError as error:
                self.shut = True
                if self.name is not None and not isinstance(error, BrokenPipeError):
                    raise _unavailable(self.name, error) from None
        return memoryview(data).nbytes


class _Stream(io.TextIOWrapper):
    """A standard stream: what is written is cleaned, unless `styled` says that it was."""

    trusted = False

    def write(self, text: str) -> int:
        super().write(text if self.trusted else safe.clean(text))
        return len(text)


@contextmanager
def styled(stream: TextIO) -> Iterator[None]:
    """Let what is written pass as it is: colours around text that `safe` has cleaned."""
    if not isinstance(stream, _Stream):
        yield
        return
    stream.trusted = True
    try:
        yield
    finally:
        stream.trusted = False


class _Nowhere(io.TextIOBase):
    """What nobody is to see goes here."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


def hush() -> None:
    """Print nothing from now on but errors, as --quiet has it; what is written to files is."""
    sys.stdout = _Nowhere()


def hushed() -> bool:
    """Tell whether nothing but errors is printed."""
    return isinstance(sys.stdout, _Nowhere)


def tell(text: str, *, error: bool = False) -> None:
    """Print one line on standard error, after vcpuid's name; errors alone where all else is hushed."""
    if error or not hushed():
        print(f"vcpuid: {safe.message(text)}", file=sys.stderr)


def repeat(lines: Iterable[str]) -> None:
    """Print lines on standard error as another program prints them: what virsh says of an error, what QEMU logs."""
    for line in lines:
        print(safe.message(line), file=sys.stderr)


def heard() -> bool:
    """Tell whether standard output has a reader, as far as what was written and flushed tells."""
    buffer = sys.stdout.buffer if isinstance(sys.stdout, _Stream) else None
    raw = getattr(buffer, "raw", None)
    return not (isinstance(raw, _Outlet) and raw.shut)


def guard() -> None:
    """Put standard output and standard error under the rule; those that are not the interpreter's own are left alone.

    The descriptors of streams that were closed are taken, or the next file that is opened would be one of them: a recording would have in
    it what the recorded program prints.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free, which is this
    codecs.register_error(_ERRORS, _like)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, "standard output", _ERRORS)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, None, "backslashreplace")


def _guarded(stream: TextIO | None, name: str | None, errors: str) -> TextIO:
    """Wrap a standard stream's descriptor anew; Python has None for one that is closed."""
    if stream is None:
        return _Stream(io.BufferedWriter(_Outlet(-1, name)), "utf-8", errors)
    buffer = io.BufferedWriter(_Outlet(stream.fileno(), name))
    by_line = bool(stream.line_buffering) or bool(getattr(stream, "write_through", False))  # which PYTHONUNBUFFERED sets instead
    return _Stream(buffer, stream.encoding, errors, line_buffering=by_line)


@contextmanager
def opened(path: str, called: str | None = None) -> Iterator[TextIO]:
    """Open a file to write text as vcpuid reads it, gzipped where its name ends in .gz; `-` is standard output.

    Raises UnavailableError, which names the file as it is `called`, by default as it is.
    """
    name = called or path
    if path == "-":
        yield sys.stdout
        return
    try:
        outlet = _Outlet(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), name)
        buffer: BinaryIO = io.BufferedWriter(outlet)
        packed = None
        if name.endswith(".gz"):
            from gzip import GzipFile

            packed = GzipFile("", "wb", 9, buffer, 0)  # with neither name nor time, so that the same text is the same file
        stream = io.TextIOWrapper(packed or buffer, "utf-8", "surrogateescape")
        try:
            yield stream
            stream.flush()
            if packed is not None:
                packed.close()
            buffer.flush()
        finally:
            outlet.shut = True
            os.close(outlet.fd)
    except OSError as error:
        raise _unavailable(name, error) from None


@contextmanager
def replaced(path: str) -> Iterator[TextIO]:
    """Open a file as `opened` does, which others see whole or as it was before; raises UnavailableError.

    A pipe or a device is written as it is.
    """
    if path == "-" or (os.path.lexists(path) and not os.path.isfile(path)):
        with opened(path) as stream:
            yield stream
        return
    target = os.path.realpath(path)
    new = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.{os.getpid()}")
    try:
        with opened(new, path) as stream:
            yield stream
        os.replace(new, target)
    except OSError as error:
        raise _unavailable(path, error) from None
    finally:
        with suppress(OSError):
            os.unlink(new)


def reader_left() -> bool:
    """Tell whether nobody reads standard output any more, so that what takes long may end early."""
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(outlet, _Outlet) and outlet.shut


def _unavailable(name: str, error: OSError) -> UnavailableError:
    return UnavailableError(f"{name}: cannot be written: {error.strerror}")


def _like(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode one character that the encoding lacks; a byte of a file's name that is no text comes out as it is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, after = error.object[error.start], error.start + 1
    code = ord(character)
    if code in _ESCAPED:
        return bytes([code - 0xDC00]), after
    if code in _BOXES:
        return "-" if character in _HORIZONTAL else "|" if character in _VERTICAL else "+", after
    if code in _BLOCKS:
        return "#", after
    if character == "µ":  # of µops
        return "u", after
    from unicodedata import normalize

    return "".join(letter for letter in normalize("NFKD", character) if ord(letter) < _ASCII) or "?", after
