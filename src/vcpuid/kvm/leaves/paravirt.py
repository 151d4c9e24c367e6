"""KVM's own leaves: its signature and what it offers to guests that know it."""

from __future__ import annotations

from vcpuid.cpuid import vendors
from vcpuid.kvm.leaves.build import SOURCE, Build, Leaf
from vcpuid.reasons import Rule

_KVM = Rule("kvm.leaf.paravirt", "KVM introduces itself here and tells what it offers to guests that know it", SOURCE)

_STEAL_TIME = 1 << 5
_FEATURES = sum(1 << bit for bit in (0, 1, 3, 4, 6, 7, 9, 10, 11, 12, 13, 14, 24))
"""Clock, no I/O delay, clock by new MSRs, asynchronous faults, end of interrupt, unhalt, TLB flush, asynchronous faults as exits, IPIs,
poll control, yield, asynchronous faults by interrupt, stable clock: KVM_FEATURE_* of arch/x86/include/uapi/asm/kvm_para.h."""


def _signature(_build: Build, registers: list[int]) -> None:
    registers[:] = (0x40000001, *vendors.twelve(vendors.KVM))


def _features(build: Build, registers: list[int]) -> None:
    registers[0] = _FEATURES | (_STEAL_TIME if "sched_info" in build.caps.hardware.on else 0)


LEAVES = {0x40000000: Leaf(_signature, _KVM), 0x40000001: Leaf(_features, _KVM)}
