"""The table as QEMU hands it to KVM_SET_CPUID2: which sub-leaves, in which order, with which flags.

QEMU, target/i386/kvm/kvm.c, kvm_x86_build_cpuid (in 7.2 still a part of kvm_arch_init_vcpu). It fills an array from the front: a leaf
takes the next slot and gives it back where the answer is all zero; a slot given back keeps the index that was written into it, and the
flags, which only few leaves do not write.
"""

from __future__ import annotations

from collections.abc import Sequence

from vcpuid.cpuid.registers import SIGNIFICANT_INDEX, Entry
from vcpuid.errors import QemuError
from vcpuid.numbers import U32
from vcpuid.qemu import messages
from vcpuid.qemu.leaves import LEAVES, PER_VCPU, SINCE, ZERO, RealizedCpu
from vcpuid.qemu.leaves.cpu import Regs
from vcpuid.qemu.leaves.topology import has_leaf_1f
from vcpuid.qemu.leaves.xsave import subleaves
from vcpuid.qemu.stable import mended

STATEFUL = 2 | 4
"""KVM_CPUID_FLAG_STATEFUL_FUNC and KVM_CPUID_FLAG_STATE_READ_NEXT: of leaf 2, which once was to be read repeatedly."""

LAST_COMPONENT = 63
"""Leaf 0xD's last sub-leaf, and so the index that its slot keeps when given back."""

CENTAUR = 0xC0000000
"""The first leaf of a range whose leaves are handed over even where they are zero."""

MAX_ENTRIES = 100
"""KVM_MAX_CPUID_ENTRIES of QEMU; only leaves of the last range can be that many."""

_COUNTED = frozenset({0x7, 0x14, 0x1D, 0x1E, 0x24})
"""Sub-leaf 0 tells in EAX how many more there are; of more than a table holds, QEMU makes those that fill it, and aborts."""

_UNTIL: dict[int, tuple[int, int]] = {0x4: (0, 0xFFFFFFFF), 0x8000001D: (0, 0xFFFFFFFF), 0xB: (2, 0xFF00), 0x1F: (2, 0xFF00)}
"""Sub-leaves go on up to the one whose register (0 for EAX, 2 for ECX) has none of these bits; that one is still handed over."""

_BASIC = tuple(sorted(function for function in LEAVES if function < 0x40000000))
_EXTENDED = tuple(sorted(function for function in LEAVES if 0x80000000 <= function < CENTAUR))


def functions(cpu: RealizedCpu) -> list[int]:
    """List the leaves that may make an entry, in order."""
    state = cpu.state
    centaur = range(CENTAUR, min(state.xlevel2 + 1, CENTAUR + MAX_ENTRIES))
    return [*(f for f in _BASIC if f <= state.level), *(f for f in _EXTENDED if f <= state.xlevel), *centaur]


class Builder:
    """Makes the tables of a guest's vCPUs; what they share is worked out once.

    `first` are the hypervisor's leaves, ahead of all others, and `last` those behind, whose index and flags QEMU does not write.
    """

    __slots__ = ("cpu", "first", "functions", "last", "shared")

    def __init__(self, cpu: RealizedCpu, first: Sequence[Entry] = (), last: Sequence[Entry] = ()) -> None:
        self.cpu, self.first, self.last, self.functions = cpu, first, last, functions(cpu)
        self.shared: dict[int, list[Entry]] = {}

    def table(self, apic_id: int) -> list[Entry]:
        """Make the entries of one vCPU; raises QemuError where there are too many."""
        self.cpu.apic_id = apic_id
        entries = list(self.first)
        kept = 0
        for function in self.functions:
            block = self.shared.get(function)
            if block is None:
                block = self._block(function, kept)
                if function not in PER_VCPU:
                    self.shared[function] = block
            entries += block
            if function == 0xD and self.cpu.release >= (9, 2):
                kept = LAST_COMPONENT
            elif block:
                kept = 0
        if len(entries) > MAX_ENTRIES:
            raise QemuError(self._full(entries[MAX_ENTRIES]))
        # Past leaf 0xD, the next leaf that QEMU tries writes the flags anew, even if it gives the slot back too.
        flags = SIGNIFICANT_INDEX if kept and self.functions[-1] == self.cpu.state.level else 0
        return entries + [entry._replace(index=kept, flags=flags) for entry in self.last]

    def _full(self, left_out: Entry) -> str:
        """Say which entry has no room; QEMU up to 9.0 tells it of sub-leaves alone."""
        if self.cpu.release >= (9, 1) or left_out.function in _COUNTED:
            return messages.TABLE_FULL(function=left_out.function, index=left_out.index)
        return messages.XLEVEL2(value=self.cpu.state.xlevel2)

    def _block(self, function: int, kept: int) -> list[Entry]:
        """Make the entries of one leaf; `kept` is the index left in the next slot."""
        release = self.cpu.release
        if release < SINCE.get(function, release):
            return []
        modern = release >= (9, 2)
        if function == 0x1F and not has_leaf_1f(self.cpu):
            # Once the slot that is taken for it was not given back, with nothing written into it but what the leaf before left there.
            if mended(release, (9, 0), (7, 2)):
                return []
            return [Entry(0 if release >= (7, 0) else 0x1E, kept, 0, *ZERO)]
        if function in _UNTIL:
            return self._until(function, *_UNTIL[function])
        if function == 0xD:
            found = [entry for index in subleaves(self.cpu.state.release) if (entry := self._subleaf(function, index)).eax]
            return found if modern else [*found, Entry(function, LAST_COMPONENT, SIGNIFICANT_INDEX, *ZERO)]
        if function == 0x12:
            return [self._subleaf(function, index) for index in range(3)]
        if function == 0x7 and release >= SINCE[0x12] and not mended(release, (9, 0), (7, 2)):
            return self._leaf_7()
        if function in _COUNTED:
            first = self._subleaf(function, 0)
            return [first, *(self._subleaf(function, index) for index in range(1, min(first.eax, MAX_ENTRIES) + 1))]
        registers = self._answer(function, 0) if function in LEAVES else ZERO
        if function == 0x2:
            return [Entry(function, kept, 0 if modern else STATEFUL, *registers)]
        return [Entry(function, kept, 0, *registers)] if registers != ZERO or function >= CENTAUR else []

    def _leaf_7(self) -> list[Entry]:
        """Make leaf 7's entries as those of leaf 0x12 are made: from the third on while EAX looks like an EPC section's."""
        entries = [self._subleaf(0x7, index) for index in range(2)]
        while len(entries) <= MAX_ENTRIES:
            entries.append(self._subleaf(0x7, len(entries)))
            if entries[-1].eax & 0xF != 1:
                break
        return entries

    def _subleaf(self, function: int, index: int) -> Entry:
        return Entry(function, index, SIGNIFICANT_INDEX, *self._answer(function, index))

    def _answer(self, function: int, index: int) -> Regs:
        """Ask for a leaf; a sum that is larger than a register loses what is above it, as in C."""
        eax, ebx, ecx, edx = LEAVES[function](self.cpu, index)
        return eax & U32, ebx & U32, ecx & U32, edx & U32

    def _until(self, function: int, register: int, mask: int) -> list[Entry]:
        entries: list[Entry] = []
        while True:
            entry = self._subleaf(function, len(entries))
            entries.append(entry)
            if not entry.registers[register] & mask:
                return entries
