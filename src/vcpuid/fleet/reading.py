"""Hosts' files read into classes: of files that differ in nothing that a rule reads, one alone is parsed.

A snapshot is brought into a form of its own first, as text: without the lines that no class has, and with nothing in the leaves that differ
from one CPU to the next. What is equal then is of one class. That takes a twentieth of the time of reading it whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from vcpuid.cpuid import vendors
from vcpuid.decode import PER_CPU, per_cpu
from vcpuid.errors import InputError, VcpuidError
from vcpuid.fleet.classes import READ_OF_CPUINFO, HostClass
from vcpuid.formats.files import read_text
from vcpuid.sources import read_dump
from vcpuid.sources.folders import Patience, no_file

_SNAPSHOT = re.compile(r"\n(?:RAW|SUP) [0-9a-f]{8}\.")
_IN_NO_CLASS = re.compile(rf"\nCPU(?: |INFO (?!(?:{'|'.join(READ_OF_CPUINFO)}) ))[^\n]*")


def _leaves() -> str:
    """Return a pattern of the leaves that hold one CPU's own: those that differ in their last digit together, which is found sooner."""
    ends: dict[str, str] = {}
    for leaf in sorted({f"{function:08x}" for function, _ in PER_CPU if function >> 16 != 0x4000}):
        ends[leaf[:-1]] = ends.get(leaf[:-1], "") + leaf[-1]
    return "|".join(f"{begun}[{digits}]" for begun, digits in ends.items())


_OF_ONE_CPU = re.compile(rf"\n(?:RAW|SUP) (?:{_leaves()})\.[0-9a-f]{{1,8}}(?: f[0-9a-f]{{1,8}})?(?: [0-9a-f]{{8}}){{4}}(?=\n)")
"""Each begins with the end of the line before: a pattern that begins with a character is looked for ten times as fast as a line's begin."""


def _blanked(found: re.Match[str]) -> str:
    return _without_own(found[0])


@lru_cache(maxsize=1 << 12)
def _without_own(line: str) -> str:
    """Blank what is one CPU's own in a line of the pattern above; hosts of one processor share most of these lines."""
    kind, place, *flags, eax, ebx, ecx, edx = line.split(" ")
    own = _own(*place.split("."))
    left = (f"{int(text, 16) & ~mask:x}" if mask else text for text, mask in zip((eax, ebx, ecx, edx), own, strict=True))
    return " ".join((kind, place, *flags, *left))


@lru_cache(maxsize=256)
def _own(leaf: str, index: str) -> tuple[int, int, int, int]:
    """Return the bits of a leaf that are one CPU's own, whoever made it: whose it is nobody knows before it is read."""
    eax, ebx, ecx, edx = -1, -1, -1, -1
    for who in {"", *vendors.KINDS.values()}:
        one, two, three, four = per_cpu(int(leaf, 16), int(index, 16), who)
        eax, ebx, ecx, edx = eax & one, ebx & two, ecx & three, edx & four
    return eax, ebx, ecx, edx


def same(text: str) -> bytes:
    """Return what is the same for texts of one class, though not for all of them: a digest of what matters in a snapshot's lines."""
    text = f"\n{text}\n"
    if _SNAPSHOT.search(text) is not None:
        text = _OF_ONE_CPU.sub(_blanked, _IN_NO_CLASS.sub("", text))
    return blake2b(text.encode(), digest_size=16).digest()


EVERY = 500
"""Files between two words on how far the reading has come."""


def readings(
    files: Iterable[tuple[str, Path]], within: str, told: Callable[[int], None]
) -> Iterator[tuple[str, Path, HostClass | VcpuidError]]:
    """Read the hosts' files, given with their clusters, each with its class or with what is wrong with it; `told` hears how many are read.

    Raises InputError, about what `within` names, where hardly any of many can be read: a system's own folders, of which there is no end.
    """
    reader, patience = Reader(), Patience(within)
    for number, (cluster, path) in enumerate(files, 1):
        found: HostClass | VcpuidError
        try:
            found = reader.read(path)
        except VcpuidError as error:
            found = error
        patience.count(read=isinstance(found, HostClass))
        yield cluster, path, found
        if number % EVERY == 0:
            told(number)


class Reader:
    """Reads files, one after the other, and remembers their classes."""

    def __init__(self) -> None:
        self._known: dict[bytes, HostClass] = {}

    def read(self, path: Path) -> HostClass:
        """Read the class of a file's host, of all CPUs in it; raises what `vcpuid.read` does, and InputError for what is no file.

        A name that is no text is refused too.
        """
        try:
            path.name.encode()
        except UnicodeEncodeError:
            raise InputError("its name is no text (UTF-8)", source=str(path)) from None
        if (why := no_file(str(path))) is not None:
            raise InputError(why, source=str(path))
        name, text = read_text(path, waiting=False)
        key = same(text)
        if key not in self._known:
            self._known[key] = HostClass.of(*read_dump(path, (name, text)).meant)
        return self._known[key]
