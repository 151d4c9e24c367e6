"""Maps: what BPF programs write and this process reads, or the reverse. Keys and values are bytes, laid out by whoever uses them."""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Iterator
from contextlib import suppress
from enum import IntEnum

from vcpuid.trace.bpf.syscalls import KernelObject, bpf, bpf_lacking

_CREATE, _LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 0, 1, 2, 3, 4
NAME = b"vcpuid"
"""What `bpftool` calls all of ours."""


class MapKind(IntEnum):
    """What a map is (enum bpf_map_type)."""

    HASH = 1
    ARRAY = 2
    PERCPU_ARRAY = 6
    STACK_TRACE = 7
    LRU_HASH = 9


class Map(KernelObject):
    """A map with room for so many entries, sizes in bytes. Raises UnavailableError where the kernel makes none."""

    def __init__(self, kind: MapKind, key: int, value: int, entries: int) -> None:
        self.key, self.value = key, value
        attributes = struct.pack("<7I16s", kind, key, value, entries, 0, 0, 0, NAME)
        try:
            super().__init__(_create(attributes))
        except OSError as error:
            raise bpf_lacking(error) from None

    def __getitem__(self, key: bytes) -> bytes:
        """Give a key's value; raises KeyError where there is none."""
        room = ctypes.create_string_buffer(self.value)
        self._of_key(_LOOKUP, key, room)
        return room.raw

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Put a value under a key; raises OSError (E2BIG, ENOMEM) where there is no room."""
        self._of_key(_UPDATE, key, ctypes.create_string_buffer(value, self.value))

    def __delitem__(self, key: bytes) -> None:
        """Take a key away; raises KeyError where there is none."""
        self._of_key(_DELETE, key)

    def __iter__(self) -> Iterator[bytes]:
        """Walk the keys; what comes while they are walked may be passed over."""
        key, following = ctypes.create_string_buffer(self.key), ctypes.create_string_buffer(self.key)
        address = 0
        while True:
            try:
                bpf(_NEXT_KEY, struct.pack("<IIQQ", self.fd, 0, address, ctypes.addressof(following)))
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            key.raw, address = following.raw, ctypes.addressof(key)
            yield key.raw

    def items(self) -> dict[bytes, bytes]:
        """Read all that is there."""
        found = {}
        for key in self:
            try:
                found[key] = self[key]
            except KeyError:  # an LRU's, which has made room
                continue
        return found

    def _of_key(self, command: int, key: bytes, value: ctypes.Array[ctypes.c_char] | None = None) -> None:
        room = ctypes.create_string_buffer(key, self.key)
        at = 0 if value is None else ctypes.addressof(value)
        try:
            bpf(command, struct.pack("<IIQQQ", self.fd, 0, ctypes.addressof(room), at, 0))
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise KeyError(key) from None
            raise


def _create(attributes: bytes) -> int:
    """Create a map. Before Linux 5.11 its memory counts as locked, of which a process may have little until it asks for more."""
    try:
        return bpf(_CREATE, attributes)
    except PermissionError:
        import resource

        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return bpf(_CREATE, attributes)
