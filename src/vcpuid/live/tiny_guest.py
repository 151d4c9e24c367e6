"""A tiny real guest: hands a table to a vCPU and runs CPUID inside, in 16-, 32- or 64-bit mode.

The guest is a loop in 64 KiB of memory: it reads pairs of function and index, executes CPUID, stores the four registers, and leaves
through a port when it is done. One KVM_RUN does up to 1,024 leaves; no more memory is used for more of them, and a guest that does not
come back is stopped after a time.
"""

from __future__ import annotations

import errno
import mmap
import statistics
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from vcpuid.cpuid import CpuidTable, Registers
from vcpuid.errors import InputError, KvmError, UnavailableError
from vcpuid.live import kvm_structs as structs
from vcpuid.live.kvm_device import Kvm, Vcpu
from vcpuid.live.kvm_structs import Regs, Segment, Sregs

Mode = Literal[16, 32, 64]

_MEMORY = 1 << 16
CODE = 0x4000
"""Where `machine` puts the guest's code."""

_PAGE_TABLES, _QUESTIONS, _ANSWERS = 0x1000, 0x6000, 0x8000
_AT_ONCE = (_ANSWERS - _QUESTIONS) // 8
_TSS = 0x7FFBD000
"""Where KVM on Intel may keep its three pages: away from the memory, and small enough for fcntl.ioctl's signed argument."""

_DONE = 0x10
_CR0_PE, _CR0_ET, _CR0_PG = 1, 1 << 4, 1 << 31
_CR4_PAE = 1 << 5
_EFER_LONG = 1 << 8 | 1 << 10
_APIC_ENABLE = 1 << 11

_CPUID, _NOTHING = "0f a2", "66 90"
_EMULATE = "0f 0b 6b 76 6d"
"""KVM's prefix for an instruction that it shall emulate: UD2 and the letters kvm (handle_ud, arch/x86/kvm/x86.c)."""

_CPUIDS_TIMED = 8


def _read_loop(cpuid: str) -> tuple[tuple[bool, str], ...]:
    """A loop that answers questions."""
    return (
        (True, "8b 06"),  # eax = [esi]
        (True, "8b 4e 04"),  # ecx = [esi + 4]
        (False, cpuid),
        (True, "89 07"),  # [edi] = eax
        (True, "89 5f 04"),  # [edi + 4] = ebx
        (True, "89 4f 08"),  # [edi + 8] = ecx
        (True, "89 57 0c"),  # [edi + 12] = edx
        (True, "83 c6 08"),  # esi += 8
        (True, "83 c7 10"),  # edi += 16
        (True, "ff cd"),  # ebp -= 1
    )


def _time_loop(timed: str) -> tuple[tuple[bool, str], ...]:
    """A loop that takes the time of a few instructions in a row, for leaf 0."""
    return (
        (False, "0f 31"),  # rdtsc
        (True, "89 07"),  # [edi] = eax
        *((True, "31 c0"), (True, "31 c9"), (False, timed)) * _CPUIDS_TIMED,  # eax = ecx = 0
        (False, "0f 31"),  # rdtsc
        (True, "89 47 04"),  # [edi + 4] = eax
        (True, "83 c7 08"),  # edi += 8
        (True, "ff cd"),  # ebp -= 1
    )


@dataclass(frozen=True, slots=True)
class GuestReading:
    """`kept` is the vCPU's table once the guest ran (KVM_GET_CPUID2), `seen` what CPUID returned inside, by function and index."""

    kept: CpuidTable
    seen: Mapping[tuple[int, int], Registers]


@dataclass(frozen=True, slots=True)
class ExitTime:
    """What one CPUID costs in a guest, in TSC cycles, and in nanoseconds where KVM tells the TSC's frequency.

    A round takes the time of eight in a row. This is the median of `rounds`, less that of as many rounds without CPUID.
    """

    cycles: float
    ns: float | None
    rounds: int


def read_cpuid(
    table: CpuidTable,
    leaves: Sequence[tuple[int, int]],
    mode: Mode = 64,
    *,
    cr4: int = 0,
    apic: bool = True,
    emulate: bool = False,
    seconds: float = 5.0,
) -> GuestReading:
    """Give `table` to a real vCPU and read `leaves`, pairs of function and index, inside its guest.

    `cr4` is added to the guest's CR4, `apic` is the global enable of its APIC. Each CPUID exits to kvm_emulate_cpuid; with `emulate`,
    KVM's instruction emulator is made to execute it instead (em_cpuid), which needs kvm's parameter force_emulation_prefix.

    Raises KvmError where KVM refuses the table or CR4, UnavailableError where there is no usable /dev/kvm, where it cannot run this mode
    or emulate on request, or where the guest has not come back after `seconds`, InputError for a leaf that is no 32-bit number.
    """
    seen: dict[tuple[int, int], Registers] = {}
    limit = time.monotonic() + seconds
    code = _assemble(_read_loop(f"{_EMULATE} {_CPUID}" if emulate else _CPUID), mode)
    with machine(table, mode, cr4=cr4, apic=apic, code=code) as (vcpu, memory):
        for start in range(0, len(leaves), _AT_ONCE):
            part = leaves[start : start + _AT_ONCE]
            try:
                memory[_QUESTIONS : _QUESTIONS + 8 * len(part)] = b"".join(struct.pack("<II", *leaf) for leaf in part)
            except struct.error:
                raise InputError("a leaf is a pair of 32-bit numbers") from None
            _run(vcpu, f"{mode}-bit guest" + (" with force_emulation_prefix" if emulate else ""), len(part), limit)
            answers = struct.iter_unpack("<4I", memory[_ANSWERS : _ANSWERS + 16 * len(part)])
            seen.update(zip(part, (Registers(*answer) for answer in answers), strict=True))
        return GuestReading(vcpu.get_cpuid(), seen)


