"""KVM's own leaves, and VMware's frequency leaf (QEMU, target/i386/kvm/kvm.c, kvm_arch_init_vcpu)."""

from __future__ import annotations

from vcpuid.cpuid import bits, vendors
from vcpuid.cpuid.registers import Entry
from vcpuid.qemu.leaves.cpu import RealizedCpu

SIGNATURE = 0x40000000
BEHIND_HYPERV = 0x100
"""Where Hyper-V has leaf 0x40000000, KVM's are moved up by this."""
FREQUENCY = 0x40000010
APIC_BUS_KHZ = 1_000_000
INVARIANT_TSC = bits.CONSTANT_TSC.mask  # FEAT_8000_0007_EDX
_SIGNATURE_WORDS = vendors.twelve(vendors.KVM)


def frequency(cpu: RealizedCpu) -> int:
    """Return the TSC frequency in kHz that the guest is told, 0 where it is told none: it must be known, and not change.

    QEMU keeps what -cpu asks for in kHz: less than 1000 Hz are none.
    """
    stable = cpu.word("FEAT_8000_0007_EDX") & INVARIANT_TSC or cpu.integer("tsc-frequency") // 1000
    return cpu.tsc_khz if stable and cpu.on("vmware-cpuid-freq") and cpu.on("kvm") else 0


def entries(cpu: RealizedCpu, hyperv: bool) -> list[Entry]:
    """Make KVM's leaves; none with kvm=off."""
    if not cpu.on("kvm"):
        return []
    base = SIGNATURE + (BEHIND_HYPERV if hyperv else 0)
    last = FREQUENCY if not hyperv and frequency(cpu) else base + 1
    return [
        Entry(base, 0, 0, last, *_SIGNATURE_WORDS),
        Entry(base + 1, 0, 0, cpu.word("FEAT_KVM"), 0, 0, cpu.word("FEAT_KVM_HINTS")),
    ]


def frequency_entries(cpu: RealizedCpu, hyperv: bool) -> list[Entry]:
    """Make VMware's leaf of TSC and APIC bus frequency, which follows all others."""
    khz = frequency(cpu)
    return [] if hyperv or not khz else [Entry(FREQUENCY, 0, 0, khz, APIC_BUS_KHZ, 0, 0)]
