"""What VMMs said to KVM about CPUID, call by call, and what follows from it: the host, the vCPUs and their tables, guest by guest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, MsrTable, Snapshot
from vcpuid.errors import InputError

SUPPORTED, EMULATED, HYPERV = "KVM_GET_SUPPORTED_CPUID", "KVM_GET_EMULATED_CPUID", "KVM_GET_SUPPORTED_HV_CPUID"
SET, SET_OLD, GET, KEPT = "KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2", "kept"
GET_MSRS, SET_MSRS, FEATURE_MSRS = "KVM_GET_MSRS", "KVM_SET_MSRS", "KVM_GET_MSR_FEATURE_INDEX_LIST"
CHECK, _CAP_HYPERV = "KVM_CHECK_EXTENSION", 44
CREATE_VM, CREATE_VCPU = "KVM_CREATE_VM", "KVM_CREATE_VCPU"


class KvmCall(NamedTuple):
    """A call: its line in the file, when it was made, by which process and thread, on which descriptor, and what it returned.

    `table`, `msrs` and `indices` are what it handed over or what came back, in order; `asked` is how many of them were asked for or given.
    `argument` is a capability asked about, a vCPU's number, a frequency in kHz, a permission; `arguments` are those of a capability that is
    enabled. `vcpu` and `vm` tell which one it is, `ran` whether the vCPU had run before, None where nobody knows.
    """

    line: int
    time: float
    pid: int | None
    tid: int
    name: str
    descriptor: int
    result: int
    asked: int | None = None
    table: CpuidTable | None = None
    msrs: tuple[tuple[int, int], ...] = ()
    indices: tuple[int, ...] = ()
    argument: int | None = None
    arguments: tuple[int, ...] = ()
    vcpu: int | None = None
    vm: int | None = None
    ran: bool | None = None

    @property
    def refused(self) -> bool:
        """Whether KVM returned an error."""
        return self.result < 0


class VmmProgram(NamedTuple):
    """A process that spoke to KVM: its program's file, its command line, and what its file says of its version, as far as that is told."""

    name: str
    arguments: tuple[str, ...] = ()
    version: str | None = None


@dataclass(frozen=True)
class RecordedVcpu:
    """A vCPU: its number in its guest, the process and the guest that it is of, and the calls about it in order."""

    number: int
    pid: int | None
    vm: int
    calls: tuple[KvmCall, ...]

    @cached_property
    def sets(self) -> tuple[KvmCall, ...]:
        """Each KVM_SET_CPUID2."""
        return tuple(call for call in self.calls if call.name == SET)

    @cached_property
    def handed(self) -> KvmCall | None:
        """The one that counts: the last that KVM took, else the last of all; None where none was seen."""
        taken = [call for call in self.sets if not call.refused]
        return taken[-1] if taken else self.sets[-1] if self.sets else None

    @cached_property
    def kept(self) -> CpuidTable | None:
        """What KVM kept of it, where somebody asked or looked afterwards."""
        since = 0 if self.handed is None else self.calls.index(self.handed)
        told = [call.table for call in self.calls[since:] if call.name in (GET, KEPT) and not call.refused and call.table is not None]
        return told[-1] if told else None

    @property
    def tells(self) -> bool:
        """Whether a table of it is known."""
        return self.handed is not None or self.kept is not None


