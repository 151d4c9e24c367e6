"""Leaves 0xB, 0x1F and 0x8000001E: the guest's topology (QEMU, target/i386/cpu.c, cpu_x86_cpuid and encode_topo_cpuid*)."""

from __future__ import annotations

from vcpuid.errors import QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.leaves.cpu import RealizedCpu, Regs

# Level types of leaves 0xB and 0x1F, ECX bits 15:8 (Intel SDM, CPUID).
SMT, CORE, MODULE, DIE = 1, 2, 3, 5
WIDEST = 31
"""Bits of an APIC id that EAX of leaf 0xB can tell of: QEMU aborts where there are more."""


def leaf_b(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0xB: threads of a core, then of a package; QEMU up to 8.1 counts the second within a die."""
    if not cpu.on("cpuid-0xb"):
        return 0, 0, 0, 0
    topology = cpu.topology
    if index < 2 and topology.package_offset > WIDEST:
        # Counts of which the product is small in 32 bits alone, as cores=-1,threads=-1: the first sub-leaf may pass, the second does not.
        raise QemuError(messages.TOPOLOGY_ABORT())
    if index == 0:
        return topology.core_offset, topology.threads & 0xFFFF, SMT << 8, cpu.apic_id
    if index == 1:
        return topology.package_offset, cpu.threads & 0xFFFF, CORE << 8 | 1, cpu.apic_id
    return 0, 0, index & 0xFF, cpu.apic_id


def has_leaf_1f(cpu: RealizedCpu) -> bool:
    """Whether the guest gets leaf 0x1F."""
    return cpu.topology.extended or cpu.on("x-force-cpuid-0x1f")


def leaf_1f(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x1F: one sub-leaf a level below the package, then one of type 0. A level tells the width and size of the next."""
    if not has_leaf_1f(cpu):
        return 0, 0, 0, 0
    topology = cpu.topology
    levels = [(SMT, 0, 1), (CORE, topology.core_offset, topology.threads)]
    if topology.modules > 1:
        levels.append((MODULE, topology.module_offset, topology.threads_per_module))
    if topology.dies > 1:
        levels.append((DIE, topology.die_offset, topology.threads_per_die))
    levels.append((0, topology.package_offset, topology.threads_per_package))
    if index + 1 >= len(levels):
        return 0, 0, index & 0xFF, cpu.apic_id
    _, offset, count = levels[index + 1]
    return offset, count & 0xFFFF, levels[index][0] << 8 | index & 0xFF, cpu.apic_id


def leaf_8000001e(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x8000001E: AMD's core and node ids; up to QEMU 9.0, and for machines that ask for it, a die counts as a node."""
    topology, apic_id = cpu.topology, cpu.apic_id
    core = topology.core_id(apic_id)
    if core > 255:
        return 0, 0, 0, 0
    if cpu.release < (9, 1) or cpu.on("legacy-multi-node"):
        node = topology.dies - 1 << 8 | apic_id >> topology.die_offset & 0xFF
    else:
        node = apic_id >> topology.package_offset & 0xFF
    return apic_id, topology.threads - 1 << 8 | core & 0xFF, node, 0
