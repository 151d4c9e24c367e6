"""KVM: what it says it supports, what it keeps of the table it is given, what the guest's CPUID instruction reads."""

from vcpuid.kvm.caps import Caps, caps
from vcpuid.kvm.emulated import emulated
from vcpuid.kvm.hyperv import hyperv_supported
from vcpuid.kvm.lookup import lookup
from vcpuid.kvm.supported import supported
from vcpuid.kvm.vcpu import set_cpuid

__all__ = ["Caps", "caps", "emulated", "hyperv_supported", "lookup", "set_cpuid", "supported"]
