"""The table as QEMU hands it to KVM_SET_CPUID2: which sub-leaves, in which order, with which flags.

QEMU, target/i386/kvm/kvm.c, kvm_x86_build_cpuid (in 7.2 still a part of kvm_arch_init_vcpu). It fills an array from the front: a leaf
takes the next slot and gives it back where the answer is all zero, and a slot given back keeps its old index. KVM takes 80 entries in old
kernels and 256 in new ones, QEMU 100; no guest comes near.
"""

from __future__ import annotations

from vcpuid.cpuid.registers import SIGNIFICANT_INDEX, Entry
from vcpuid.qemu.leaves import LEAVES, PER_VCPU, ZERO, Cpu
from vcpuid.qemu.leaves.xsave import SUBLEAVES
from vcpuid.qemu.topology import has_leaf_1f

STATEFUL = 2 | 4
"""KVM_CPUID_FLAG_STATEFUL_FUNC and KVM_CPUID_FLAG_STATE_READ_NEXT: of leaf 2, which once was to be read repeatedly."""

LAST_COMPONENT = 63
"""Leaf 0xD's last sub-leaf, and so the index that its slot keeps when given back."""

_COUNTED = frozenset({0x7, 0x14, 0x1D, 0x1E, 0x24})
"""Sub-leaf 0 tells in EAX how many more there are."""

_RANGES = (range(0, 0x40000000), range(0x80000000, 0xC0000000), range(0xC0000000, 0x100000000))
_FUNCTIONS = tuple(tuple(sorted(set(LEAVES) & set(known))) for known in ((f for f in LEAVES if f in limits) for limits in _RANGES))


def functions(cpu: Cpu) -> list[int]:
    """List the leaves that QEMU walks through and that may answer something, in order."""
    state = cpu.state
    basic, extended, centaur = _FUNCTIONS
    last = (state.level, state.xlevel, state.xlevel2)
    return [f for known, limit in zip((basic, extended, centaur), last, strict=True) for f in known if f <= limit]


class Builder:
    """Makes the tables of a guest's vCPUs; what they share is worked out once."""

    __slots__ = ("cpu", "functions", "shared")

    def __init__(self, cpu: Cpu) -> None:
        self.cpu, self.functions = cpu, functions(cpu)
        self.shared: dict[int, list[Entry]] = {}

    def table(self, apic_id: int) -> list[Entry]:
        """Make the entries of one vCPU, hypervisor leaves aside."""
        self.cpu.apic_id = apic_id
        entries: list[Entry] = []
        kept = 0
        for function in self.functions:
            block = self.shared.get(function)
            if block is None:
                block = self._block(function, kept)
                if function not in PER_VCPU:
                    self.shared[function] = block
            entries += block
            if function == 0xD and self.cpu.release >= (10, 0):
                kept = LAST_COMPONENT
            elif block:
                kept = 0
        return entries

    def _block(self, function: int, kept: int) -> list[Entry]:
        """Make the entries of one leaf; `kept` is the index left in the next slot."""
        cpu, answer = self.cpu, LEAVES[function]
        if function in (0x4, 0xB, 0x8000001D):
            return self._until(function, 2 if function == 0xB else 0, 0xFF00 if function == 0xB else 0xFFFFFFFF)
        if function == 0x1F:
            if has_leaf_1f(cpu):
                return self._until(function, 2, 0xFF00)
            return []
        if function == 0xD:
            found = [entry for index in SUBLEAVES if (entry := self._entry(function, index, SIGNIFICANT_INDEX)).eax]
            return found if cpu.release >= (10, 0) else [*found, Entry(0xD, LAST_COMPONENT, SIGNIFICANT_INDEX, 0, 0, 0, 0)]
        if function == 0x12:
            return [self._entry(function, index, SIGNIFICANT_INDEX) for index in range(3)]
        if function in _COUNTED and (function != 0x24 or cpu.release >= (10, 0)):
            first = self._entry(function, 0, SIGNIFICANT_INDEX)
            return [first, *(self._entry(function, index, SIGNIFICANT_INDEX) for index in range(1, first.eax + 1))]
        registers = answer(cpu, 0)
        if function == 0x2:
            return [Entry(function, kept, STATEFUL if cpu.release < (10, 0) else 0, *registers)]
        if registers == ZERO and function < 0xC0000000:
            return []
        return [Entry(function, kept, 0, *registers)]

    def _entry(self, function: int, index: int, flags: int) -> Entry:
        return Entry(function, index, flags, *LEAVES[function](self.cpu, index))

    def _until(self, function: int, register: int, mask: int) -> list[Entry]:
        """Ask sub-leaf after sub-leaf up to the one whose register has none of the bits of `mask`, which is still handed over."""
        entries = []
        while True:
            entry = self._entry(function, len(entries), SIGNIFICANT_INDEX)
            entries.append(entry)
            if not entry[3 + register] & mask:
                return entries
