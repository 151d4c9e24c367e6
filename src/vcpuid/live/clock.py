"""This machine's clock as its KVM tells it to libvirt and QEMU."""

from __future__ import annotations

from vcpuid.live.kvm_device import Kvm

_CAP_TSC_CONTROL = 60


def tsc() -> tuple[int | None, bool]:
    """Return the TSC's frequency in kHz (KVM_GET_TSC_KHZ; None where KVM does not know it), and whether a guest may have another.

    Raises UnavailableError where there is no usable /dev/kvm, KvmError where that gives no vCPU.
    """
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        return vcpu.tsc_khz(), bool(kvm.check_extension(_CAP_TSC_CONTROL))
