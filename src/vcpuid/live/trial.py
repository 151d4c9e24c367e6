"""This machine's KVM as one on which a VMM's first steps can be tried: a vCPU, set up as QEMU's are, and thrown away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

from vcpuid.cpuid import CpuidTable
from vcpuid.live.kvm_device import Kvm, Vcpu

_TSS = 0x7FFBD000
"""As in `tiny_guest`: away from all memory."""


class Trial:
    """What `vcpuid.qemu.startup.start` asks for.

    Raises UnavailableError where there is no usable /dev/kvm, KvmError where that gives no vCPU.
    """

    @cached_property
    def listed(self) -> frozenset[int]:
        """KVM_GET_MSR_INDEX_LIST."""
        with Kvm() as kvm:
            return kvm.msr_indices()

    @contextmanager
    def vcpu(self) -> Iterator[TrialVcpu]:
        """Give a vCPU of a new machine with interrupt controllers."""
        with Kvm() as kvm, kvm.create_vm() as vm:
            vm.set_tss_address(_TSS)
            vm.create_irqchip()
            with vm.create_vcpu() as vcpu:
                yield TrialVcpu(kvm, vcpu)


class TrialVcpu:
    """The vCPU, with the few steps that a trial takes."""

    def __init__(self, kvm: Kvm, vcpu: Vcpu) -> None:
        self._kvm, self._vcpu = kvm, vcpu

    def enable(self, capability: int, argument: int | None) -> None:
        """KVM_ENABLE_CAP; None is room for KVM's answer."""
        self._vcpu.enable(capability, argument)

    def set_cpuid(self, table: CpuidTable) -> None:
        """KVM_SET_CPUID2."""
        self._vcpu.set_cpuid(table)

    def machine_checks(self) -> int:
        """KVM_X86_GET_MCE_CAP_SUPPORTED."""
        return self._kvm.machine_checks()

    def set_machine_checks(self, wanted: int) -> None:
        """KVM_X86_SETUP_MCE."""
        self._vcpu.setup_machine_checks(wanted)

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> int:
        """KVM_SET_MSRS: return how many of them KVM took."""
        return self._vcpu.set_msrs(values)
