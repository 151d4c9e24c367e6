"""What vCPUs keep when they enter their guest for the first time: also of guests that are gone before anybody looks.

BPF programs on the tracepoints of KVM that hand over the vCPU: kvm:kvm_entry, which comes before the guest's first instruction, and
kvm:kvm_emulate_insn, for a KVM that interprets without entering. A thread that was seen is let pass.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from vcpuid.errors import UnavailableError
from vcpuid.trace import btf
from vcpuid.trace.bpf.access import look_up, look_up_only, update
from vcpuid.trace.bpf.assembler import R0, R1, R6, R8, R9, R10, Assembler, Helper
from vcpuid.trace.bpf.maps import Map, MapKind
from vcpuid.trace.bpf.program import Program, ProgramKind, on_raw_tracepoint
from vcpuid.trace.vcpus import ROOM, VcpuPlaces, VcpuTable, read_record

_EVENTS = ("kvm_entry", "kvm_emulate_insn")
_THREADS, _KEPT = 1 << 14, 1 << 8
"""Threads that are known, and tables that are kept between two looks; of more, a later look may still find the table."""


class FirstEntries:
    """Watches the vCPUs of a process, or of all, until it is closed. Raises UnavailableError where it may not, or the kernel is older."""

    def __init__(self, pid: int | None = None) -> None:
        self._open = ExitStack()
        try:
            places, kvm = VcpuPlaces.of_this_kernel(), btf.of_module("kvm")
            told = {name: kvm.tracepoint(name) for name in _EVENTS}
            arguments = {name: structures.index("kvm_vcpu") for name, structures in told.items() if "kvm_vcpu" in structures}
            if not arguments:
                raise UnavailableError(f"{btf.FOLDER}: this kernel's tracepoints hand over no vCPU")
            maps = (
                self._open.enter_context(Map(MapKind.LRU_HASH, 8, 4, _THREADS)),
                self._open.enter_context(Map(MapKind.PERCPU_ARRAY, 4, ROOM, 1)),
                self._open.enter_context(Map(MapKind.HASH, 8, ROOM, _KEPT)),
            )
            self._found = maps[2]
            for name, argument in arguments.items():
                program = self._open.enter_context(Program(_program(argument, places, pid, *maps), ProgramKind.RAW_TRACEPOINT))
                self._open.enter_context(on_raw_tracepoint(program, name))
        except BaseException:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give all back to the kernel."""
        self._open.close()

    def take(self) -> list[VcpuTable]:
        """Return what was found since the last time, and forget it; a descriptor there is none, but the thread's number."""
        found = self._found.items()
        for key in found:
            del self._found[key]
        return [read_record(record) for record in found.values()]


def _program(argument: int, places: VcpuPlaces, pid: int | None, seen: Map, scratch: Map, found: Map) -> bytes:
    """Write the program: at a thread's first entry, what its vCPU keeps is put under the thread."""
    a = Assembler()
    a.load(8, R8, R1, 8 * argument)
    a.call(Helper.GET_CURRENT_PID_TGID)
    a.mov(R6, R0)
    if pid is not None:
        a.do("rsh", R0, 32)
        a.jump_if(R0, "!=", pid, "out")
    a.store(8, R10, -8, R6)
    look_up(a, seen, -8)
    a.jump_if(R0, "!=", 0, "out")
    look_up_only(a, scratch, -12, "out")
    a.mov(R9, R0)
    a.store(4, R9, 4, R6)
    a.do("rsh", R6, 32)
    a.store(4, R9, 0, R6)
    places.read(a, "out")
    update(a, found, -8, R9)
    a.jump_if(R0, "!=", 0, "out")  # no room now: at another entry
    update(a, seen, -8, -12)
    a.label("out")
    a.exit()
    return a.code()
