"""What a recording of a VMM's calls shows wrong, beside what its tables say."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from vcpuid.cpuid import Bit, CpuidTable, bits
from vcpuid.decode.ignore import CPU, Ignored
from vcpuid.formats.recorded_calls import SET_MSRS, KvmCall, RecordedVcpu
from vcpuid.hazards.rule import Hazard, HazardRule, Looks, Severity
from vcpuid.kvm.feature_msrs import VMX
from vcpuid.vmm.observed import ShownGuest

_ANNOUNCED: dict[int, tuple[Bit, ...]] = {
    0x48: (bits.SPEC_CTRL, bits.SPEC_CTRL_SSBD, bits.AMD_IBRS, bits.AMD_STIBP, bits.AMD_SSBD),
    0x10A: (bits.ARCH_CAPABILITIES,),
    0x345: (bits.PDCM,),
    0x6E0: (bits.TSC_DEADLINE_TIMER,),
    0xD90: (bits.MPX,),
    0xDA0: (bits.XSAVES,),
    0x1C4: (bits.XFD,),
    0x1C5: (bits.XFD,),
    0xC0000103: (bits.RDTSCP, bits.RDPID),
    **dict.fromkeys(VMX, (bits.VMX,)),
}
"""MSRs by index, and the bits of CPUID of which one announces each."""

_HYPERV = range(0x40000000, 0x400000F0)
"""Hyper-V's MSRs, but for those in which a hypervisor tells what it can (its crash control, say), which QEMU sets in any guest."""
_HYPERV_INTERFACE = 0x31237648
"""EAX of leaf 0x40000001 where Hyper-V's interface is offered: "Hv#1"."""
_MOST = 4


def of_calls(shown: ShownGuest) -> tuple[Hazard, ...]:
    """Find what a recording shows wrong of a guest, in the order of the rules."""
    found = (Hazard(rule, tuple(dict.fromkeys(rule.detect(shown)))) for rule in RULES)
    return tuple(hazard for hazard in found if hazard.subjects)


def _without_table(shown: ShownGuest) -> Iterator[str]:
    for vcpu in shown.vcpus:
        if vcpu.sets and all(call.refused for call in vcpu.sets):
            yield f"vCPU {vcpu.number}: {_refusal(vcpu.sets[-1])}"


def _refused_once(shown: ShownGuest) -> Iterator[str]:
    for vcpu in shown.vcpus:
        refused = [call for call in vcpu.sets if call.refused]
        if refused and len(refused) < len(vcpu.sets):
            yield f"vCPU {vcpu.number}: {_refusal(refused[0])}"


def _refusal(call: KvmCall) -> str:
    return f"{errno.errorcode.get(-call.result, call.result)} (line {call.line})"


def _late(shown: ShownGuest) -> Iterator[str]:
    for vcpu in shown.vcpus:
        yield from (f"vCPU {vcpu.number} (line {call.line})" for call in vcpu.sets if call.ran and _new(vcpu, call))


def _new(vcpu: RecordedVcpu, call: KvmCall) -> bool:
    """Whether a call handed over another table than the one before it: the same again changes nothing."""
    before = [other.table for other in vcpu.sets[: vcpu.sets.index(call)] if not other.refused]
    return not before or before[-1] != call.table


def _unequal(shown: ShownGuest) -> Iterator[str]:
    """Name the registers of other vCPUs that are not the first's, but for ids."""
    first, *others = zip(shown.vcpus, shown.tables, strict=True)
    for vcpu, table in others:
        differing = list(_differing(first[1], table))
        if differing:
            more = f" and {len(differing) - _MOST} more" if len(differing) > _MOST else ""
            yield f"vCPU {vcpu.number} and vCPU {first[0].number}: {', '.join(differing[:_MOST])}{more}"


def _differing(one: CpuidTable, other: CpuidTable) -> Iterator[str]:
    """Name registers that differ; an entry that is not there reads as zeros, and QEMU hands over none that is all zeros (an id's, say)."""
    counting = Ignored((CPU,), [one, other])
    mine, theirs = one.words(), other.words()
    for word in dict.fromkeys((*mine, *theirs)):
        changed = mine.get(word, 0) ^ theirs.get(word, 0)
        if changed and counting.counts(word, changed):
            yield str(word)


def _denied(shown: ShownGuest) -> Iterator[str]:
    """Name MSRs that were given a value, though the guest's CPUID says that there are none."""
    for vcpu, table in zip(shown.vcpus, shown.tables, strict=True):
        for call in _set_msrs(vcpu):
            for index, value in call.msrs[: max(0, call.result)]:
                if value and _denies(table, index):
                    yield f"vCPU {vcpu.number}: MSR {index:#x} = {value:#x}"


def _denies(table: CpuidTable, index: int) -> bool:
    if index in _ANNOUNCED:
        return not any(table.has(bit) for bit in _ANNOUNCED[index])
    if index in _HYPERV:
        return table.registers(0x40000001).eax != _HYPERV_INTERFACE
    return False


def _short(shown: ShownGuest) -> Iterator[str]:
    for vcpu in shown.vcpus:
        for call in _set_msrs(vcpu):
            given = len(call.msrs) if call.asked is None else call.asked
            if call.result < given:
                taken = max(0, call.result)
                which = f"MSR {call.msrs[taken][0]:#x} = {call.msrs[taken][1]:#x}" if taken < len(call.msrs) else "MSRs"
                yield f"vCPU {vcpu.number}: {which} ({taken} of {given} taken, line {call.line})"


def _set_msrs(vcpu: RecordedVcpu) -> Iterator[KvmCall]:
    return (call for call in vcpu.calls if call.name == SET_MSRS)


RULES = (
    HazardRule(
        "recording.refused", Severity.BREAKS, _without_table,
        "KVM refused every table that this vCPU was given: its CPUID has no leaf, and a VMM that goes on starts a guest that finds no CPU.",
        "see what KVM refuses with vcpuid kvm set on the table, and give the vCPU another one",
        Looks.RECORDING,
    ),
    HazardRule(
        "recording.msrs-refused", Severity.BREAKS, _short,
        "KVM takes MSRs in order up to the first that it refuses, and returns how many it took: the rest is not set. QEMU aborts then.",
        "leave out what needs this MSR, or run a KVM that has it: vcpuid diagnose tells which",
        Looks.RECORDING,
    ),
    HazardRule(
        "recording.unequal", Severity.RISK, _unequal,
        "The vCPUs of one guest differ in more than their ids. A guest's kernel takes what the first shows for all, and a thread that "
        "moves to another vCPU may execute what that lacks.",
        "give all vCPUs the same table, but for APIC ids",
        Looks.RECORDING,
    ),
    HazardRule(
        "recording.late", Severity.RISK, _late,
        "A table came after KVM_RUN. KVM refuses another one then since Linux 5.16; before, it changes the guest's CPU under the guest.",
        "call KVM_SET_CPUID2 before the vCPU runs for the first time",
        Looks.RECORDING,
    ),
    HazardRule(
        "recording.msr-denied", Severity.RISK, _denied,
        "The VMM set an MSR of which the guest's CPUID says that it is not there: the guest does not look for it, or gets #GP, and a KVM "
        "that goes by CPUID refuses it when the guest is moved.",
        "announce it in CPUID, or leave it as it is",
        Looks.RECORDING,
    ),
    HazardRule(
        "recording.refused-once", Severity.NOTE, _refused_once,
        "KVM refused a table before it took one.",
        "do nothing where the VMM only tries what KVM takes",
        Looks.RECORDING,
    ),
)  # fmt: skip
