"""BTF, by which the running kernel tells how its structures are laid out: as much of it as finds a member's place and a function's number.

Documentation/bpf/btf.rst. The kernel's own is /sys/kernel/btf/vmlinux; that of a module (split BTF) counts on from it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from pathlib import Path

from vcpuid.errors import UnavailableError

FOLDER = Path("/sys/kernel/btf")
_MAGIC = 0xEB9F
_HEADER = struct.Struct("<HBBIIIII")
_TYPE = struct.Struct("<III")
_LARGEST = 64 << 20


class BtfKind(IntEnum):
    """What a type is, as far as it is asked for."""

    POINTER, ARRAY, STRUCT, UNION, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNCTION, PROTOTYPE, TYPE_TAG = 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 18


_BEHIND = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0), 19: (0, 12)}
"""What follows a type, by kind: so many bytes, and so many more for each of its members."""
_QUALIFIERS = (BtfKind.TYPEDEF, BtfKind.VOLATILE, BtfKind.CONST, BtfKind.RESTRICT, BtfKind.TYPE_TAG)


class Btf:
    """The types of one file; `base` is the kernel's own, for a module's. Raises UnavailableError for what is no BTF."""

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        self._data, self._base = data, base
        try:
            magic, _, _, header, types, types_size, strings, strings_size = _HEADER.unpack_from(data)
            if magic != _MAGIC:
                raise ValueError("no magic number")
            self._strings = data[header + strings : header + strings + strings_size]
            self._places = _walk(data, header + types, header + types + types_size)
        except (struct.error, ValueError, KeyError) as error:
            raise UnavailableError(f"the kernel's BTF cannot be read: {error}") from None
        self._first: int = 1 if base is None else base._first + len(base._places)
        self._strings_before: int = 0 if base is None else len(base._strings)

    def find(self, name: str, kind: BtfKind) -> int | None:
        """Return the number of a type; None where there is none of that name and kind."""
        called = set(self._spelled(b"\0" + name.encode() + b"\0"))
        for number, place in enumerate(self._places, self._first):
            offset, info, _ = _TYPE.unpack_from(self._data, place)
            if offset in called and info >> 24 & 0x1F == kind:
                return number
        return None if self._base is None else self._base.find(name, kind)

    def _spelled(self, name: bytes) -> Iterator[int]:
        """Give where a name, with the zeros around it, stands among the strings: a module's may be one of the kernel's."""
        at = self._strings.find(name)
        if at >= 0:
            yield self._strings_before + at + 1
        if self._base is not None:
            yield from self._base._spelled(name)

    def offset(self, name: str, *path: str) -> int:
        """Return where a member of a structure stands, in bytes; raises UnavailableError where it is not told."""
        found = self.member(name, *path)
        if found is None:
            raise UnavailableError(f"{FOLDER}: this kernel tells nothing of {'.'.join((name, *path))}")
        return found[0]

    def member(self, name: str, *path: str) -> tuple[int, BtfKind | None] | None:
        """Return where a member stands, and of what kind it is; the path leads through members of members. None where it is not told."""
        number, total = self.find(name, BtfKind.STRUCT), 0
        for step in path:
            inner = None if number is None else self._member(number, step)
            if inner is None:
                return None
            total, number = total + inner[0], inner[1]
        kind = 0 if number is None else self._type(number)[1]
        return None if number is None else (total, BtfKind(kind) if kind in BtfKind._value2member_map_ else None)

    def tracepoint(self, name: str) -> list[str | None]:
        """Name the structures that a tracepoint's arguments point to, None for each that is something else; [] where it is not told."""
        number = self.find(f"btf_trace_{name}", BtfKind.TYPEDEF)
        prototype = None if number is None else self._pointed(number)
        if prototype is None:
            return []
        owner, kind, count, _, place, _ = prototype
        if kind != BtfKind.PROTOTYPE:
            return []
        arguments = struct.iter_unpack("<II", owner._data[place + 12 : place + 12 + 8 * count])
        next(arguments, None)  # the tracepoint's own, which programs do not see
        return [self._structure(number) for _, number in arguments]

    def _structure(self, number: int) -> str | None:
        """Name the structure that a pointer points to."""
        found = self._pointed(number)
        if found is None or found[1] != BtfKind.STRUCT:
            return None
        owner, place = found[0], found[4]
        return owner._string(_TYPE.unpack_from(owner._data, place)[0]).decode("ascii", "replace")

    def _pointed(self, number: int) -> tuple[Btf, int, int, int, int, int] | None:
        """Return what a pointer points to; None where the type is none."""
        _, kind, _, _, _, to = self._type(number)
        return self._type(to) if kind == BtfKind.POINTER else None

    def _member(self, number: int, name: str) -> tuple[int, int] | None:
        """Return a member's offset and type; those of a member without a name count as the structure's own."""
        owner, kind, count, flag, place, _ = self._type(number)
        if kind not in (BtfKind.STRUCT, BtfKind.UNION):
            return None
        for named, of, bits in _TYPE.iter_unpack(owner._data[place + 12 : place + 12 + _TYPE.size * count]):
            offset = (bits & 0xFFFFFF if flag else bits) // 8
            told = owner._string(named)
            if told == name.encode():
                return offset, of
            if not told and (inner := self._member(of, name)) is not None:
                return offset + inner[0], inner[1]
        return None

    def _type(self, number: int) -> tuple[Btf, int, int, int, int, int]:
        """Return a type behind all names and qualifiers: whose it is, kind, count of members, flag, place, last word.

        The flag says that offsets of members share their word with sizes of bit fields.
        """
        for _ in range(32):
            owner: Btf = self
            while number < owner._first and owner._base is not None:
                owner = owner._base
            if not 0 <= number - owner._first < len(owner._places):
                return owner, 0, 0, 0, 0, 0
            place = owner._places[number - owner._first]
            _, info, last = _TYPE.unpack_from(owner._data, place)
            kind = info >> 24 & 0x1F
            if kind not in _QUALIFIERS:
                return owner, kind, info & 0xFFFF, info >> 31, place, last
            number = last
        return self, 0, 0, 0, 0, 0

    def _string(self, offset: int) -> bytes:
        if offset < self._strings_before and self._base is not None:
            return self._base._string(offset)
        start = offset - self._strings_before
        return self._strings[start : self._strings.index(b"\0", start)]


def _walk(data: bytes, at: int, end: int) -> array[int]:
    """Find where each type begins."""
    if end > len(data):
        raise ValueError("it is cut")
    places = array("I")
    while at < end:
        places.append(at)
        info = _TYPE.unpack_from(data, at)[1]
        fixed, each = _BEHIND.get(info >> 24 & 0x1F, (0, 0))
        at += 12 + fixed + each * (info & 0xFFFF)
    return places


@cache
def kernel() -> Btf:
    """Return the running kernel's own; raises UnavailableError where it tells none."""
    return Btf(_read("vmlinux"))


@cache
def of_module(name: str) -> Btf:
    """Return that of a module, which counts on from the kernel's; of what is built in, the kernel's."""
    return Btf(_read(name), kernel()) if (FOLDER / name).exists() else kernel()


def _read(name: str) -> bytes:
    try:
        with open(FOLDER / name, "rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        cause = "this kernel tells nothing of its structures (CONFIG_DEBUG_INFO_BTF is off)"
        raise UnavailableError(f"{FOLDER / name}: {error.strerror}: {cause}") from None
