"""The guest's kernel: descriptor tables and handlers, each of which tells the vector of an exception by the port to which it writes.

It lives in the upper part of the memory that `vcpuid.live.tiny_guest.machine` makes. User code and kernel see the same 64 KiB.
"""

from __future__ import annotations

import mmap
import struct

from vcpuid.live.kvm_structs import DescriptorTable, Regs, Segment, Sregs
from vcpuid.probe.instructions import Needs

BREAKPOINT = 3
"""The vector that means that the code ran through."""

EXCEPTIONS = {0: "#DE", 1: "#DB", 2: "NMI", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP",
              14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM", 20: "#VE", 21: "#CP"}  # fmt: skip

_GDT, _IDT, _HANDLERS, _TSS, _SCRATCH, _KERNEL_STACK, _USER_STACK = 0x5000, 0x5400, 0x5800, 0x6000, 0x8000, 0xE000, 0xF000
_SCRATCH_SIZE = 0x1000
_VECTORS, _PORT = 32, 0x20
_TSS_LIMIT = 0x67

_KERNEL_CS, _KERNEL_DS, _USER_DS, _USER_CS, _TR = 0x08, 0x10, 0x1B, 0x23, 0x28
_SEGMENTS = (0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF, 0x00CFF3000000FFFF, 0x00AFFB000000FFFF)
"""The GDT up to the TSS: nothing, kernel code and data, user data and code, all flat, code in 64-bit mode."""

_GATE = 0xEE00  # present, an interrupt gate, open to INT3 of user code
_CR0 = 0x80050033  # PG, AM, WP, NE, ET, MP, PE: as kernels have it
_EFER = 1 << 8 | 1 << 10  # LME, LMA
_CR4 = 1 << 5 | 1 << 9 | 1 << 10  # PAE, OSFXSR and OSXMMEXCPT: with SSE


def install(memory: mmap.mmap) -> None:
    """Write the descriptor tables and the handlers."""
    _write(memory, _GDT, struct.pack("<7Q", *_SEGMENTS, _TSS_LIMIT | _TSS << 16 | 0x8B << 40, 0))
    _write(memory, _TSS, struct.pack("<IQ", 0, _KERNEL_STACK))
    for vector in range(_VECTORS):
        handler = _HANDLERS + 4 * vector
        _write(memory, handler, _tell(vector))
        _write(memory, _IDT + 16 * vector, struct.pack("<HHHHQ", handler, _KERNEL_CS, _GATE, 0, 0))


def prepare(memory: mmap.mmap, code_at: int, code: bytes, ring: int) -> Regs:
    """Put an experiment in place, the two areas of memory it may use zeroed; give the general registers to start it with.

    User code ends with INT3. The kernel's ends as that handler does: KVM's emulator, which some KVMs run it in, knows no INT3.
    """
    _write(memory, code_at, code + (b"\xcc" if ring == 3 else _tell(BREAKPOINT)))
    _write(memory, _SCRATCH, bytes(_SCRATCH_SIZE))
    return Regs(rip=code_at, rsp=_USER_STACK, rdi=_SCRATCH, rsi=_SCRATCH + _SCRATCH_SIZE // 2)


def control(now: Sregs, ring: int, needs: Needs) -> Sregs:
    """Give segments and control registers for code in ring 0 or 3 with CR4 and EFER as it needs them."""
    user = ring == 3
    code = Segment(limit=0xFFFFFFFF, selector=_USER_CS if user else _KERNEL_CS, type=11, present=1, s=1, g=1, l=1, dpl=ring)
    data = Segment(limit=0xFFFFFFFF, selector=_USER_DS if user else _KERNEL_DS, type=3, present=1, s=1, g=1, db=1, dpl=ring)
    return now._replace(
        cs=code, ds=data, es=data, fs=data, gs=data, ss=data,
        tr=Segment(base=_TSS, limit=_TSS_LIMIT, selector=_TR, type=11, present=1),
        gdt=DescriptorTable(_GDT, 8 * 7 - 1),
        idt=DescriptorTable(_IDT, 16 * _VECTORS - 1),
        cr0=_CR0,
        cr4=_CR4 | needs.cr4,
        efer=_EFER | needs.efer,
    )  # fmt: skip


def set_xcr0(value: int) -> bytes:
    """Give the code that sets XCR0."""
    return b"\x31\xc9\xb8%b\xba%b\x0f\x01\xd1" % (_half(value), _half(value >> 32))  # xor ecx, ecx; mov eax; mov edx; xsetbv


def cpuid(function: int, index: int) -> bytes:
    """Give the code that reads a leaf."""
    return b"\xb8%b\xb9%b\x0f\xa2" % (_half(function), _half(index))  # mov eax; mov ecx; cpuid


def vector_of(port: int) -> int | None:
    """Tell which handler writes to a port; None for a port of nobody."""
    return port - _PORT if _PORT <= port < _PORT + _VECTORS else None


def _tell(vector: int) -> bytes:
    return bytes((0xE6, _PORT + vector, 0xF4, 0xF4))  # out PORT + vector, al; hlt; hlt


def _half(value: int) -> bytes:
    return struct.pack("<I", value & 0xFFFFFFFF)


def _write(memory: mmap.mmap, place: int, content: bytes) -> None:
    memory[place : place + len(content)] = content
