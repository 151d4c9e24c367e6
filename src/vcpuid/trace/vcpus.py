"""The CPUID tables that running vCPUs keep, read out of the kernel without touching the guest.

A BPF iterator walks the files of the VMMs' processes; of a vCPU's file, `private_data` is its struct kvm_vcpu, whose arch.cpuid_entries are
what KVM_GET_CPUID2 would give, but that newer kernels put bits that follow the guest's registers there only when the guest or the
VMM asks. Where these members stand, the kernel's BTF tells. No VMM is stopped and nothing is written.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

from vcpuid.cpuid import CpuidTable
from vcpuid.errors import UnavailableError
from vcpuid.live.processes import vcpu_files
from vcpuid.trace import btf, kvm_entries
from vcpuid.trace.bpf.access import look_up, look_up_only
from vcpuid.trace.bpf.assembler import R0, R1, R2, R3, R6, R7, R8, R9, R10, Assembler, Helper
from vcpuid.trace.bpf.maps import Map, MapKind
from vcpuid.trace.bpf.program import ITERATOR, Program, ProgramKind, iterate
from vcpuid.trace.btf import BtfKind
from vcpuid.trace.guests import numbers_are_ours

_HEAD = struct.Struct("<IIIIQQ")
ROOM = _HEAD.size + kvm_entries.ROOM
"""Bytes of a vCPU's record: a word of the program's own, 8 bytes, then its number and what it keeps."""
_META, _TASK, _FD, _FILE = 0, 8, 16, 24
"""Where struct bpf_iter__task_file has them."""


@dataclass(frozen=True, slots=True)
class VcpuTable:
    """What one vCPU keeps: its process, descriptor and number, a number for its VM, the same for all of its vCPUs, and the table."""

    pid: int
    descriptor: int
    number: int
    vm: int
    table: CpuidTable


@dataclass(frozen=True, slots=True)
class VcpuPlaces:
    """Offsets in the kernel's struct kvm_vcpu."""

    number: int
    vm: int
    entries: int
    in_place: bool
    count: int

    @classmethod
    def of_this_kernel(cls) -> VcpuPlaces:
        """Ask BTF; raises UnavailableError where that does not tell."""
        kvm = btf.of_module("kvm")
        entries = kvm.member("kvm_vcpu", "arch", "cpuid_entries")
        if entries is None:
            raise UnavailableError(f"{btf.FOLDER}: this kernel tells nothing of KVM's vCPUs: KVM is not loaded")
        return cls(
            number=kvm.offset("kvm_vcpu", "vcpu_id"),
            vm=kvm.offset("kvm_vcpu", "kvm"),
            entries=entries[0],
            in_place=entries[1] is BtfKind.ARRAY,
            count=kvm.offset("kvm_vcpu", "arch", "cpuid_nent"),
        )

    def read(self, a: Assembler, otherwise: str) -> None:
        """Write what fills the record at R9 from the vCPU at R8, which goes on at a label where its table is none."""
        for offset, size, member in ((8, 4, self.number), (12, 4, self.count), (16, 8, self.vm)):
            _read_kernel(a, offset, size, member)
        if self.in_place:  # up to Linux 5.10
            a.address(R1, R8, self.entries)
            a.store(8, R9, 24, R1)
        else:
            _read_kernel(a, 24, 8, self.entries)
        a.load(4, R2, R9, 12)
        a.jump_if(R2, ">", kvm_entries.MOST, otherwise)
        a.do("mul", R2, kvm_entries.SIZE)
        a.address(R1, R9, _HEAD.size)
        a.load(8, R3, R9, 24)
        a.call(Helper.PROBE_READ_KERNEL)


