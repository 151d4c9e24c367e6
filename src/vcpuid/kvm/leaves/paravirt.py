"""KVM's own leaves: its signature and what it offers to guests that know it."""

from __future__ import annotations

from vcpuid.cpuid import bits, vendors
from vcpuid.kvm.leaves.build import SOURCE, Build, KvmLeaf
from vcpuid.reasons import Rule

_KVM = Rule("kvm.leaf.paravirt", "KVM names itself here and lists its paravirtual features", SOURCE)

_STEAL_TIME = bits.KVM_FEATURE_STEAL_TIME.mask
_FEATURES = (
    bits.KVM_FEATURE_CLOCKSOURCE.mask
    | bits.KVM_FEATURE_NOP_IO_DELAY.mask
    | bits.KVM_FEATURE_CLOCKSOURCE2.mask
    | bits.KVM_FEATURE_ASYNC_PF.mask
    | bits.KVM_FEATURE_PV_EOI.mask
    | bits.KVM_FEATURE_PV_UNHALT.mask
    | bits.KVM_FEATURE_PV_TLB_FLUSH.mask
    | bits.KVM_FEATURE_ASYNC_PF_VMEXIT.mask
    | bits.KVM_FEATURE_PV_SEND_IPI.mask
    | bits.KVM_FEATURE_POLL_CONTROL.mask
    | bits.KVM_FEATURE_PV_SCHED_YIELD.mask
    | bits.KVM_FEATURE_ASYNC_PF_INT.mask
    | bits.KVM_FEATURE_CLOCKSOURCE_STABLE_BIT.mask
)


def _signature(_build: Build, registers: list[int]) -> None:
    registers[:] = (0x40000001, *vendors.twelve(vendors.KVM))


def _features(build: Build, registers: list[int]) -> None:
    registers[0] = _FEATURES | (_STEAL_TIME if "sched_info" in build.caps.hardware.on else 0)


LEAVES = {0x40000000: KvmLeaf(_signature, _KVM), 0x40000001: KvmLeaf(_features, _KVM)}
