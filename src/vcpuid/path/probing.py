"""The last two steps of a path as a real vCPU takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, CpuidWord, Registers, Word
from vcpuid.cpuid.words import REGISTERS
from vcpuid.path.words import GuestWords, TableWords
from vcpuid.reasons import Basis, Step
from vcpuid.reasons.lazy import LazySequence
from vcpuid.releases import Release

GUEST = "the guest's CPUID instruction"


class VcpuReading(Protocol):
    """What a real vCPU made of a table: the table it kept and what CPUID returned inside."""

    @property
    def kept(self) -> CpuidTable:
        """KVM_GET_CPUID2 after KVM_SET_CPUID2."""

    @property
    def seen(self) -> Mapping[tuple[int, int], Registers]:
        """CPUID's answers in the guest, by function and index."""


class Probe(Protocol):
    """Hands a table to a real vCPU and reads leaves inside a guest; `vcpuid.live.tiny_guest.read_cpuid` is one."""

    def __call__(self, table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> VcpuReading:
        """Set the table, run the guest, return what it read."""


def observe(probe: Probe, table: CpuidTable, vcpu: Step, msrs: Mapping[Word, int], kernel: Release) -> tuple[Step, Step]:
    """The last two steps as a real vCPU takes them; the model's answer beside each is to what that vCPU was given and kept."""
    reading = probe(table, list(table.by_key()))
    seen: dict[Word, int] = {
        CpuidWord(function, index, register): value
        for (function, index), registers in reading.seen.items()
        for register, value in zip(REGISTERS, registers, strict=True)
    }
    real = replace(vcpu, after=TableWords(reading.kept, msrs), basis=Basis.OBSERVED, modelled=vcpu.after)
    looked_up = GuestWords(reading.kept, msrs, kernel)
    decisions = LazySequence(lambda: kvm.seen(reading.kept, kernel=kernel).decisions)
    guest = Step("guest", "KVM's look-up", GUEST, real.after, {**seen, **msrs}, decisions, Basis.OBSERVED, looked_up)
    return real, guest


def kept_as(kept: CpuidTable, vcpu: Step, msrs: Mapping[Word, int], kernel: Release) -> tuple[Step, Step]:
    """The last two steps of a vCPU whose table somebody read: what the guest's CPUID makes of that goes by KVM's rules."""
    real = replace(vcpu, after=TableWords(kept, msrs), basis=Basis.OBSERVED, modelled=vcpu.after)
    decisions = LazySequence(lambda: kvm.seen(kept, kernel=kernel).decisions)
    return real, Step("guest", "KVM's look-up", GUEST, real.after, GuestWords(kept, msrs, kernel), decisions)