def vcpu_tables(pids: Collection[int]) -> list[VcpuTable]:
    """Read what the vCPUs of these processes keep, in the order of processes, VMs and vCPUs; a process that is gone has none.

    Raises UnavailableError where the kernel lets nobody read it: no BPF, no BTF, no privilege.
    """
    wanted: set[tuple[int, int]] = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            wanted |= {(pid, descriptor) for descriptor in vcpu_files(pid)}
    if not wanted:
        return []
    iterator = require_tables()
    with (
        Map(MapKind.HASH, 8, 4, len(wanted)) as chosen,
        Map(MapKind.ARRAY, 4, ROOM, 1) as room,
    ):
        for pid, descriptor in wanted:
            chosen[struct.pack("<II", pid, descriptor)] = bytes(4)
        with Program(_program(chosen, room), ProgramKind.TRACING, attach_type=ITERATOR, btf_id=iterator) as program:
            told = {(table.pid, table.descriptor): table for table in _tables(_walked(program, {pid for pid, _ in wanted}))}
    vms: dict[int, int] = {}
    found = sorted(told.values(), key=lambda table: (table.pid, vms.setdefault(table.vm, len(vms)), table.number))
    return [VcpuTable(table.pid, table.descriptor, table.number, vms[table.vm], table.table) for table in found]


def require_tables() -> int:
    """Raise UnavailableError where this kernel does not tell what vCPUs keep; return the number of the iterator's function.

    Whether this user may ask is only told when somebody does.
    """
    if not numbers_are_ours():
        raise UnavailableError("the kernel knows these processes by other numbers: this is a container with a PID namespace of its own")
    iterator = btf.kernel().find("bpf_iter_task_file", BtfKind.FUNCTION)
    if iterator is None:
        raise UnavailableError(f"{btf.FOLDER}: this kernel has no BPF iterator over files (Linux 5.8 and newer have)")
    VcpuPlaces.of_this_kernel()
    return iterator


def _walked(program: Program, pids: Collection[int]) -> bytes:
    """Run the iterator over the files of each process, or over those of all, where the kernel does not yet know how to choose (6.1)."""
    try:
        return b"".join(iterate(program, struct.pack("<IIII", 0, pid, 0, 0)) for pid in pids)
    except OSError:
        return iterate(program)


def _program(chosen: Map, room: Map) -> bytes:
    """Write the program: of each chosen file, the vCPU's number, its VM and its entries go to the reader."""
    kernel, a = btf.kernel(), Assembler()
    a.mov(R6, R1)
    a.load(8, R7, R6, _FILE)
    a.jump_if(R7, "==", 0, "out")
    a.load(8, R8, R6, _TASK)
    a.jump_if(R8, "==", 0, "out")
    a.load(4, R1, R8, kernel.offset("task_struct", "tgid"))
    a.store(4, R10, -8, R1)
    a.load(4, R1, R6, _FD)
    a.store(4, R10, -4, R1)
    look_up(a, chosen, -8, "out")
    look_up_only(a, room, -12, "out")
    a.mov(R9, R0)
    a.load(8, R1, R10, -8)  # process and descriptor
    a.store(8, R9, 0, R1)
    a.load(8, R8, R7, kernel.offset("file", "private_data"))
    VcpuPlaces.of_this_kernel().read(a, "out")
    a.load(8, R1, R6, _META)
    a.load(8, R1, R1, 0)
    a.mov(R2, R9)
    a.mov(R3, ROOM)
    a.call(Helper.SEQ_WRITE)
    a.label("out")
    a.exit()
    return a.code()


def _read_kernel(a: Assembler, offset: int, size: int, member: int) -> None:
    """Read a member of the structure at R8 to an offset from R9."""
    a.address(R1, R9, offset)
    a.mov(R2, size)
    a.address(R3, R8, member)
    a.call(Helper.PROBE_READ_KERNEL)


def _tables(data: bytes) -> Iterator[VcpuTable]:
    for at in range(0, len(data) - ROOM + 1, ROOM):
        yield read_record(data[at : at + ROOM])


def read_record(record: bytes) -> VcpuTable:
    """Read what such a program wrote of a vCPU."""
    pid, descriptor, number, count, vm, _ = _HEAD.unpack_from(record)
    return VcpuTable(pid, descriptor, number, vm, kvm_entries.table(record, _HEAD.size, count))
