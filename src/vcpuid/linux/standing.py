"""What a booted kernel's mitigations stand on: its flags and bugs, IA32_ARCH_CAPABILITIES, the command line, and whether siblings run."""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid.vendors import design_of
from vcpuid.linux import topology
from vcpuid.linux.boot import BootCpu
from vcpuid.linux.machine import ARCH_CAPABILITIES, Machine, machine_of
from vcpuid.linux.smt import several_threads
from vcpuid.linux.tables import NOWHERE
from vcpuid.setup import Setup


class Standing(NamedTuple):
    """A processor under a kernel that has booted.

    `siblings` says whether CPUID tells of several threads on a core, `kvm` whether kvm_intel is loaded.
    """

    cpu: BootCpu
    machine: Machine
    caps: int
    siblings: bool
    kvm: bool

    def has(self, feature: str) -> bool:
        """Tell whether a flag is set, printed or hidden (boot_cpu_has)."""
        return self.cpu.has(feature)

    def has_bug(self, bug: str) -> bool:
        """Tell whether a bug is set (boot_cpu_has_bug)."""
        word, mask = self.cpu.tables.bugs.get(bug, NOWHERE)
        return bool(self.cpu.caps[word] & mask)

    def tells(self, caps: int) -> bool:
        """Tell whether IA32_ARCH_CAPABILITIES has one of these bits."""
        return bool(self.caps & caps)

    def since(self, release: str) -> bool:
        """Tell whether the kernel is this release or a newer one."""
        return self.cpu.tables.since(release)

    def option(self, name: str) -> str | None:
        """Return the value of an option of the command line, "" where it has none; None where it is not there."""
        return self.machine.option(name)

    def off(self, *options: str) -> bool:
        """Tell whether the command line turns off all mitigations, or the one of which these are the options."""
        return self.option("mitigations") == "off" or any(self.option(option) == "off" for option in options)

    def without(self, *switches: str) -> bool:
        """Tell whether the command line turns off all mitigations, or the one that these switches turn off by being there."""
        return self.off() or any(self.option(switch) is not None for switch in switches)

    @property
    def clears_buffers(self) -> bool:
        """Whether VERW clears the processor's buffers on the way to user space; before there was a flag for that, Linux had a switch."""
        if "CLEAR_CPU_BUF" in self.cpu.tables.features:
            return self.has("CLEAR_CPU_BUF")
        transactions = self.has_bug("TAA") and self.has("RTM")
        mds = self.has_bug("MDS") and not self.off("mds")
        mmio = self.has_bug("MMIO_STALE_DATA") and not self.off("mmio_stale_data") and (self.has_bug("MDS") or transactions)
        return mds or mmio or (transactions and not self.off("tsx_async_abort"))

    @property
    def guest(self) -> bool:
        """Whether a hypervisor shows itself."""
        return self.has("HYPERVISOR")

    @property
    def smt_possible(self) -> bool:
        """Whether siblings may be brought up (cpu_smt_possible)."""
        return self.siblings and self.option("nosmt") != "force"

    @property
    def smt(self) -> bool:
        """Whether siblings run (sched_smt_active)."""
        return self.siblings and self.option("nosmt") is None and self.option("maxcpus") != "1"

    @property
    def by_amd(self) -> bool:
        """Whether the processor is AMD's or Hygon's."""
        return design_of(self.cpu.vendor) == "amd"


def standing(setup: Setup, cpu: BootCpu) -> Standing:
    """Gather what the mitigations of a booted kernel stand on."""
    machine = machine_of(setup)
    caps = (machine.msr(ARCH_CAPABILITIES) or 0) if cpu.has("ARCH_CAPABILITIES") else 0
    siblings = several_threads(setup.host, one_place=cpu.tables.since(topology.NEW))
    return Standing(cpu, machine, caps, siblings, setup.kvm_loaded)
