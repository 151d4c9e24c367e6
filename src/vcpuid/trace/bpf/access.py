"""How programs reach into maps: keys and values stand on the stack, at offsets from its end."""

from __future__ import annotations

from vcpuid.trace.bpf.assembler import R0, R1, R2, R3, R4, R10, Assembler, Helper, Reg
from vcpuid.trace.bpf.maps import Map


def look_up(a: Assembler, of: Map, key: int, otherwise: str | None = None) -> None:
    """Set R0 to the place of a key's value; where there is none go on at a label, or with 0."""
    a.map(R1, of.fd)
    a.address(R2, R10, key)
    a.call(Helper.MAP_LOOKUP_ELEM)
    if otherwise is not None:
        a.jump_if(R0, "==", 0, otherwise)


def look_up_only(a: Assembler, of: Map, key: int, otherwise: str) -> None:
    """Do that in an array of one value; the 4 bytes at `key` are written for it."""
    a.store(4, R10, key, 0)
    look_up(a, of, key, otherwise)


def update(a: Assembler, of: Map, key: int, value: int | Reg) -> None:
    """Put a value under a key; a register tells where it stands. R0 is 0 where there was room."""
    a.map(R1, of.fd)
    a.address(R2, R10, key)
    if isinstance(value, Reg):
        a.mov(R3, value)
    else:
        a.address(R3, R10, value)
    a.mov(R4, 0)
    a.call(Helper.MAP_UPDATE_ELEM)


def delete(a: Assembler, of: Map, key: int) -> None:
    """Take a key away."""
    a.map(R1, of.fd)
    a.address(R2, R10, key)
    a.call(Helper.MAP_DELETE_ELEM)


def count_up(a: Assembler, of: Map, key: int, otherwise: str) -> None:
    """Count one more in an array of one number, whatever other CPUs do to it; the 4 bytes at `key` are written for it."""
    look_up_only(a, of, key, otherwise)
    a.mov(R1, 1)
    a.add_atomically(R0, 0, R1)
