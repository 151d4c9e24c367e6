"""Seccomp filters that stop a traced thread at few chosen system calls, and let all others run at full speed."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence

_ALLOW, _TRACE = 0x7FFF0000, 0x7FF00000
_X86_64 = 0xC000003E
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_SET_NO_NEW_PRIVS, _SECCOMP, _SET_MODE_FILTER = 38, 317, 1
_MOST = 255
"""A jump of classic BPF goes over so many instructions."""


def program(wanted: Mapping[int, tuple[int, Sequence[int]]]) -> bytes:
    """Assemble a filter: a system call by the 64-bit way stops its tracee where `wanted` has its number.

    With the number come the position of an argument and the values of its lower half that count. A call by the way of i386 or x32 passes.
    """
    code = [_instruction(_LOAD, _ARCH_AT), _instruction(_EQUAL, _X86_64, 1, 0), _instruction(_RETURN, _ALLOW)]
    for number, (position, values) in wanted.items():
        if len(values) > _MOST - 3:
            raise ValueError(f"more than {_MOST - 3} values of one system call")
        code += [_instruction(_LOAD, _NUMBER_AT), _instruction(_EQUAL, number, 0, len(values) + 3)]
        code.append(_instruction(_LOAD, _ARGUMENTS_AT + 8 * position))
        code += [_instruction(_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
        code += [_instruction(_RETURN, _ALLOW), _instruction(_RETURN, _TRACE)]
    return b"".join([*code, _instruction(_RETURN, _ALLOW)])


def _instruction(code: int, operand: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, true, false, operand)


def install(code: bytes) -> None:
    """Put this process under a filter, for good and with all that it starts; raises OSError.

    Root need not give up that programs may gain privileges when they are started (no_new_privs); everybody else must.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(code, len(code))
    filter_ = ctypes.create_string_buffer(struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(room)), 16)
    if not libc.syscall(_SECCOMP, _SET_MODE_FILTER, 0, filter_):
        return
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(_SECCOMP, _SET_MODE_FILTER, 0, filter_):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
