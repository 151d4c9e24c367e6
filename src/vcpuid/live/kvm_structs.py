"""KVM's ioctl numbers and the structures that go through them, as values.

From Linux include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Self

from vcpuid.cpuid import CpuidTable, Entry


def _io(number: int, size: int = 0, *, to_kernel: bool = False, from_kernel: bool = False) -> int:
    return (from_kernel << 31) | (to_kernel << 30) | size << 16 | 0xAE << 8 | number


GET_API_VERSION = _io(0x00)
CREATE_VM = _io(0x01)
GET_MSR_INDEX_LIST = _io(0x02, 4, to_kernel=True, from_kernel=True)
CHECK_EXTENSION = _io(0x03)
GET_VCPU_MMAP_SIZE = _io(0x04)
GET_SUPPORTED_CPUID = _io(0x05, 8, to_kernel=True, from_kernel=True)
GET_EMULATED_CPUID = _io(0x09, 8, to_kernel=True, from_kernel=True)
GET_MSR_FEATURE_INDEX_LIST = _io(0x0A, 4, to_kernel=True, from_kernel=True)
CREATE_VCPU = _io(0x41)
SET_USER_MEMORY_REGION = _io(0x46, 32, to_kernel=True)
SET_TSS_ADDR = _io(0x47)
CREATE_IRQCHIP = _io(0x60)
RUN = _io(0x80)
GET_REGS = _io(0x81, 144, from_kernel=True)
SET_REGS = _io(0x82, 144, to_kernel=True)
GET_SREGS = _io(0x83, 312, from_kernel=True)
SET_SREGS = _io(0x84, 312, to_kernel=True)
GET_MSRS = _io(0x88, 8, to_kernel=True, from_kernel=True)
SET_MSRS = _io(0x89, 8, to_kernel=True)
SET_CPUID = _io(0x8A, 8, to_kernel=True)
SET_SIGNAL_MASK = _io(0x8B, 4, to_kernel=True)
SET_CPUID2 = _io(0x90, 8, to_kernel=True)
GET_CPUID2 = _io(0x91, 8, to_kernel=True, from_kernel=True)
X86_SETUP_MCE = _io(0x9C, 8, to_kernel=True)
X86_GET_MCE_CAP_SUPPORTED = _io(0x9D, 8, from_kernel=True)
SET_TSC_KHZ = _io(0xA2)
ENABLE_CAP = _io(0xA3, 104, to_kernel=True)
GET_TSC_KHZ = _io(0xA3)
GET_SUPPORTED_HV_CPUID = _io(0xC1, 8, to_kernel=True, from_kernel=True)

NAMES = {value: f"KVM_{name}" for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)}
"""The ioctls' names, for messages."""

EXIT_IO, EXIT_HLT, EXIT_SHUTDOWN, EXIT_FAIL_ENTRY, EXIT_INTERNAL_ERROR = 2, 5, 8, 9, 17
EXIT_NAMES = {
    0: "unknown", 1: "exception", EXIT_IO: "port access", 4: "debug", EXIT_HLT: "HLT", 6: "memory-mapped I/O", 7: "interrupt window",
    EXIT_SHUTDOWN: "shutdown (triple fault)", EXIT_FAIL_ENTRY: "entry refused by the processor", 10: "signal",
    EXIT_INTERNAL_ERROR: "internal error of KVM",
}  # fmt: skip
"""KVM_EXIT_ reasons in words."""

_COUNT = struct.Struct("<II")
_ENTRY = struct.Struct("<7I12x")
_MSR = struct.Struct("<IIQ")
_SEGMENT = struct.Struct("<QIH9Bx")
_DESCRIPTOR_TABLE = struct.Struct("<QH6x")
_REGS = struct.Struct("<18Q")
_CONTROL = struct.Struct("<11Q")
_REGION = struct.Struct("<IIQQQ")


def pack_table(table: CpuidTable) -> bytearray:
    """Write struct kvm_cpuid2 with the entries of a table."""
    return bytearray(_COUNT.pack(len(table), 0) + b"".join(_ENTRY.pack(*entry) for entry in table))


def empty_table(room: int) -> bytearray:
    """Write struct kvm_cpuid2 with room for so many entries."""
    return bytearray(_COUNT.pack(room, 0) + bytes(_ENTRY.size * room))


def unpack_table(buffer: bytes | bytearray) -> CpuidTable:
    """Read struct kvm_cpuid2."""
    count, _ = _COUNT.unpack_from(buffer)
    entries = memoryview(buffer)[_COUNT.size : _COUNT.size + count * _ENTRY.size]
    return CpuidTable(Entry(*fields) for fields in _ENTRY.iter_unpack(entries))


