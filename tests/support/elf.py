"""Programs of a few instructions, as files that Linux executes: no compiler, no library, nothing but what a test wants to see."""

from __future__ import annotations

import struct
from pathlib import Path

_BASE, _HEAD = 0x400000, 64 + 56
EXIT = bytes.fromhex("b83c000000 31ff 0f05")  # exit(0), of this thread
FORK = bytes.fromhex("b839000000 0f05")
THREAD = bytes.fromhex("bf000f0100 31f6 31d2 4531d2 4531c0 b838000000 0f05")  # clone of a thread, which needs no stack of its own
WAIT = bytes.fromhex("b83d000000 48c7c7ffffffff 31f6 31d2 4531d2 0f05")  # wait4 of any child; without one it returns at once
ENTRY = _HEAD
"""The offset of the code in the file."""


def cpuids(count: int, instruction: str = "0fa2", function: int = 0, index: int = 0) -> bytes:
    """Execute CPUID so many times in a loop; the instruction is the seventh byte of the loop, which begins 6 bytes after the code."""
    body = b"\xb8" + struct.pack("<I", function) + b"\xb9" + struct.pack("<I", index) + bytes.fromhex(instruction) + bytes.fromhex("41ffcc")
    return b"\x41\xbc" + struct.pack("<I", count) + body + bytes((0x75, -(len(body) + 2) & 0xFF))


def forked(child: bytes, parent: bytes) -> bytes:
    """Fork; each goes on with its own code."""
    return FORK + b"\x85\xc0\x0f\x85" + struct.pack("<i", len(child)) + child + parent


def exit_with(status: int) -> bytes:
    """Exit with a status."""
    return b"\xb8\x3c\0\0\0\xbf" + struct.pack("<I", status) + b"\x0f\x05"


def say(text: str) -> bytes:
    """Print a short text, and exit."""
    said = text.encode()
    call = b"\xba" + struct.pack("<I", len(said)) + bytes.fromhex("b801000000 bf01000000 0f05") + EXIT
    return b"\x48\x8d\x35" + struct.pack("<i", len(call)) + call + said


def create(file: Path) -> bytes:
    """Make an empty file, and exit."""
    call = bytes.fromhex("bea4010000 b855000000 0f05") + EXIT
    return b"\x48\x8d\x3d" + struct.pack("<i", len(call)) + call + str(file).encode() + b"\0"


def write_program(file: Path, code: bytes) -> str:
    """Write an executable file whose first instruction is the first of `code`, and return its path."""
    size = _HEAD + len(code)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEAD, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    file.write_bytes(header + segment + code)
    file.chmod(0o755)
    return str(file)
