"""Tries instructions in a real guest: a 64-bit machine whose processor has the table of choice.

Each instruction is one KVM_RUN, which starts on it in ring 3, or in ring 0 where only a kernel may execute it, and ends in one of the
handlers of `kernel.py`. Nothing in the guest loops, and the time is bounded from outside.
"""

from __future__ import annotations

import errno
import mmap
import time
from collections.abc import Iterable, Iterator

from vcpuid.cpuid import CpuidTable, Registers
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.live import kvm_structs as structs
from vcpuid.live.kvm_device import Vcpu
from vcpuid.live.tiny_guest import CODE, machine, read_cpuid
from vcpuid.probe import kernel
from vcpuid.probe.advertised import Seen, advertises, places, shows
from vcpuid.probe.instructions import INSTRUCTIONS, NOTHING, Instruction, Needs
from vcpuid.probe.outcome import CANNOT_ENABLE, CANNOT_TELL, HANGS, Outcome, feature_name, judge

_ONE = 2.0
"""The most that one instruction gets, in seconds."""


def guest(table: CpuidTable, instructions: Iterable[Instruction] = INSTRUCTIONS, *, seconds: float = 30.0) -> list[Outcome]:
    """Try every instruction in a guest whose vCPU is given `table`, all of them within about so many seconds.

    What is advertised is what CPUID returns inside, which need not be what the table asks for. Raises KvmError where KVM refuses the
    table, UnavailableError where there is no usable /dev/kvm or it cannot run a 64-bit guest.
    """
    tried = list(instructions)
    leaves = places(tried)
    limit = time.monotonic() + seconds
    kernels = read_cpuid(table, leaves).seen
    with machine(table) as (vcpu, memory):
        users = _Bench(vcpu, memory, limit).read_cpuid(leaves)
    return [
        Outcome(
            feature=feature_name(instruction),
            instruction=instruction.name,
            advertised=advertises(kernels, instruction),
            result=result,
            detail=detail,
            asked=shows(table, instruction),
            to_user=advertises(users, instruction),
        )
        for instruction, (result, detail) in zip(tried, _results(table, tried, limit), strict=True)
    ]


def _results(table: CpuidTable, tried: list[Instruction], limit: float) -> Iterator[tuple[str, str]]:
    """Try one after the other; a vCPU that stops other than by a handler is thrown away, and the next gets a new one."""
    rest = iter(tried)
    waiting = next(rest, None)
    while waiting is not None:
        with machine(table) as (vcpu, memory):
            bench = _Bench(vcpu, memory, limit)
            while waiting is not None and not bench.broken:
                yield bench.try_one(waiting)
                waiting = next(rest, None)


class _Stop(Exception):
    """The guest did not come back by way of a handler."""

    def __init__(self, result: str, detail: str) -> None:
        super().__init__(detail)
        self.result, self.detail = result, detail


class _Bench:
    """A vCPU with the kernel in place. `broken` once the vCPU has stopped in a way that leaves its state unknown."""

    def __init__(self, vcpu: Vcpu, memory: mmap.mmap, limit: float) -> None:
        self._vcpu, self._memory, self._limit = vcpu, memory, limit
        self._start = vcpu.get_sregs()
        self.broken = False
        kernel.install(memory)

    def read_cpuid(self, leaves: Iterable[tuple[int, int]]) -> Seen:
        """Execute CPUID as user code.

        Raises UnavailableError where that does not work: it shows that this KVM runs the bench at all.
        """
        seen = {}
        for leaf in leaves:
            try:
                raised = self._run(kernel.cpuid(*leaf), 3, NOTHING)
            except (KvmError, _Stop) as stop:
                raised = str(stop)
            if raised is not None:
                raise UnavailableError(f"this KVM does not run user code of a 64-bit guest: {raised}")
            regs = self._vcpu.get_regs()
            seen[leaf] = Registers(*(value & 0xFFFFFFFF for value in (regs.rax, regs.rbx, regs.rcx, regs.rdx)))
        return seen

    def try_one(self, instruction: Instruction) -> tuple[str, str]:
        """Give result and detail of one instruction."""
        try:
            lacking = self._enable(instruction.needs)
            if lacking:
                return CANNOT_ENABLE, lacking
            raised = self._run(instruction.code, instruction.ring, instruction.needs)
            return judge(instruction, raised, self._vcpu.get_regs().rax)
        except _Stop as stop:
            self.broken = True
            return stop.result, stop.detail

    def _enable(self, needs: Needs) -> str:
        """Switch on what an instruction needs, as a guest's kernel would; says what KVM refuses, empty where it refuses nothing."""
        try:
            self._vcpu.set_sregs(kernel.control(self._start, 0, needs))
        except KvmError:
            return f"KVM refuses {needs.registers}"
        if needs.xcr0:
            raised = self._run(kernel.set_xcr0(needs.xcr0), 0, needs)
            if raised is not None:
                return f"XSETBV with {needs.xcr0:#x} raises {raised}"
        return ""

    def _run(self, code: bytes, ring: int, needs: Needs) -> str | None:
        """Run code to its end, or to an exception, which is returned."""
        self._vcpu.set_sregs(kernel.control(self._start, ring, needs))
        self._vcpu.set_regs(kernel.prepare(self._memory, CODE, code, ring))
        left = min(self._limit - time.monotonic(), _ONE)
        if left <= 0:
            raise _Stop(CANNOT_TELL, "the time for all of them was up")
        try:
            reason = self._vcpu.run(left)
        except KvmError as error:
            hangs = error.errno == errno.ETIME and left == _ONE
            raise _Stop(HANGS if hangs else CANNOT_TELL, str(error)) from None
        vector = kernel.vector_of(self._vcpu.exit_port) if reason == structs.EXIT_IO else None
        if vector is None:
            raise _Stop(CANNOT_TELL, f"KVM stopped the guest: {structs.EXIT_NAMES.get(reason, f'exit {reason}')}")
        return None if vector == kernel.BREAKPOINT else kernel.EXCEPTIONS.get(vector, f"vector {vector}")
