"""How QEMU lays out a guest's threads (QEMU, include/hw/i386/topology.h).

An APIC id is a package's number, then a die's, module's, core's and thread's, each in as many bits as its count needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


def _bits(count: int) -> int:
    """Bits that number `count` things."""
    return (count - 1).bit_length()


@dataclass(frozen=True)
class GuestTopology:
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

    def place(self, number: int) -> tuple[tuple[str, int], ...]:
        """Return where the vCPU with this number is: its number on each level, the largest level first."""
        rest, thread = divmod(number, self.threads)
        rest, core = divmod(rest, self.cores)
        rest, module = divmod(rest, self.modules)
        socket, die = divmod(rest, self.dies)
        return ("socket", socket), ("die", die), ("module", module), ("core", core), ("thread", thread)

    def core_id(self, apic_id: int) -> int:
        """Return the number of the core within its module."""
        return apic_id >> self.core_offset & ((1 << self.module_offset - self.core_offset) - 1)
