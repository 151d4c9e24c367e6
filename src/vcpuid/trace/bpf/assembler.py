"""BPF instructions: a program is written a call an instruction, with labels to jump to, and comes out as the bytes that bpf(2) takes.

Documentation/bpf/standardization/instruction-set.rst, include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import struct
from enum import IntEnum


class Reg(IntEnum):
    """Registers: R0 returns, R1 to R5 are arguments and lost by a call, R6 to R9 are kept, R10 is the end of 512 bytes of stack."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Reg


class Helper(IntEnum):
    """Functions of the kernel that a program may call, by number (enum bpf_func_id)."""

    MAP_LOOKUP_ELEM = 1
    MAP_UPDATE_ELEM = 2
    MAP_DELETE_ELEM = 3
    KTIME_GET_NS = 5
    GET_CURRENT_PID_TGID = 14
    GET_CURRENT_COMM = 16
    GET_STACKID = 27
    PROBE_READ_USER = 112
    PROBE_READ_KERNEL = 113
    SEQ_WRITE = 127


_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}
_INSTRUCTION = struct.Struct("<BBhi")
_OPERATIONS = {"add": 0x07, "sub": 0x17, "mul": 0x27, "or": 0x47, "and": 0x57, "lsh": 0x67, "rsh": 0x77, "mov": 0xB7}
_JUMPS = {"==": 0x15, ">": 0x25, ">=": 0x35, "&": 0x45, "!=": 0x55, "<": 0xA5, "<=": 0xB5}
_BY_REGISTER = 0x08
_OF_A_MAP = 1
"""BPF_PSEUDO_MAP_FD: what the 64-bit constant holds is a map's descriptor, for which the kernel puts the map."""


class Assembler:
    """Takes instructions in their order; `code` is the program, once all labels are set."""

    def __init__(self) -> None:
        self._instructions: list[list[int]] = []
        self._labels: dict[str, int] = {}
        self._jumps: list[tuple[int, str]] = []

    def do(self, operation: str, target: Reg, operand: Reg | int) -> None:
        """Compute in 64 bits: add, sub, mul, or, and, lsh, rsh, mov; a constant has 32 bits and a sign."""
        if isinstance(operand, Reg):
            self._put(_OPERATIONS[operation] | _BY_REGISTER, target, operand)
        else:
            self._put(_OPERATIONS[operation], target, constant=operand)

    def mov(self, target: Reg, operand: Reg | int) -> None:
        """Set a register."""
        self.do("mov", target, operand)

    def address(self, target: Reg, base: Reg, offset: int) -> None:
        """Set a register to an address: `base` and so many bytes."""
        self.mov(target, base)
        self.do("add", target, offset)

    def map(self, target: Reg, descriptor: int) -> None:
        """Set a register to a map, as helpers take it."""
        self._put(0x18, target, _OF_A_MAP, constant=descriptor)
        self._put(0)

    def load(self, size: int, target: Reg, base: Reg, offset: int) -> None:
        """Read 1, 2, 4 or 8 bytes, without a sign."""
        self._put(0x61 | _SIZES[size], target, base, offset)

    def store(self, size: int, base: Reg, offset: int, value: Reg | int) -> None:
        """Write 1, 2, 4 or 8 bytes; a constant has 32 bits and a sign."""
        if isinstance(value, Reg):
            self._put(0x63 | _SIZES[size], base, value, offset)
        else:
            self._put(0x62 | _SIZES[size], base, offset=offset, constant=value)

    def add_atomically(self, base: Reg, offset: int, value: Reg) -> None:
        """Add a register to 8 bytes, whatever other CPUs do to them."""
        self._put(0xDB, base, value, offset)

    def call(self, helper: Helper) -> None:
        """Call a function of the kernel: R1 to R5 in, R0 out."""
        self._put(0x85, constant=helper)

    def jump_if(self, register: Reg, condition: str, operand: Reg | int, label: str) -> None:
        """Go on at a label where ==, !=, >, >=, <, <= (without a sign) or & (a bit in common) holds."""
        self._jumps.append((len(self._instructions), label))
        if isinstance(operand, Reg):
            self._put(_JUMPS[condition] | _BY_REGISTER, register, operand)
        else:
            self._put(_JUMPS[condition], register, constant=operand)

    def label(self, name: str) -> None:
        """Name the place of the next instruction."""
        self._labels[name] = len(self._instructions)

    def exit(self, value: int = 0) -> None:
        """Return a constant."""
        self.mov(R0, value)
        self._put(0x95)

    def code(self) -> bytes:
        """Give the program; a KeyError names a label that is nowhere."""
        for place, label in self._jumps:
            self._instructions[place][3] = self._labels[label] - place - 1
        return b"".join(
            _INSTRUCTION.pack(operation, target | source << 4, offset, constant)
            for operation, target, source, offset, constant in self._instructions
        )

    def _put(self, operation: int, target: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> None:
        self._instructions.append([operation, target, source, offset, constant])
