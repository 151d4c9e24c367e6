"""The table of KVM_GET_SUPPORTED_CPUID under construction (do_host_cpuid and its surroundings, arch/x86/kvm/cpuid.c)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from vcpuid.cpuid import SIGNIFICANT_INDEX, CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import KvmError
from vcpuid.kvm.caps import Caps
from vcpuid.reasons import Decision, Ledger, Rule
from vcpuid.releases import BEFORE_RHEL_9_3, code_of, number

MAX_ENTRIES = 256
"""KVM_MAX_CPUID_ENTRIES of Linux arch/x86/include/asm/kvm_host.h."""

SOURCE = "__do_cpuid_func, arch/x86/kvm/cpuid.c"

BLANK = Rule("kvm.leaf.blank", "KVM answers this leaf with zeros: it is about the host, or KVM does not know it", SOURCE)
ANEW = Rule("kvm.leaf.anew", "KVM fills this hypervisor leaf itself, whatever the host answers there", SOURCE)
LEFT_OUT = Rule("kvm.leaf.left-out", "KVM has no entry for this leaf or sub-leaf", SOURCE)

PASSES_RESERVED = frozenset(("4.18", *BEFORE_RHEL_9_3))
"""Kernels without the mend of 6.1 by which KVM leaves out what is reserved in the leaves from 0x80000001 on."""

_ZERO = (0, 0, 0, 0)
_INDEXED = (0x4, 0x7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1F, 0x8000001D)
_INDEXED_SINCE = {0x1D: "6.1", 0x1E: "6.1", 0x24: "6.12", 0x23: "7.3"}


@cache
def indexed(kernel: str) -> frozenset[int]:
    """Return the leaves whose sub-leaves KVM tells apart (cpuid_function_is_indexed, arch/x86/include/asm/cpuid)."""
    return frozenset(_INDEXED) | {leaf for leaf, since in _INDEXED_SINCE.items() if number(code_of(kernel)) >= number(since)}


class Build:
    """The entries so far, and the host that they are made from; `kernel` is the release as a pair of numbers, `tables` by name."""

    __slots__ = ("_get", "_indexed", "_limit", "_used", "_written", "caps", "host", "kernel", "tables")

    def __init__(self, host: Snapshot, caps: Caps) -> None:
        self.host, self.caps = host, caps
        self.kernel, self.tables = caps.boot.number, caps.boot.kernel
        self._get, self._used = host.raw.get, set[tuple[int, int]]()
        self._indexed = indexed(caps.boot.kernel)
        self._limit = host.raw.registers(0x80000000).eax
        self._written: list[tuple[tuple[int, int], int, Entry | None, Sequence[int], Rule]] = []

    def subleaf(self, function: int, index: int, rule: Rule) -> list[int]:
        """Add an entry with the CPU's answer, to be changed in place; `rule` accounts for the changes.

        Raises KvmError(E2BIG) where KVM runs out of room for entries.
        """
        if len(self._written) >= MAX_ENTRIES:
            raise KvmError(errno.E2BIG, f"leaf {function:#x} has too many sub-leaves: KVM reports {MAX_ENTRIES} entries at most")
        key = (function, index)
        entry = self._answer(key)
        if _is_kvms_own(function) or (function & 0xC0000000 == 0x80000000 and function > self._limit):
            registers, flags = [0, 0, 0, 0], 0
        else:
            registers = [0, 0, 0, 0] if entry is None else list(entry[3:])
            flags = SIGNIFICANT_INDEX if function in self._indexed else 0
        self._written.append((key, flags, entry, registers, rule))
        return registers

    def blank(self, function: int) -> None:
        """Add an entry of zeros."""
        key = (function, 0)
        flags = SIGNIFICANT_INDEX if function in self._indexed and function <= self._limit else 0
        self._written.append((key, flags, self._answer(key), _ZERO, BLANK))

    def _answer(self, key: tuple[int, int]) -> Entry | None:
        """Take the CPU's answer; it is there once."""
        used = self._used
        if key in used:
            return None
        used.add(key)
        return self._get(*key)

    def features(self, registers: list[int], function: int, index: int = 0) -> None:
        """Put KVM's features into the registers that hold some (cpuid_entry_override for each)."""
        values = self.caps.values
        for position, word in self.caps.plan.by_word[function, index]:
            registers[position] = values[word]

    def has(self, feature: str) -> bool:
        """Whether KVM offers a feature."""
        return self.caps.has(feature)

    def table(self) -> CpuidTable:
        """Return the table."""
        return CpuidTable(Entry(*key, flags, *after) for key, flags, _, after, _ in self._written)

    def decisions(self) -> list[Decision]:
        """Account for the table: the decisions that lead to it from the CPU's words as `caps` left them."""
        ledger = Ledger()
        features, values = dict(self.caps.plan.by_word), self.caps.values

        def explain(key: tuple[int, int], entry: Entry | None, after: Sequence[int], rule: Rule) -> None:
            before: Sequence[int] = _ZERO if entry is None else entry[3:]
            if key in features:
                before = list(before)
                for position, word in features.pop(key):
                    before[position] = values[word]
            if before is not after:
                for register, old, new in zip(REGISTERS, before, after, strict=True):
                    if old != new:
                        ledger.compute(CpuidWord(*key, register), old, new, rule)

        for key, _, entry, after, rule in self._written:
            if entry is not None and _is_kvms_own(key[0]):
                explain(key, entry, _ZERO, BLANK if after is _ZERO else ANEW)
                entry = None
            explain(key, entry, after, rule)
        for key, entry in self.host.raw.by_key().items():
            if key not in self._used and entry[3:] != _ZERO:
                explain(key, entry, _ZERO, LEFT_OUT)
        for key in list(features):
            explain(key, None, _ZERO, LEFT_OUT)
        return ledger.decisions


def _is_kvms_own(function: int) -> bool:
    """Whether a leaf is a hypervisor's: KVM begins it with zeros, whatever the CPU, or a hypervisor below, answers there."""
    return function & 0xC0000000 == 0x40000000


class KvmLeaf(NamedTuple):
    """How KVM answers a leaf, and why the answer is not the CPU's."""

    answer: Callable[[Build, list[int]], None]
    rule: Rule


def as_is(_build: Build, _registers: list[int]) -> None:
    """Leave the CPU's answer."""


def zero(registers: list[int]) -> None:
    """Clear all four registers."""
    registers[:] = (0, 0, 0, 0)
