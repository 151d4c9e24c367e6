"""boot_cpu_data: the order in which Linux identifies the boot processor (early_identify_cpu, identify_cpu and what follows, common.c)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vcpuid.cpuid.registers import Snapshot
from vcpuid.cpuid.words import Word
from vcpuid.linux import identify
from vcpuid.linux.cpu import Cpu
from vcpuid.linux.machine import Machine
from vcpuid.linux.tables import NOWHERE, Tables, tables
from vcpuid.path.decisions import Decision


@dataclass(frozen=True, slots=True)
class BootCpu:
    """What boot_cpu_data holds when the kernel has booted.

    `caps` are the words of x86_capability, then those of bugs; `vmx` those of vmx_capability; `decisions` say why words differ from what
    CPUID tells. Names of features are the kernel's without X86_FEATURE_.
    """

    tables: Tables
    vendor: str
    family: int
    model: int
    stepping: int
    phys_bits: int
    virt_bits: int
    caps: tuple[int, ...]
    vmx: tuple[int, ...]
    decisions: tuple[Decision, ...]

    @property
    def kernel(self) -> str:
        """The release whose tables stand for the kernel asked for."""
        return self.tables.release

    def has(self, feature: str) -> bool:
        """Tell whether a feature is set, printed or hidden; one that this release does not know is not."""
        word, mask = self.tables.features.get(feature, NOWHERE)
        return bool(self.caps[word] & mask)

    def word(self, name: str) -> int:
        """Return a word by the name that enum cpuid_leafs has for it, such as CPUID_7_0_EBX; KeyError where the release has none."""
        return self.caps[self.tables.word_numbers[name]]

    @property
    def bugs(self) -> tuple[str, ...]:
        """The bugs set, in the kernel's order and without X86_BUG_; hidden ones too."""
        return tuple(name for name, (word, mask) in self.tables.bugs.items() if self.caps[word] & mask)

    def words(self) -> dict[Word, int]:
        """Return every word of features and of bugs."""
        return dict(zip(self.tables.words, self.caps, strict=True))


def boot_cpu(host: Snapshot, kernel: str = "6.12", params: Mapping[str, str | int] | None = None) -> BootCpu:
    """Identify the boot processor as a Linux release does.

    `host` gives CPUID (`raw`) and MSRs, `params` what neither shows (see `vcpuid.linux.machine`). Raises InputError for a parameter that
    is not known and for a release that is not a number.
    """
    cpu = Cpu(host, tables(kernel), Machine(host, params))
    identify.read(cpu)
    return BootCpu(
        cpu.tables, cpu.vendor, cpu.family, cpu.model, cpu.stepping, cpu.phys_bits, cpu.virt_bits,
        tuple(cpu.caps), tuple(cpu.vmx), tuple(cpu.ledger.decisions),
    )  # fmt: skip
