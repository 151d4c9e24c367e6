"""From `-cpu` to the tables of a whole guest: one call for QEMU's part of the path."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.words import range_of
from vcpuid.errors import QemuError
from vcpuid.kvm.alike import Alike
from vcpuid.kvm.answers import Answers, kvm_says
from vcpuid.params import Given
from vcpuid.qemu import board, catalog, hyperv
from vcpuid.qemu.entries import Builder
from vcpuid.qemu.kept import LONG, are_long
from vcpuid.qemu.kvmhost import KvmHost, initialize
from vcpuid.qemu.leaves import RealizedCpu, hypervisor
from vcpuid.qemu.machine_option import of_flags
from vcpuid.qemu.realize import NOWHERE, PLACES, check_place, realized_for
from vcpuid.qemu.rules import account
from vcpuid.qemu.smp import parse
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.topology import GuestTopology
from vcpuid.qemu.unknown import hinting
from vcpuid.reasons import Decision
from vcpuid.releases import Release, number
from vcpuid.setup import SHARED, Setup, settled


@dataclass(frozen=True)
class QemuResult:
    """What QEMU makes of a command line.

    `tables` holds one table a vCPU, `warnings` what QEMU prints, in its order, without the program's name and the word "warning". `state`
    is the CPU behind the tables, `supported` the KVM_GET_SUPPORTED_CPUID that QEMU saw.
    """

    tables: tuple[CpuidTable, ...]
    warnings: tuple[str, ...]
    state: CpuState
    supported: CpuidTable = field(repr=False)

    def __str__(self) -> str:
        made = f"{len(self.tables)} table{'s' if len(self.tables) > 1 else ''} of {len(self.tables[0])} entries"
        return f"{self.state.model}, QEMU {self.state.release}, {self.state.machine}: {made}, {len(self.warnings)} warnings"

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Why each bit of vCPU 0's table is not what KVM supports; worked out when first asked for."""
        return account(self.supported, self.state, self.tables[0])

    @cached_property
    def msrs(self) -> FrozenMap[Word, int]:
        """The feature MSRs that QEMU sets on each vCPU, by word."""
        state = self.state
        rows = catalog.catalog(state.release).msrs
        return FrozenMap((word, state.features[name]) for name, word in rows if name in state.features)

    @cached_property
    def dropped(self) -> dict[str, int]:
        """The bits that -cpu switches on and that QEMU drops without a word, by feature word: pdcm with pmu=off, avx2 with level=4.

        Of the paravirtual leaves, which Hyper-V's may push aside, QEMU's own words count.
        """
        found: dict[str, int] = {}
        for name, mask in self.state.asked.items():
            word = catalog.catalog(self.state.release).by_name[name].word
            of_table = isinstance(word, CpuidWord) and range_of(word.function) != hypervisor.SIGNATURE
            given = self.tables[0].word(word) if isinstance(word, CpuidWord) and of_table else self.state.features[name]
            if lost := mask & ~given & ~self.state.filtered.get(name, 0):
                found[name] = lost
        return found

    @cached_property
    def denied(self) -> dict[str, int]:
        """The bits that were asked for and are not given: those that QEMU filtered, of which it warns, and those that it dropped."""
        filtered, dropped = self.state.filtered, self.dropped
        return {name: filtered.get(name, 0) | dropped.get(name, 0) for name in (*filtered, *(dropped.keys() - filtered.keys()))}


def guest_tables(
    cpu: str,
    *,
    host: Snapshot | Setup,
    qemu: str | Release | None = None,
    machine: str = "q35",
    smp: str = "1",
    kernel: str | Release | None = None,
    params: Given | None = None,
    kvm: KvmHost | None = None,
) -> QemuResult:
    """Work out the tables that QEMU hands to KVM_SET_CPUID2 for `-cpu CPU -machine MACHINE -smp SMP`.

    `machine` takes options as -machine does ("q35,kernel-irqchip=split"): `vcpuid.qemu.machine_option` tells which of them count.
    `host` holds the host's RAW leaves, or SUP lines that stand for them; its SUP and HV lines are used where there are any, else both are
    modelled for `kernel` (by default the snapshot's own) and its `params`. Or `host` is a Setup, which holds these, QEMU's release, machine
    and smp. `kvm` is what else QEMU asks of KVM. Raises QemuError with QEMU's message, and the warnings before it, where QEMU refuses to
    start; InputError for a release that is none, where the QEMU asked for may have what its tables lack, and for a machine option whose
    consequences are not modelled.

    Not among the warnings: that a machine type is deprecated, which says nothing of the CPU.
    """
    setup = settled(host, kernel=kernel, qemu=qemu, machine=machine, smp=smp, params=params, observed=True)
    with hinting(cpu, setup):
        return make(cpu, setup, kvm or KvmHost())


