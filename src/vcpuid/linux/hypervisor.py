"""What a hypervisor tells a Linux guest of its TSC (arch/x86/kernel/kvmclock.c, cpu/mshyperv.c, cpu/vmware.c)."""

from __future__ import annotations

from vcpuid.cpuid import bits, hyperv, vendors
from vcpuid.linux.cpu import Cpu
from vcpuid.reasons import Rule
from vcpuid.releases import RHEL_9

KVM_CLOCK = Rule("linux.kvm.clock", "KVM's clock gives the TSC's frequency", "kvmclock_init, kvmclock.c", "boot with no-kvmclock")
HYPERV_FREQUENCY = Rule(
    "linux.hyperv.frequency", "Hyper-V gives the TSC's frequency", "ms_hyperv_init_platform, cpu/mshyperv.c", since="5.15",
    lacking=("4.18", *RHEL_9, "6.8"),
)  # fmt: skip
HYPERV_INVARIANT = Rule("linux.hyperv.invariant", "Hyper-V promises an invariant TSC", "ms_hyperv_init_platform, cpu/mshyperv.c")
VMWARE = Rule("linux.vmware.tsc", "VMware keeps the TSC at one rate and in step", "vmware_set_capabilities, cpu/vmware.c")

_KVM_CLOCKSOURCES = bits.KVM_FEATURE_CLOCKSOURCE.mask | bits.KVM_FEATURE_CLOCKSOURCE2.mask
_HYPERV_MANDATORY = hyperv.HYPERCALL.mask | hyperv.VP_INDEX.mask


def ask(cpu: Cpu) -> None:
    """Ask the hypervisor that announces itself; KVM is preferred where it stands behind Hyper-V's leaves (detect_hypervisor_vendor)."""
    if cpu.has("HYPERVISOR"):
        for base in (0x40000100, 0x40000000):
            if known := _NAMES.get(cpu.leaf(base)[1:]):
                known(cpu, base)
                break


def _kvm(cpu: Cpu, base: int) -> None:
    if cpu.leaf(base + 1).eax & _KVM_CLOCKSOURCES and cpu.machine.option("no-kvmclock") is None:
        cpu.force("TSC_KNOWN_FREQ", KVM_CLOCK)


def _hyperv(cpu: Cpu, base: int) -> None:
    features = cpu.leaf(base + 3)
    if features.eax & _HYPERV_MANDATORY != _HYPERV_MANDATORY:
        return  # ms_hyperv_platform does not take it for Hyper-V then
    if features.eax & hyperv.ACCESS_FREQUENCY_MSRS.mask and features.edx & hyperv.FREQUENCY_MSRS.mask:
        cpu.force("TSC_KNOWN_FREQ", HYPERV_FREQUENCY)
    if features.eax & hyperv.TSC_INVARIANT.mask:
        cpu.force("TSC_RELIABLE", HYPERV_INVARIANT)


def _vmware(cpu: Cpu, base: int) -> None:
    del base
    for feature in ("CONSTANT_TSC", "TSC_RELIABLE"):
        cpu.force(feature, VMWARE)
    if cpu.since("5.15"):
        cpu.force("TSC_KNOWN_FREQ", VMWARE)


_NAMES = {vendors.twelve(vendors.KVM): _kvm, vendors.twelve(vendors.HYPERV): _hyperv, vendors.twelve(vendors.VMWARE): _vmware}
