"""Text out of a file or standard input, plain or gzip, within bounded memory."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import sys
import time
import zlib
from contextlib import suppress
from typing import BinaryIO

from vcpuid.errors import InputError
from vcpuid.formats.absent import or_near

SIZE_LIMIT = 16 << 20
"""Bytes of text. A snapshot has some tens of kilobytes, a dump of every CPU of the largest machines some megabytes."""

LINE_LIMIT = 1 << 16
"""Bytes of a line; the longest that Linux prints, the flags of /proc/cpuinfo, has some thousands. JSON and XML may be all one line."""

_USUAL = 1 << 17
"""Bytes that hold most dumps."""

_NOBODY, _LOOK = 10.0, 50
"""Seconds for which a named pipe may have nobody who writes into it, and milliseconds between two looks."""

_GZIP = b"\x1f\x8b"
_DOCUMENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:[{<]|\[\s*(?:[]{[\"]|-?[0-9]+\s*,))")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_CONTROLS = bytes(range(0x20)).translate(None, b"\t\n\r")
_COLOUR = re.compile(rb"\x1b\[[0-9;]{0,20}[mK]")
_CONTROL = re.compile(rb"[%s]|\r(?!\n)" % re.escape(_CONTROLS))


def read_text(source: str | os.PathLike[str], *, colours: bool = False, waiting: bool = True) -> tuple[str, str]:
    """Return the name to call a source by in messages, and its text with `\\n` line ends; `-` is standard input.

    `colours` is for what people copy from terminals and logs: a terminal's colours are left out instead of being no text. A file of the
    kernel's, or a device, may have nothing to read before something happens: it is empty then. A pipe is read up to its end, and a terminal
    for as long as somebody types; without `waiting` they are no other than the rest.

    Raises InputError for what cannot be read, for a pipe into which nobody writes, for damaged gzip data, and for what is not UTF-8 text or
    larger than any dump of CPUID.
    """
    name = "standard input" if source == "-" else os.fspath(source)
    if source == "-" and sys.stdin is None:
        raise InputError("it is closed", source=name)
    try:
        if source == "-":
            data = _take(sys.stdin.buffer)
        else:
            with open(source, "rb", opener=_open_at_once) as file:
                data = (_begun(file.fileno(), name) if waiting else b"") + _take(file)
    except FileNotFoundError as error:
        raise InputError(or_near(os.strerror(error.errno or 0), name), source=name) from None
    except OSError as error:
        raise InputError(error.strerror or str(error), source=name) from None
    except ValueError as error:  # a path with a zero character
        raise InputError(str(error), source=name) from None
    return name, text_of(data, name, colours=colours)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _begun(descriptor: int, name: str) -> bytes:
    """Wait for who writes into a pipe, and let it and a terminal be waited for from then on; return what was read meanwhile.

    Raises InputError where nobody comes.
    """
    pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    if not (pipe or os.isatty(descriptor)):
        return b""
    import select

    found, end = b"", time.monotonic() + _NOBODY
    look = select.poll()
    look.register(descriptor, select.POLLIN)
    while pipe and not look.poll(_LOOK):  # nothing is in it, and nobody has come and gone
        try:
            found = os.read(descriptor, 1)
        except BlockingIOError:  # somebody has the other end
            break
        if found:
            break
        if time.monotonic() > end:
            raise InputError("a pipe into which nobody writes", source=name)
    os.set_blocking(descriptor, True)
    return found


def text_of(data: bytes, name: str, *, colours: bool = False) -> str:
    """Return the text of a file's bytes, which `name` calls in messages; `colours` and errors are as in `read_text`."""
    if data.startswith(_GZIP):
        try:
            data = _unpacked(data)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise InputError(f"damaged gzip data: {error}", source=name) from None
    if len(data) > SIZE_LIMIT:
        raise InputError(f"more than {SIZE_LIMIT >> 20} MiB: no dump of CPUID is that large", source=name)
    return _decode(_COLOUR.sub(b"", data) if colours else data, name)


def _unpacked(data: bytes) -> bytes:
    """Return what gzip packed, of too much one byte more than is allowed; raises what GzipFile does.

    Nearly all files are one whole member, which zlib reads at once: GzipFile, which reads any, takes three times as long.
    """
    usual = zlib.decompressobj(zlib.MAX_WBITS | 16)
    with suppress(zlib.error):
        found = usual.decompress(data, SIZE_LIMIT + 1)
        if len(found) > SIZE_LIMIT or (usual.eof and not usual.unused_data):
            return found
    return gzip.GzipFile(fileobj=io.BytesIO(data)).read(SIZE_LIMIT + 1)


def _take(file: BinaryIO) -> bytes:
    """Read all, or one byte more than is allowed; to ask for that much at once would cost a small file ten times its own time.

    What is not waited for is not there.
    """
    data = file.read(_USUAL) or b""
    return data if len(data) < _USUAL else data + (file.read(SIZE_LIMIT + 1 - _USUAL) or b"")


def _decode(data: bytes, name: str) -> str:
    if data.startswith(_UTF16):  # what a Windows shell's > writes
        try:
            data = data.decode("utf-16").encode()
        except UnicodeError as error:
            raise InputError(f"not text: it begins as UTF-16, and is none: {error}", source=name) from None
    if _DOCUMENT.match(data) is None and (endless := _endless(data)) is not None:
        raise _at(endless, f"a line of more than {LINE_LIMIT} bytes", data, name)
    strange = len(data.translate(None, _CONTROLS)) < len(data) or (b"\r" in data and data.count(b"\r") > data.count(b"\r\n"))
    if strange and (control := _CONTROL.search(data)):  # a search looks at each byte, ten times slower than counting
        raise _at(control.start(), f"not text: a byte {control[0][0]:#04x}", data, name)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _at(error.start, f"not text: byte {data[error.start]:#04x} is not UTF-8", data, name) from None
    return text.replace("\r\n", "\n") if "\r" in text else text


def _endless(data: bytes) -> int | None:
    """Say where the first line begins that is longer than LINE_LIMIT, looking from the end of as many bytes for where a line ends."""
    start = 0
    while start + LINE_LIMIT < len(data):
        end = data.rfind(b"\n", start, start + LINE_LIMIT + 1)
        if end < 0:
            return start
        start = end + 1
    return None


def _at(offset: int, cause: str, data: bytes, name: str) -> InputError:
    return InputError(cause, source=name, line=data.count(b"\n", 0, offset) + 1)