_MADE: Alike[QemuResult | QemuError] = Alike(SHARED)
_OF_LONG: Alike[QemuResult | QemuError] = Alike(LONG)


def make(cpu: str, setup: Setup, kvm: KvmHost) -> QemuResult:
    """Work out the tables on a settled host; hosts that QEMU cannot tell apart share them. What it refuses is told in its words alone."""
    asked = (cpu, setup.vmm.tables, setup.machine, setup.smp, setup.globals, kvm)
    known = _OF_LONG if are_long(cpu, setup.machine, setup.smp, setup.globals) else _MADE
    made = known.made(asked, kvm_says(setup), lambda says: _attempted(cpu, setup, kvm, says))
    if isinstance(made, QemuError):
        raise QemuError(made.message, made.warnings)
    return made


def _attempted(cpu: str, setup: Setup, kvm: KvmHost, says: Answers) -> QemuResult | QemuError:
    try:
        return _made(cpu, setup, kvm, says)
    except QemuError as error:
        return error.with_traceback(None)


def _made(cpu: str, setup: Setup, kvm: KvmHost, says: Answers) -> QemuResult:
    release = setup.vmm.tables
    topology, smp_warnings = parse(setup.smp, release, setup.machine)
    machine = catalog.machine(release, setup.machine)
    warnings = [*of_flags(setup.machine, number(release)), *smp_warnings, *kvm.count_warnings(topology)]
    try:
        asked = number(release)
        if asked >= (7, 1):
            board.check_irqchip(topology, asked, machine)
        state = realized_for(cpu, setup, says, topology, kvm.xcr0)
        warnings += state.warnings
        tables = _tables(RealizedCpu(state, topology, says.raw, says.supported), says, kvm)
        warnings += state.late_warnings
        if topology.cpus > 1:
            warnings += _of_others(state, topology)
        board.check(state, machine, setup.globals)
        if asked < (7, 1):
            board.check_irqchip(topology, asked, machine)
        warnings += board.warnings(state, tables[0], machine)
    except QemuError as error:
        raise QemuError(error.message, (*warnings, *error.warnings)) from None
    return QemuResult(tables, tuple(warnings), state, says.supported)


def _of_others(state: CpuState, topology: GuestTopology) -> list[str]:
    """Return what QEMU prints of all vCPUs but the first; raises QemuError where one of them is refused, which the first was not."""
    repeated = [warning for warning in (*state.warnings, *state.late_warnings) if warning not in state.once]
    given = any(state.props.get(name, NOWHERE) != NOWHERE for name in PLACES)
    for place in range(1, topology.cpus) if given else ():
        try:
            check_place(state.props, topology, place)
        except QemuError as error:
            raise QemuError(error.message, repeated * (place - 1)) from None
    return repeated * (topology.cpus - 1)


def _tables(cpu: RealizedCpu, host: Answers, kvm: KvmHost) -> tuple[CpuidTable, ...]:
    """Set up the vCPUs: hypervisor leaves come first, the frequency leaf last."""
    hv = cpu.state.hyperv
    of_host = None if hv is None else host.hyperv
    cpu.tsc_khz = initialize(kvm, cpu, hv, of_host)
    first = [] if hv is None else hyperv.entries(hv, cpu.props, of_host, cpu.release)
    first += hypervisor.entries(cpu, hv is not None)
    builder = Builder(cpu, first, hypervisor.frequency_entries(cpu, hv is not None))
    return tuple(CpuidTable(builder.table(cpu.topology.apic_id(number))) for number in range(cpu.topology.cpus))