@dataclass(frozen=True)
class Recording:
    """What was recorded: the command, how (`by`), the kernel, the machine if a snapshot of it is there, and the calls in order.

    `source` is the file's name, for messages.
    """

    source: str
    by: str
    command: tuple[str, ...] = ()
    kernel: str | None = None
    machine: Snapshot | None = None
    calls: tuple[KvmCall, ...] = ()
    programs: Mapping[int | None, VmmProgram] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def vcpus(self) -> tuple[RecordedVcpu, ...]:
        """Every vCPU of which a table is known, guests in the order in which they came, each's vCPUs by number."""
        found = [vcpu for vcpu in _vcpus(self.calls) if vcpu.tells]
        return tuple(sorted(found, key=lambda vcpu: (vcpu.vm, vcpu.number)))

    @cached_property
    def guests(self) -> tuple[tuple[RecordedVcpu, ...], ...]:
        """The vCPUs by guest."""
        by_vm: dict[int, list[RecordedVcpu]] = {}
        for vcpu in self.vcpus:
            by_vm.setdefault(vcpu.vm, []).append(vcpu)
        return tuple(map(tuple, by_vm.values()))

    @cached_property
    def host(self) -> Snapshot:
        """The host: what its KVM answered the VMM, and the machine as far as it is told; what nobody asked is not told."""
        host = self.machine or Snapshot()
        return replace(
            host,
            supported=self._answer(SUPPORTED) or host.supported,
            emulated=self._answer(EMULATED) or host.emulated,
            hyperv=CpuidTable() if self._lacks_hyperv else self._answer(HYPERV) or host.hyperv,
            msrs=self._feature_msrs() or host.msrs,
            kernel=self.kernel or host.kernel,
            notes=(),
        )

    def program(self, vcpu: RecordedVcpu) -> VmmProgram | None:
        """The program whose vCPU it is."""
        return self.programs.get(vcpu.pid)

    def snapshots(self) -> list[Snapshot]:
        """Give a snapshot for each vCPU, or one where there is none: the host with the table handed over and what was kept of it.

        Raises InputError where the recording tells of no CPUID at all.
        """
        guests = [
            replace(
                self.host,
                table=None if vcpu.handed is None else vcpu.handed.table,
                set_result=None if vcpu.handed is None else vcpu.handed.result,
                kept=vcpu.kept,
                notes=tuple(_remarks(vcpu)),
            )
            for vcpu in self.vcpus
        ]
        if not guests and self.host.supported is None and self.host.emulated is None and not self.host.raw:
            raise InputError("nobody in it spoke to KVM of CPUID", source=self.source)
        return guests or [self.host]

    @property
    def _lacks_hyperv(self) -> bool:
        """Whether KVM said that it has nothing of Hyper-V: a VMM gives a guest none of its leaves then, and asks for none."""
        told = [call.result for call in self.calls if call.name == CHECK and call.argument == _CAP_HYPERV]
        return bool(told) and not any(told)

    def _answer(self, name: str) -> CpuidTable | None:
        """Return the last whole answer to a question about all of this KVM."""
        told = [call.table for call in self.calls if call.name == name and not call.refused and call.table is not None]
        return told[-1] if told else None

    def _feature_msrs(self) -> MsrTable | None:
        """Return the feature MSRs that were asked for: those of the device itself, and not of a vCPU."""
        listed = {index for call in self.calls if call.name == FEATURE_MSRS for index in call.indices}
        vcpus = {(call.pid, call.result) for call in self.calls if call.name == CREATE_VCPU}
        told = {
            index: value
            for call in self.calls
            if call.name == GET_MSRS and (call.pid, call.descriptor) not in vcpus and call.vcpu is None
            for index, value in call.msrs[: max(0, call.result)]
            if not listed or index in listed
        }
        return MsrTable(told) if told else None


def _remarks(vcpu: RecordedVcpu) -> Iterator[str]:
    tables = {call.table for call in vcpu.sets if not call.refused}
    if len(tables) > 1:
        yield "KVM took several tables for this vCPU: the last counts"


def _vcpus(calls: Iterable[KvmCall]) -> list[RecordedVcpu]:
    """Put calls together by vCPU: a descriptor means the last one that was made with its number."""
    current: dict[tuple[int | None, int], tuple[int, int]] = {}
    vms: dict[tuple[object, ...], int] = {}
    found: dict[tuple[int, int, int], tuple[KvmCall, list[KvmCall], int]] = {}
    made: dict[tuple[int | None, int], int] = {}
    for call in calls:
        place = call.pid, call.descriptor
        if call.name == CREATE_VM and not call.refused:
            made[call.pid, call.result] = made.get((call.pid, call.result), 0) + 1
        elif call.name == CREATE_VCPU and not call.refused:
            vm = vms.setdefault((*place, made.get(place, 0)), len(vms))
            current[call.pid, call.result] = vm, call.argument or 0
        elif call.name in (SET, SET_OLD, GET, KEPT, SET_MSRS, GET_MSRS):
            if place not in current:
                if call.name in (GET_MSRS, SET_MSRS):  # of the device itself, or of a vCPU that nobody saw
                    continue
                of = ("vm", call.vm) if call.vm is not None else ("process",)
                vm = vms.setdefault((call.pid, *of), len(vms))
                number = call.vcpu if call.vcpu is not None else sum(of_vm == vm for of_vm, _ in current.values())
                current[place] = vm, number
            vm, number = current[place]
            found.setdefault((vm, number, call.descriptor), (call, [], number))[1].append(call)
    return [RecordedVcpu(number, first.pid, vm, tuple(of)) for (vm, _, _), (first, of, number) in found.items()]
