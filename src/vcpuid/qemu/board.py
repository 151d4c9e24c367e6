"""What the machine asks of its vCPUs, before they are made and once they are: whether it can have them, and whether they can address it.

QEMU, hw/i386/x86.c (x86_cpus_init), hw/i386/pc.c (pc_memory_init, pc_max_used_gpa), target/i386/kvm/kvm.c (kvm_get_msrs). Memory is taken
to end below 4 GB, as it does without -m: more of it raises by as much what the CPU has to address.
"""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.vendors import AMD
from vcpuid.errors import QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.catalog import MachineType
from vcpuid.qemu.global_option import pci_hole64
from vcpuid.qemu.kvmhost import MCE_AND_MCA
from vcpuid.qemu.state import CpuState
from vcpuid.qemu.topology import GuestTopology
from vcpuid.releases import number

_GIB_4, _TIB = 4 * 1024**3, 1024**4
_AMD_RESERVED = 0xFD00000000
"""From here to 1 TB AMD's processors keep addresses for themselves: what does not fit below begins above, since machine types 7.1."""
_LM, _VMX = bits.LM.mask, bits.VMX.mask
_LAST_WITH_ORDER = (2, 5)
"""The last machine types that keep files for firmware in a fixed order (legacy_fw_cfg_order)."""
_APIC_IDS = 255
"""How many an APIC without x2APIC's form of them has."""
_MTRR_BITS = 52
_MTRR_LINES = {(11, 0): 5067, (11, 1): 5068}
"""Where kvm_get_msrs fails in QEMU 11.0.0 and 11.1.3; other builds of these may name another line."""


def check_irqchip(topology: GuestTopology, release: tuple[int, int], machine: MachineType) -> None:
    """Raise QemuError where APIC ids are too large for the interrupt controllers; QEMU 9.0 leaves that to the CPU.

    QEMU up to 7.0 asks once the machine is made, and of PCs alone; 5.2 wants an IOMMU, of which there is none, wherever they are.
    """
    if release >= (9, 0) or topology.apic_id(topology.max_cpus - 1) < _APIC_IDS:
        return
    if release >= (7, 1):
        if machine.irqchip == "off":
            raise QemuError(messages.IRQCHIP_NEEDED())
    elif machine.is_pc and release < (6, 0):
        raise QemuError(messages.EIM_NEEDED())
    elif machine.is_pc and machine.irqchip == "off":
        raise QemuError(messages.KERNEL_IRQCHIP_NEEDED())


def check(state: CpuState, machine: MachineType, given: tuple[str, ...] = ()) -> None:
    """Raise QemuError where the machine's addresses are more than the CPU has bits for, or where QEMU aborts over these bits.

    QEMU asks since 7.1.

    `given` are the -global arguments, which may set the size of the PCI hole.
    """
    asked, release = state.phys_bits, number(state.release)
    if release < (7, 1):
        return
    # Only 64-bit CPUs have the hole above 4 GB; QEMU up to 8.1 takes one with 32 bits for a 32-bit CPU.
    wide = asked > 32 if release < (8, 2) else state.features["FEAT_8000_0001_EDX"] & _LM
    hole = pci_hole64(given, machine.name, machine.pci_hole64, release) if given else machine.pci_hole64
    if hole is not None and wide:
        limit, used = (1 << (asked & 63)) - 1, _GIB_4 + hole - 1  # x86 shifts by the count modulo 64, and so does QEMU
        if used >= _AMD_RESERVED and state.vendor == AMD and machine.release is not None and machine.release >= (7, 1):
            used = _TIB + hole - 1
        if limit < used:
            raise QemuError(messages.SPACE_LOW(limit=limit, used=used, asked=asked))
    # It reads the vCPU's MSRs to see what the guest has: with more bits, its mask for MTRRs has none left to be masked.
    if release >= (11, 0) and asked > _MTRR_BITS and state.props["fill-mtrr-mask"]:
        raise QemuError(messages.PHYS_BITS_ABORT(line=_MTRR_LINES.get(release, _MTRR_LINES[11, 1])))


def warnings(state: CpuState, table: CpuidTable, machine: MachineType) -> list[str]:
    """Return what QEMU up to 6.1 prints once it made a PC of 2.5 or older, which has no place for a file (fw_cfg_build_feature_control).

    The file is for firmware, which unlocks with it what IA32_FEATURE_CONTROL locks; `table` is the first vCPU's.
    """
    if number(state.release) >= (6, 2) or not machine.is_pc or machine.release is None or machine.release > _LAST_WITH_ORDER:
        return []
    first = table.registers(1)
    lmce = state.props["lmce"] and first.edx & MCE_AND_MCA == MCE_AND_MCA
    return [messages.FIRMWARE_FILE(file="etc/msr_feature_control")] if first.ecx & _VMX or lmce else []
