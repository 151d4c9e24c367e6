"""What a detector looks at: one vCPU's table, and what is known of the host and of the CPU that QEMU made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from typing import NamedTuple

from vcpuid import releases
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, MsrWord, Registers, Snapshot, Word, bits, vendor_name
from vcpuid.cpuid.names import all_features, by_bit, short_place
from vcpuid.cpuid.vendors import AMD_AND_HYGON, INTEL
from vcpuid.cpuid.words import positions
from vcpuid.kvm.answers import Answers, kvm_says
from vcpuid.linux import BootCpu, boot_cpu
from vcpuid.linux.boot import booted_once
from vcpuid.linux.machine import ARCH_CAPABILITIES
from vcpuid.params import Value
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.state import CpuState
from vcpuid.releases import Release
from vcpuid.setup import KEPT, Setup, Stack
from vcpuid.vmm import Made
from vcpuid.vmm.qemu import available

Masks = Mapping[Word, int]

_ANNOUNCED = {bit.word: bit.mask for bit in (bits.HT, bits.CMP_LEGACY, bits.OSXSAVE, bits.OSPKE)}
"""Bits that describe the guest and need nothing of the host: HT and CMP_LEGACY tell of -smp, OSXSAVE and OSPKE of the guest's CR4."""


class _Words(dict[Word, int]):
    """What a guest reads of the words that were asked for: rules ask for the same ones over and over."""

    def __init__(self, table: CpuidTable, msrs: Masks) -> None:
        self._table, self._msrs = table, msrs

    def __missing__(self, word: Word) -> int:
        value = self[word] = self._table.word(word) if isinstance(word, CpuidWord) else self._msrs.get(word, 0)
        return value


class HostFacts(NamedTuple):
    """What rules look at of a host: what its KVM answers, who made its processor, and its bugs, None where nobody can say."""

    kvm: Answers
    vendor: str
    bugs: frozenset[str] | None

    @classmethod
    def of(cls, setup: Setup, host: Snapshot | None) -> HostFacts | None:
        """Return those of a setup's host; None where nothing is known of it."""
        if host is None or not (host.raw or host.supported):
            return None
        return cls(kvm_says(setup), host.vendor, _bugs(setup, host))


def _bugs(setup: Setup, host: Snapshot) -> frozenset[str] | None:
    """Return the host's bugs, as its kernel printed them or else as the model tells."""
    if not host.raw:
        return None
    if "bugs" in host.cpuinfo:
        return frozenset(host.cpuinfo["bugs"].split())
    if host.vendor == INTEL and ARCH_CAPABILITIES not in kvm_says(setup).msrs:
        return None
    return frozenset(name.lower() for name in boot_cpu(setup).bugs)


