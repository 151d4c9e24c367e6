"""From `-cpu` to the tables of a whole guest: one call for QEMU's part of the path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from vcpuid import versions
from vcpuid.cpuid.registers import CpuidTable, Snapshot
from vcpuid.errors import QemuError
from vcpuid.path.decisions import Decision
from vcpuid.qemu import catalog, hyperv
from vcpuid.qemu.entries import Builder
from vcpuid.qemu.kvmhost import KvmHost, initialize
from vcpuid.qemu.leaves import Cpu, hypervisor
from vcpuid.qemu.realize import realize
from vcpuid.qemu.rules import account
from vcpuid.qemu.smp import parse
from vcpuid.qemu.state import CpuState


@dataclass(frozen=True)
class QemuResult:
    """What QEMU makes of a command line.

    `tables` holds one table a vCPU, `warnings` what QEMU prints, in its order, without the program's name and the word "warning". `state`
    is the CPU behind the tables, `supported` the KVM_GET_SUPPORTED_CPUID that QEMU saw.
    """

    tables: tuple[CpuidTable, ...]
    warnings: list[str]
    state: CpuState
    supported: CpuidTable = field(repr=False)

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        """Why each bit of vCPU 0's table is not what KVM supports; worked out when first asked for."""
        return account(self.supported, self.state, self.tables[0])


def guest_tables(
    cpu: str,
    *,
    host: Snapshot,
    qemu: str = "11.1",
    machine: str = "q35",
    smp: str = "1",
    kernel: str = "6.12",
    params: Mapping[str, int | str | bool] | None = None,
    kvm: KvmHost | None = None,
) -> QemuResult:
    """Work out the tables that QEMU hands to KVM_SET_CPUID2 for `-cpu CPU -machine MACHINE -smp SMP`.

    `host` holds the host's RAW leaves; its SUP, HV and MSR lines are used where there are any, else SUP is modelled for `kernel` and its
    module parameters `params`. `kvm` is what else QEMU asks of KVM. Raises QemuError with QEMU's message, and the warnings before it, where
    QEMU refuses to start; InputError where a name or version makes no sense.
    """
    release = versions.qemu(qemu)
    kvm = kvm or KvmHost()
    if host.supported is None:
        host = replace(host, supported=_modelled(host, kernel, params))
    supported = host.supported
    assert supported is not None
    resolved = catalog.resolve_machine(release, machine)
    topology, smp_warnings = parse(smp, release, resolved)
    warnings = [*smp_warnings, *kvm.count_warnings(topology)]
    try:
        state = realize(cpu, host, release, resolved, topology)
        warnings += state.warnings
        found = Cpu(state, topology, host, supported)
        hv = hyperv.expand(state.props, host.hyperv, found.release)
        found.tsc_khz = initialize(kvm, found, hv)
    except QemuError as error:
        raise QemuError(error.message, (*warnings, *error.warnings)) from None
    first = [] if hv is None else hyperv.entries(hv, state.props, host.hyperv)
    first += hypervisor.entries(found, hv is not None)
    last = hypervisor.frequency_entries(found, hv is not None)
    builder = Builder(found, first)
    tables = tuple(CpuidTable(builder.table(topology.apic_id(number)) + last) for number in range(topology.cpus))
    warnings += getattr(state,"late_warnings",[])
    repeated = [warning for warning in state.warnings if warning not in state.once]
    return QemuResult(tables, warnings + repeated * (topology.cpus - 1), state, supported)


def _modelled(host: Snapshot, kernel: str, params: Mapping[str, int | str | bool] | None) -> CpuidTable:
    from vcpuid.kvm import supported

    return supported(host, kernel=kernel, params=params).table