def time_exit(table: CpuidTable, mode: Mode = 64, *, rounds: int = 1000, seconds: float = 5.0) -> ExitTime:
    """Measure what CPUID costs inside a guest with this table; raises as `read_cpuid` does."""
    if not 1 <= rounds <= 2 * _AT_ONCE:
        raise InputError(f"{rounds} rounds: 1 to {2 * _AT_ONCE}")
    limit = time.monotonic() + seconds
    medians = []
    khz = None
    for timed in (_CPUID, _NOTHING):
        with machine(table, mode, code=_assemble(_time_loop(timed), mode)) as (vcpu, memory):
            _run(vcpu, f"{mode}-bit guest", rounds, limit)
            stamps = struct.iter_unpack("<II", memory[_ANSWERS : _ANSWERS + 8 * rounds])
            medians.append(statistics.median((after - before) & 0xFFFFFFFF for before, after in stamps))
            khz = vcpu.tsc_khz()
    cycles = max(medians[0] - medians[1], 0) / _CPUIDS_TIMED
    return ExitTime(cycles, cycles * 1e6 / khz if khz else None, rounds)


def _assemble(loop: Sequence[tuple[bool, str]], mode: Mode) -> bytes:
    """The loop's code: steps on 32-bit registers (True) need prefixes in 16-bit code; the loop closes with JNZ, then OUT."""
    prefix = b"\x66\x67" if mode == 16 else b""
    body = b"".join((prefix if wide else b"") + bytes.fromhex(step) for wide, step in loop)
    back = -(len(body) + 2) & 0xFF
    return body + bytes((0x75, back, 0xE6, _DONE))


@contextmanager
def machine(table: CpuidTable, mode: Mode = 64, *, cr4: int = 0, apic: bool = True, code: bytes = b"") -> Iterator[tuple[Vcpu, mmap.mmap]]:
    """Yield the vCPU of a virtual machine with the table set and the code in place, and its memory; all of it is given back at the end.

    The memory is 64 KiB from address 0, page tables and code in the lower 20 of them. Raises as `read_cpuid` does.
    """
    if mode not in (16, 32, 64):
        raise InputError(f"mode {mode}: 16, 32 or 64")
    with mmap.mmap(-1, _MEMORY) as memory, Kvm() as kvm, kvm.create_vm() as vm:
        memory[CODE : CODE + len(code)] = code
        vm.set_tss_address(_TSS)
        vm.add_memory(memory)
        with vm.create_vcpu() as vcpu:
            vcpu.set_cpuid(table)
            if mode == 64:
                _map_memory(memory)
            vcpu.set_sregs(_registers(vcpu.get_sregs(), mode, cr4, apic))
            yield vcpu, memory


def _map_memory(memory: mmap.mmap) -> None:
    """Page tables of long mode: the first 2 MiB at their own addresses, open to user code too."""
    for level, entry in enumerate((_PAGE_TABLES + 0x1000 | 7, _PAGE_TABLES + 0x2000 | 7, 0x87)):
        place = _PAGE_TABLES + 0x1000 * level
        memory[place : place + 8] = struct.pack("<Q", entry)


def _registers(now: Sregs, mode: Mode, cr4: int, apic: bool) -> Sregs:
    """Segments and control registers of a mode: real mode with all segments at 0, or flat protected or long mode without interrupts."""
    apic_base = now.apic_base | _APIC_ENABLE if apic else now.apic_base & ~_APIC_ENABLE
    if mode == 16:
        cs, ds, es, ss = (segment._replace(base=0, selector=0) for segment in (now.cs, now.ds, now.es, now.ss))
        return now._replace(cs=cs, ds=ds, es=es, ss=ss, cr4=cr4, apic_base=apic_base)
    long = mode == 64
    code = Segment(limit=0xFFFFFFFF, selector=8, type=11, present=1, s=1, g=1, db=not long, l=long)
    data = Segment(limit=0xFFFFFFFF, selector=16, type=3, present=1, s=1, g=1, db=1)
    return now._replace(
        cs=code, ds=data, es=data, fs=data, gs=data, ss=data,
        cr0=_CR0_PE | _CR0_ET | (_CR0_PG if long else 0),
        cr3=_PAGE_TABLES if long else 0,
        cr4=cr4 | (_CR4_PAE if long else 0),
        efer=_EFER_LONG if long else 0,
        apic_base=apic_base,
    )  # fmt: skip


def _run(vcpu: Vcpu, what: str, count: int, limit: float) -> None:
    """Let the loop run `count` times."""
    vcpu.set_regs(Regs(rip=CODE, rsi=_QUESTIONS, rdi=_ANSWERS, rbp=count))
    try:
        reason = vcpu.run(max(limit - time.monotonic(), 0.001))
    except KvmError as error:
        if error.errno == errno.ETIME:
            raise UnavailableError(f"the {what} was not done in the time that it had") from None
        raise UnavailableError(f"this KVM does not run a {what}: {error}") from None
    if reason != structs.EXIT_IO or vcpu.exit_port != _DONE:
        why = structs.EXIT_NAMES.get(reason, f"exit {reason}")
        raise UnavailableError(f"this KVM does not run a {what}: it left with {why}")
