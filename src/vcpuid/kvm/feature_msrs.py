"""KVM's feature MSRs, what KVM_GET_MSRS answers on the device (Linux arch/x86/kvm/x86.c, since 7.3 msrs.c; vmx.c, svm.c).

Each is the first of: what the snapshot's MSR lines say, under the kernel that the host ran; what this module makes of the hardware's MSR,
where that is told (`msr.INDEX`, the snapshot's HWMSR lines, for the microcode /proc/cpuinfo) or does not matter; of
IA32_ARCH_CAPABILITIES what it makes of the bits that KVM's own under another kernel or /proc/cpuinfo tell, the others being off; nothing.
What KVM makes of VMX's capabilities, 0x480 to 0x491, for nested guests (nested_vmx_setup_ctls_msrs) is not modelled: HWMSR lines tell
nothing of it, and `msr.INDEX` counts as KVM's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vcpuid.cpuid import MsrTable, MsrWord, Word
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.kvm import arch_capabilities, perf_capabilities
from vcpuid.kvm.caps import Caps, loaded
from vcpuid.kvm.pmu import asks_perf
from vcpuid.linux import boot_cpu, narrow
from vcpuid.linux.machine import ARCH_CAPABILITIES, MICROCODE, PLATFORM_INFO, PLATFORM_INFO_CPUID_FAULT, Machine, machine_of
from vcpuid.reasons import Decision, Ledger, Rule, Unrecorded
from vcpuid.reasons.lazy import LazySequence
from vcpuid.setup import Remembered, Setup

PERF_CAPABILITIES = 0x345
DE_CFG = 0xC0011029
VMX = range(0x480, 0x492)

LFENCE = Rule(
    "kvm.de-cfg.lfence",
    "LFENCE is serializing on this host, as its kernel knows",
    "svm_get_feature_msr, arch/x86/kvm/svm/svm.c",
)
CPUID_FAULT = Rule(
    "kvm.platform-info",
    "KVM can make a guest's CPUID fault, and virtualizes nothing else of this MSR",
    "kvm_get_feature_msr, arch/x86/kvm/x86.c",
    since="6.14",
)

_LFENCE_SERIALIZES = 1 << 1


@dataclass(frozen=True, slots=True)
class FeatureMsrs:
    """KVM's feature MSRs as far as they are known: `table`; of these, `modelled` are those that the snapshot does not tell.

    `before` are the hardware's values of the modelled ones, 0 where it has none, and `decisions` lead from these to the table's. `offered`
    are the indices of all that this KVM lists; one that is not in the table is not told. `partly` are those in the table of which only some
    bits are told, and the others are taken to be off in the hardware.
    """

    table: MsrTable
    offered: frozenset[int]
    modelled: frozenset[int] = frozenset()
    partly: frozenset[int] = frozenset()
    before: Mapping[Word, int] = field(default_factory=FrozenMap)
    decisions: Sequence[Decision] = field(default=(), compare=False)

    @property
    def untold(self) -> tuple[int, ...]:
        """The indices of those that KVM offers with a value that is not known, or not as a whole."""
        return tuple(sorted(self.offered - self.table.keys() | self.partly))


@Remembered
def feature_msrs(setup: Setup) -> FeatureMsrs:
    """Return KVM's feature MSRs of a settled host; of one that tells no CPUID, those that the snapshot tells."""
    if not setup.host.raw:
        return FeatureMsrs(setup.host.msrs, frozenset(setup.host.msrs))
    return _modelled(setup, Unrecorded())


class Known(NamedTuple):
    """What is known of an MSR: the bits of `mask` are those of `value`."""

    value: int
    mask: int


@Remembered
def known_arch_capabilities(setup: Setup) -> Known:
    """Return what is known of KVM's IA32_ARCH_CAPABILITIES: all of it, or the bits that are the same whatever the hardware's are.

    What /proc/cpuinfo tells of these narrows them (`vcpuid.linux.narrow`). Each bit that is left open is tried by itself, set where the
    others are not and clear where they are. Raises InputError where the host tells no CPUID.
    """
    told = feature_msrs(setup)
    if ARCH_CAPABILITIES in told.table and ARCH_CAPABILITIES not in told.partly:
        return Known(told.table[ARCH_CAPABILITIES], _ALL)
    must, may = narrow.arch_capabilities(setup)
    least, most = must, may & arch_capabilities.consulted(setup.kernel.tables) | must
    open_ = [1 << bit for bit in range((least ^ most).bit_length()) if (least ^ most) >> bit & 1]
    tried = [least, most, *(least | bit for bit in open_), *(most & ~bit for bit in open_)]
    answers = [feature_msrs(narrow.with_capabilities(setup, value)).table[ARCH_CAPABILITIES] for value in tried]
    differing = 0
    for answer in answers:
        differing |= answer ^ answers[0]
    return Known(answers[0] & ~differing, _ALL & ~differing)