@dataclass(frozen=True)
class View:
    """A guest's CPUID as it will be.

    `table` is the first vCPU's, `others` those of the rest. `setup` is the software; `host` is None where nothing is known of it: rules
    that compare find nothing then. `made` is the VMM's work where the table is its; `msrs` are the guest's feature MSRs, as far as known.
    `told` is what is known of the host, where that is not to be asked itself; `seen` is what CPUID answers in the guest, where a real vCPU
    was asked: a KVM that is not Linux's own may show more than the table has.
    """

    table: CpuidTable
    setup: Setup
    host: Snapshot | None = None
    made: Made | None = None
    msrs: Masks = field(default_factory=dict)
    others: tuple[CpuidTable, ...] = ()
    told: HostFacts | None = None
    seen: CpuidTable | None = None

    @cached_property
    def of_host(self) -> HostFacts | None:
        """What is known of the host; None where that is nothing."""
        return self.told or HostFacts.of(self.setup, self.host)

    @property
    def state(self) -> CpuState | None:
        """The CPU that QEMU's model made; None where the table is another VMM's, or nobody knows whose."""
        detail = None if self.made is None else self.made.detail
        return detail if isinstance(detail, CpuState) else None

    def leaf(self, function: int, index: int = 0) -> Registers:
        """Return a leaf of the table, zeros where it has none."""
        return self.table.registers(function, index)

    def word(self, word: Word) -> int:
        """Return a register or a feature MSR of the guest, 0 where nothing is known."""
        return self._words[word]

    def has(self, bit: Bit) -> bool:
        """Tell whether the guest is told of a feature."""
        word, position = bit
        return bool(self._words[word] >> position & 1)

    @cached_property
    def _words(self) -> _Words:
        return _Words(self.table, self.msrs)

    def tells(self, *functions: int) -> bool:
        """Tell whether what the table says of leaves is all there is to say: it has them, or it has leaves 0 and 1, as every whole one."""
        return self._whole or all(any(self.table.leaf(function)) for function in functions)

    @cached_property
    def _whole(self) -> bool:
        return self.table.get(0) is not None and self.table.get(1) is not None

    def on(self, name: str) -> bool:
        """Tell whether a property of QEMU's CPU is on."""
        return self.state is not None and bool(self.state.props.get(name))

    @cached_property
    def vendor(self) -> str:
        """The maker that leaf 0 names."""
        return vendor_name(self.leaf(0))

    @property
    def is_amd(self) -> bool:
        """Whether guests take it for AMD's, or Hygon's copy of that."""
        return self.vendor in AMD_AND_HYGON

    @cached_property
    def catalog(self) -> Catalog:
        """QEMU's tables: of the release that made the table, else of the newest."""
        vmm = self.setup.vmm
        return catalog(vmm.tables if vmm.program == "QEMU" else releases.qemu().tables)

    @cached_property
    def kvm(self) -> Answers | None:
        """What KVM answers on the host; None where nothing is known of it."""
        return None if self.of_host is None else self.of_host.kvm

    @cached_property
    def supported(self) -> CpuidTable | None:
        """KVM_GET_SUPPORTED_CPUID of the host, modelled where it was not observed."""
        return None if self.kvm is None else self.kvm.supported

    @cached_property
    def hardware(self) -> CpuidTable | None:
        """What the host's processor answers; what KVM supports stands for a processor that the snapshot does not tell."""
        return None if self.kvm is None else self.kvm.raw

    @cached_property
    def excess(self) -> Masks:
        """Feature bits of the guest that neither KVM nor the VMM can give on this host, by word."""
        if self.kvm is None:
            return {}
        known = available(self.setup, self.kvm) if self.made is None or self.made.available is None else self.made.available
        found: dict[Word, int] = {}
        for word, named in _named().items():
            value = self._words[word] & named & ~known.get(word, 0)
            if value and isinstance(word, CpuidWord):
                value &= ~(self.kvm.supported.word(word) | self.kvm.emulated.word(word) | _ANNOUNCED.get(word, 0))
            if value:
                found[word] = value
        return found

    @cached_property
    def guest_linux(self) -> BootCpu:
        """The guest's processor as a Linux in it identifies it."""
        return _identify(self.table, self.msrs.get(MsrWord(ARCH_CAPABILITIES)), self.setup.kernel)

    @cached_property
    def best_linux(self) -> BootCpu | None:
        """The processor as a Linux would identify it in a guest that is given all that KVM supports."""
        return None if self.kvm is None else _identify(self.kvm.supported, self.kvm.msrs.get(ARCH_CAPABILITIES), self.setup.kernel)


@lru_cache(maxsize=KEPT)
def _identify(table: CpuidTable, capabilities: int | None, kernel: Release) -> BootCpu:
    """Identify a guest's processor by its table and its IA32_ARCH_CAPABILITIES; on most hosts that one could be these are the same."""
    return booted_once(_blank(capabilities, kernel).with_host(Snapshot(raw=table, table=table)))


@lru_cache(maxsize=8)
def _blank(capabilities: int | None, kernel: Release) -> Setup:
    """Settle the software in a guest that tells nothing yet but its IA32_ARCH_CAPABILITIES."""
    params: dict[str, Value] = {"msr.10a": "absent" if capabilities is None else capabilities}
    return Setup.of(Snapshot(), Stack(kernel.asked, params=params))


@cache
def _named() -> dict[Word, int]:
    """Every bit of hardware that Linux or QEMU has a name for, by word; AMD's copies of leaf 1 and the hypervisors' leaves left out."""
    masks: dict[Word, int] = {}
    for feature in all_features():
        bit = feature.bit
        if bit is None or feature.copy_of or not (feature.linux_names or feature.qemu_names):
            continue
        if not isinstance(bit.word, CpuidWord) or not 0x40000000 <= bit.word.function < 0x40010000:
            masks[bit.word] = masks.get(bit.word, 0) | bit.mask
    return masks


def names(masks: Masks) -> list[str]:
    """Name every bit of some words, leaf by leaf."""
    return [name_of(Bit(word, position)) for word, mask in masks.items() for position in positions(mask)]


def name_of(bit: Bit) -> str:
    """Name a bit as people know it."""
    feature = by_bit(bit)
    return short_place(bit) if feature is None else feature.name
