"""How QEMU lays out a guest's threads, and the leaves that tell the guest (QEMU, include/hw/i386/topology.h and target/i386/cpu.c).

An APIC id is a package's number, then a die's, module's, core's and thread's, each in as many bits as its count needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpuid.qemu.leaves.cpu import Cpu, Regs

# Level types of leaves 0xB and 0x1F, ECX bits 15:8 (Intel SDM, CPUID).
SMT, CORE, MODULE, DIE = 1, 2, 3, 5


def _bits(count: int) -> int:
    """Bits that number `count` things."""
    return (count - 1).bit_length()


@dataclass(frozen=True)
class Topology:
    """The outcome of -smp: `cpus` present, `max_cpus` possible, then how many of each level make up one of the level above."""

    cpus: int = 1
    max_cpus: int = 1
    sockets: int = 1
    dies: int = 1
    modules: int = 1
    cores: int = 1
    threads: int = 1

    @cached_property
    def core_offset(self) -> int:
        """Bits of the APIC id below the core's number."""
        return _bits(self.threads)

    @cached_property
    def module_offset(self) -> int:
        """Bits below the module's number."""
        return self.core_offset + _bits(self.cores)

    @cached_property
    def die_offset(self) -> int:
        """Bits below the die's number."""
        return self.module_offset + _bits(self.modules)

    @cached_property
    def package_offset(self) -> int:
        """Bits below the package's number."""
        return self.die_offset + _bits(self.dies)

    @cached_property
    def threads_per_module(self) -> int:
        """Threads of one module."""
        return self.threads * self.cores

    @cached_property
    def threads_per_die(self) -> int:
        """Threads of one die."""
        return self.threads_per_module * self.modules

    @cached_property
    def threads_per_package(self) -> int:
        """Threads of one package."""
        return self.threads_per_die * self.dies

    @property
    def extended(self) -> bool:
        """Whether there is a level that leaf 0xB cannot express and leaf 0x1F can."""
        return self.dies > 1 or self.modules > 1

    def apic_id(self, number: int) -> int:
        """Return the APIC id of the vCPU with this number."""
        rest, thread = divmod(number, self.threads)
        rest, core = divmod(rest, self.cores)
        rest, module = divmod(rest, self.modules)
        package, die = divmod(rest, self.dies)
        return package << self.package_offset | die << self.die_offset | module << self.module_offset | core << self.core_offset | thread

    def core_id(self, apic_id: int) -> int:
        """Return the number of the core within its module."""
        return apic_id >> self.core_offset & ((1 << self.module_offset - self.core_offset) - 1)


def leaf_b(cpu: Cpu, index: int) -> Regs:
    """Answer leaf 0xB: threads of a core, then of a package; QEMU 7.2 counts the second within a die."""
    if not cpu.on("cpuid-0xb"):
        return 0, 0, 0, 0
    topology = cpu.topology
    if index == 0:
        return topology.core_offset, topology.threads & 0xFFFF, SMT << 8, cpu.apic_id
    if index == 1:
        count = topology.threads_per_package if cpu.release >= (10, 0) else topology.threads_per_die
        return topology.package_offset, count & 0xFFFF, CORE << 8 | 1, cpu.apic_id
    return 0, 0, index & 0xFF, cpu.apic_id


def has_leaf_1f(cpu: Cpu) -> bool:
    """Whether the guest gets leaf 0x1F."""
    return cpu.topology.extended or cpu.on("x-force-cpuid-0x1f")


def leaf_1f(cpu: Cpu, index: int) -> Regs:
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


def leaf_8000001e(cpu: Cpu, index: int) -> Regs:
    """Answer leaf 0x8000001E: AMD's core and node ids; up to QEMU 7.2, and for machines that ask for it, a die counts as a node."""
    topology, apic_id = cpu.topology, cpu.apic_id
    core = topology.core_id(apic_id)
    if core > 255:
        return 0, 0, 0, 0
    if cpu.release < (10, 0) or cpu.on("legacy-multi-node"):
        node = topology.dies - 1 << 8 | apic_id >> topology.die_offset & 0xFF
    else:
        node = apic_id >> topology.package_offset & 0xFF
    return apic_id, topology.threads - 1 << 8 | core & 0xFF, node, 0