_ALL = (1 << 64) - 1


def _modelled(setup: Setup, ledger: Ledger) -> FeatureMsrs:
    caps = loaded(setup)
    observed = setup.host.msrs
    offered = _offered(caps)
    machine = machine_of(setup)
    values: dict[int, int] = {}
    before: dict[Word, int] = {}
    partly: frozenset[int] = frozenset()
    for index in sorted(offered.difference(observed, observed.refused)):
        hardware = _hardware_value(index, caps, machine)
        if hardware is None and index == ARCH_CAPABILITIES and (bounds := narrow.arch_capabilities(setup)) != narrow.NOTHING:
            estimate = machine.msr(index) if index in machine.seen else None
            hardware, partly = bounds.must if estimate is None else estimate, frozenset({index})
        if hardware is None:
            continue
        before[MsrWord(index)] = hardware
        values[index] = _value(index, setup, caps, hardware, ledger)
    table = MsrTable({**observed, **values}, observed.refused) if values else observed
    decisions = tuple(ledger.decisions) if ledger.records else LazySequence(lambda: _modelled(setup, Ledger()).decisions)
    return FeatureMsrs(table, offered.union(observed), frozenset(values), partly, FrozenMap(before), decisions)


def _offered(caps: Caps) -> frozenset[int]:
    """List what KVM_GET_MSR_FEATURE_INDEX_LIST does (kvm_init_msr_list)."""
    listed = {MICROCODE, ARCH_CAPABILITIES, PERF_CAPABILITIES}
    if caps.boot.number >= (6, 14):
        listed.add(PLATFORM_INFO)
    if caps.hardware.module == "kvm_amd":
        listed.add(DE_CFG)
    elif "nested" in caps.hardware.on:
        listed.update(VMX)
    return frozenset(listed)


def _hardware_value(index: int, caps: Caps, machine: Machine) -> int | None:
    """Return the hardware's value as far as KVM's depends on it; None where that is not told."""
    boot, hardware = caps.boot, caps.hardware
    if index == ARCH_CAPABILITIES and not boot.has("ARCH_CAPABILITIES"):
        return 0
    told = machine.hardware(index)
    if told is not None and (index not in VMX or machine.given(index)):
        return told
    if index in (PLATFORM_INFO, DE_CFG):
        return 0
    if index == PERF_CAPABILITIES and hardware.module == "kvm_intel" and not asks_perf(boot.number, boot.kernel):
        told = boot.number > (5, 10) and boot.has("PDCM") and perf_capabilities.switched_on(boot, hardware)
        return None if told else 0
    if index == PERF_CAPABILITIES and (hardware.module == "kvm_amd" or "pmu" not in hardware.on or not boot.has("PDCM")):
        return 0
    return None


def _value(index: int, setup: Setup, caps: Caps, hardware: int, ledger: Ledger) -> int:
    boot = caps.boot
    if index == ARCH_CAPABILITIES:
        if "bugs" in setup.host.cpuinfo:  # what the host's own kernel found of the processor holds
            boot = boot_cpu(setup, facts=True)
        return arch_capabilities.offered(setup, boot, caps.hardware, hardware, ledger)
    if index == PERF_CAPABILITIES:
        return perf_capabilities.offered(boot, caps.hardware, hardware, ledger)
    if index == PLATFORM_INFO:
        return ledger.compute(MsrWord(index), hardware, PLATFORM_INFO_CPUID_FAULT, CPUID_FAULT)
    if index == DE_CFG:
        return ledger.compute(MsrWord(index), hardware, _LFENCE_SERIALIZES if boot.has("LFENCE_RDTSC") else 0, LFENCE)
    return hardware