def pack_index_list(room: int) -> bytearray:
    """Write struct kvm_msr_list with room for so many indices."""
    return bytearray(struct.pack("<I", room) + bytes(4 * room))


def unpack_index_list(buffer: bytes | bytearray) -> tuple[int, list[int]]:
    """Read struct kvm_msr_list: how many there are, and those that the buffer holds."""
    (count,) = struct.unpack_from("<I", buffer)
    held = min(count, len(buffer) // 4 - 1)
    return count, list(struct.unpack_from(f"<{held}I", buffer, 4))


def pack_msr(index: int, value: int = 0) -> bytearray:
    """Write struct kvm_msrs with one MSR."""
    return pack_msrs([(index, value)])


def pack_msrs(values: Sequence[tuple[int, int]]) -> bytearray:
    """Write struct kvm_msrs with MSRs and their values."""
    return bytearray(_COUNT.pack(len(values), 0) + b"".join(_MSR.pack(index, 0, value) for index, value in values))


def unpack_msr(buffer: bytes | bytearray) -> int:
    """Read the value of the first MSR in struct kvm_msrs."""
    value: int = _MSR.unpack_from(buffer, _COUNT.size)[2]
    return value


def pack_capability(number: int, argument: int) -> bytearray:
    """Write struct kvm_enable_cap with one argument."""
    return bytearray(struct.pack("<IIQ88x", number, 0, argument))


def pack_region(slot: int, guest_address: int, size: int, address: int) -> bytearray:
    """Write struct kvm_userspace_memory_region."""
    return bytearray(_REGION.pack(slot, 0, guest_address, size, address))


def pack_signal_mask(blocked: int) -> bytearray:
    """Write struct kvm_signal_mask: the signals that KVM_RUN does not let through, signal 1 as bit 0."""
    return bytearray(struct.pack("<IQ", 8, blocked))


class Regs(NamedTuple):
    """struct kvm_regs: the general registers."""

    rax: int = 0
    rbx: int = 0
    rcx: int = 0
    rdx: int = 0
    rsi: int = 0
    rdi: int = 0
    rsp: int = 0
    rbp: int = 0
    r8: int = 0
    r9: int = 0
    r10: int = 0
    r11: int = 0
    r12: int = 0
    r13: int = 0
    r14: int = 0
    r15: int = 0
    rip: int = 0
    rflags: int = 2

    def pack(self) -> bytearray:
        """Write the structure."""
        return bytearray(_REGS.pack(*self))

    @classmethod
    def unpack(cls, buffer: bytes | bytearray) -> Self:
        """Read the structure."""
        return cls(*_REGS.unpack(buffer))


class Segment(NamedTuple):
    """struct kvm_segment."""

    base: int = 0
    limit: int = 0
    selector: int = 0
    type: int = 0
    present: int = 0
    dpl: int = 0
    db: int = 0
    s: int = 0
    l: int = 0  # noqa: E741 - KVM's name
    g: int = 0
    avl: int = 0
    unusable: int = 0


class DescriptorTable(NamedTuple):
    """struct kvm_dtable."""

    base: int = 0
    limit: int = 0


class Sregs(NamedTuple):
    """struct kvm_sregs: segments, control registers, and the APIC's base."""

    cs: Segment
    ds: Segment
    es: Segment
    fs: Segment
    gs: Segment
    ss: Segment
    tr: Segment
    ldt: Segment
    gdt: DescriptorTable
    idt: DescriptorTable
    cr0: int
    cr2: int
    cr3: int
    cr4: int
    cr8: int
    efer: int
    apic_base: int
    interrupts: tuple[int, ...]

    def pack(self) -> bytearray:
        """Write the structure."""
        segments = b"".join(_SEGMENT.pack(*segment) for segment in self[:8])
        tables = _DESCRIPTOR_TABLE.pack(*self.gdt) + _DESCRIPTOR_TABLE.pack(*self.idt)
        return bytearray(segments + tables + _CONTROL.pack(*self[10:17], *self.interrupts))

    @classmethod
    def unpack(cls, buffer: bytes | bytearray) -> Self:
        """Read the structure."""
        cs, ds, es, fs, gs, ss, tr, ldt = (Segment(*fields) for fields in _SEGMENT.iter_unpack(buffer[:192]))
        gdt, idt = (DescriptorTable(*fields) for fields in _DESCRIPTOR_TABLE.iter_unpack(buffer[192:224]))
        cr0, cr2, cr3, cr4, cr8, efer, apic_base, *interrupts = _CONTROL.unpack_from(buffer, 224)
        return cls(cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer, apic_base, tuple(interrupts))
