"""KVM: what it says it supports, what it keeps of the table it is given, what the guest's CPUID instruction reads."""

from vcpuid.kvm.caps import Caps, caps
from vcpuid.kvm.effect import remarks
from vcpuid.kvm.emulated import emulated
from vcpuid.kvm.hyperv import hyperv_supported
from vcpuid.kvm.lookup import Answer, lookup, lookup_entry, seen
from vcpuid.kvm.supported import supported
from vcpuid.kvm.vcpu import get_cpuid, set_again, set_cpuid
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.linux.effect import saying

_saying = saying(remarks)
caps, emulated, hyperv_supported, supported = _saying(caps), _saying(emulated), _saying(hyperv_supported), _saying(supported)
set_cpuid = _saying(set_cpuid)

__all__ = [
    "Answer",
    "Caps",
    "VcpuState",
    "caps",
    "emulated",
    "get_cpuid",
    "hyperv_supported",
    "lookup",
    "lookup_entry",
    "seen",
    "set_again",
    "set_cpuid",
    "supported",
]
