"""Two hosts held against each other: no path leads from one to the other, so what differs is told without a layer that caused it.

Of a pair of snapshots, `no_guest` says which is certainly no guest of a KVM; what may be one is `compare`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from vcpuid.answers.compare import NOT_TOLD, Difference, register_name
from vcpuid.answers.compare_flags import by_kernels, shows
from vcpuid.answers.survey import cpuid_features, number
from vcpuid.answers.survey import shows as shows_feature
from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot, bits, hypervisor_name, vendors
from vcpuid.cpuid.by_name import with_named_bits
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.path.words import TableWords
from vcpuid.setup import Setup, Stack
from vcpuid.told.completions import tells
from vcpuid.told.facts import Fact, listed

SILICON = "silicon"
"""The layer of what two processors differ in, as their CPUID instructions answer."""

A, B = "A", "B"
"""What the two are called."""

_OTHERS = frozenset({vendors.VMWARE, vendors.TCG})
"""Hypervisors that are not KVM and that no KVM plays."""


def no_guest(snapshot: Snapshot) -> str | None:
    """Say why a snapshot is not one of a KVM guest; None where it may be one."""
    told = with_named_bits(snapshot)
    if not told.raw or not tells(told, bits.HYPERVISOR.word, bits.HYPERVISOR.mask):
        return None
    if not told.raw.has(bits.HYPERVISOR):
        return "B's CPUID has no hypervisor bit"
    signature = hypervisor_name(told.raw.registers(0x40000000))
    return f"B runs on another hypervisor ({signature})" if signature in _OTHERS else None


@dataclass(frozen=True, slots=True)
class Hosts:
    """Two hosts, each settled with its own kernel."""

    one: Setup
    other: Setup

    @classmethod
    def of(cls, one: Setup, other: Snapshot, kernel: str | None = None) -> Hosts:
        """Settle the second: `kernel` is its kernel, else the one that it names, else the first one's. Raises InputError without CPUID."""
        made = cls(one, Setup.of(other, Stack(kernel=kernel or other.kernel or one.kernel.asked)))
        for name, raw in ((A, made.one.host.raw), (B, made.other.host.raw)):
            if not raw:
                raise InputError(f"host {name}'s snapshot does not tell its CPUID (RAW lines)")
        return made

    @property
    def tables(self) -> tuple[CpuidTable, CpuidTable]:
        """The CPUID of both."""
        return self.one.host.raw, self.other.host.raw

    def tell(self, word: CpuidWord, mask: int = 0xFFFFFFFF) -> tuple[bool, bool]:
        """Whether each of them tells a register, or some bits of it."""
        return tells(self.one.host, word, mask), tells(self.other.host, word, mask)


def features() -> int:
    """Count the features that are compared."""
    return number(cpuid_features())


def by_feature(hosts: Hosts) -> list[Difference]:
    """List the features that one host has and the other has not, by leaf."""
    words = [TableWords(table, {}) for table in hosts.tables]
    found = []
    for feature in cpuid_features():
        bit = feature.place
        assert isinstance(bit.word, CpuidWord)
        told = hosts.tell(bit.word, bit.mask)
        one, other = (shows_feature(of, feature) if known else None for of, known in zip(words, told, strict=True))
        if one != other:
            found.append(_difference(feature.name, str(feature.place), one, other, Fact(*bit), bit.word, bit.mask))
    return found


def registers(hosts: Hosts) -> list[CpuidWord]:
    """List the registers that either host has, by leaf, sub-leaf and register."""
    words = {word for table in hosts.tables for word in table.words()}
    return sorted(words, key=lambda word: (word.function, word.index, REGISTERS.index(word.register)))


def by_register(hosts: Hosts) -> list[Difference]:
    """List the registers in which they differ, by leaf, sub-leaf and register."""
    tables = [TableWords(table, {}) for table in hosts.tables]
    found = []
    for word in registers(hosts):
        told = hosts.tell(word)
        one, other = (table.get(word, 0) if known else None for table, known in zip(tables, told, strict=True))
        if one != other:
            mask = 0xFFFFFFFF if one is None or other is None else one ^ other
            found.append(_difference(register_name(word), str(word), one, other, Fact(word), word, mask))
    return found


def by_flag(hosts: Hosts) -> list[Difference]:
    """List the flags, bugs and VMX flags that one host's /proc/cpuinfo shows and the other's does not, each by its own kernel."""
    behind = {difference.place: difference for difference in by_feature(hosts)}
    return by_kernels(hosts.one, hosts.other, behind, ("on A", "on B"), ("A's linux", "B's linux"))


def shown_flags(hosts: Hosts) -> set[tuple[str, str]]:
    """Give the names that either /proc/cpuinfo shows, each with its line."""
    return {(line.replace("_", " "), name) for side in (hosts.one, hosts.other) for line, name in shows(side)}


def _difference(
    what: str, place: str, one: bool | int | None, other: bool | int | None, fact: Fact, word: CpuidWord, mask: int
) -> Difference:  # fmt: skip
    if one is None or other is None:
        return Difference(what, place, one, other, NOT_TOLD, f"{A if one is None else B} does not tell {listed((fact,))}", (), word, mask)
    return Difference(what, place, one, other, SILICON, "the CPUID of the two differs", (), word, mask)
