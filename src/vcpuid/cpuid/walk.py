"""Which leaves and sub-leaves a processor has, as it tells them itself; whoever executes the instruction, the walk is the same.

From the Intel SDM vol. 2A (CPUID), the AMD APM vol. 3 (appendix E) and, for where hypervisors put their leaves,
`for_each_possible_cpuid_base_hypervisor` in Linux 7.3, arch/x86/include/asm/cpuid/api.h. Every range's first leaf is in the table even
where the processor has no such range, since what it answers there is a fact too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from vcpuid.cpuid.registers import CpuidTable, Entry, Registers

Cpuid = Callable[[int, int], Registers]
"""Executes CPUID: function (EAX) and index (ECX) in, the four registers out."""

_Ask = Callable[[int], Registers]
Rule = Callable[[_Ask], Iterable[int]]
"""Which sub-leaves of a leaf to ask for, given what asks for one of it; sub-leaf 0 need not be among them."""

_RANGES = (0, 0x20000000, 0x40000000, 0x80000000, 0x80860000, 0xC0000000)
_HYPERVISORS = range(0x40000000, 0x40010000, 0x100)
_RANGE_LIMIT = 0x400
_SUBLEAF_LIMIT = 0x100
_KVM = Registers(0, 0x4B4D564B, 0x564B4D56, 0x4D)


def walk(cpuid: Cpuid) -> CpuidTable:
    """Ask for every leaf and sub-leaf there is, in ascending order.

    Always ends: of a range at most 1024 leaves are asked, of a leaf at most 257 sub-leaves.
    """
    return CpuidTable(entry for function in _functions(cpuid) for entry in _leaf(cpuid, function))


def _functions(cpuid: Cpuid) -> Iterator[int]:
    for base in sorted({*_RANGES, *_HYPERVISORS}):
        last = last_of_range(base, cpuid(base, 0))
        yield from range(base, last + 1)
        if base in _RANGES and last < base:
            yield base


def last_of_range(base: int, answer: Registers) -> int:
    """Give the last leaf of a range by its first one's answer; less than `base` where there is no such range."""
    if answer == _KVM:  # KVM of old left EAX 0 and meant base + 1 (Linux, Documentation/virt/kvm/x86/cpuid.rst)
        return base + 1
    span = 0xFF if base in _HYPERVISORS else 0xFFFF
    return min(answer.eax, base + _RANGE_LIMIT - 1) if base <= answer.eax <= base + span else base - 1


def _leaf(cpuid: Cpuid, function: int) -> Iterator[Entry]:
    answers: dict[int, Registers] = {}

    def ask(index: int) -> Registers:
        if index not in answers:
            answers[index] = cpuid(function, index)
        return answers[index]

    kept = {0, *SUBLEAVES.get(function, _none)(ask)}
    return (Entry(function, index, 0, *ask(index)) for index in sorted(kept))


def _none(_ask: _Ask) -> Iterable[int]:
    return ()


def _counted(ask: _Ask) -> Iterable[int]:
    """Sub-leaf 0 has the last sub-leaf's number in EAX."""
    return range(1, min(ask(0).eax, _SUBLEAF_LIMIT) + 1)


def _listed(register: str) -> Rule:
    """Sub-leaf 0 has a bit for each sub-leaf in that register; bit 0 is reserved or sub-leaf 0 itself."""
    return lambda ask: _bits(getattr(ask(0), register))


def _until(first: int, register: str, mask: int) -> Rule:
    """From `first` on, sub-leaves follow one another up to one whose type field is 0; that one is asked too."""

    def rule(ask: _Ask) -> Iterator[int]:
        yield from range(first)
        for index in range(first, _SUBLEAF_LIMIT + 1):
            yield index
            if not getattr(ask(index), register) & mask:
                return

    return rule


def _xsave(ask: _Ask) -> Iterable[int]:
    """Sub-leaf 1, and one for each state component that XCR0 (sub-leaf 0 EDX:EAX) or XSS (sub-leaf 1 EDX:ECX) may enable.

    Emulated processors describe components that they then do not enable, and QEMU looks at those (kvm_cpu_xsave_init in QEMU's
    target/i386/kvm/kvm-cpu.c): all that are described are kept.
    """
    user, supervisor = ask(0), ask(1)
    components = (user.edx | supervisor.edx) << 32 | user.eax | supervisor.ecx
    return [1, *(index for index in range(2, 63) if components >> index & 1 or any(ask(index)))]


def _bits(mask: int) -> Iterable[int]:
    return (position for position in range(mask.bit_length()) if mask >> position & 1)


_caches = _until(0, "eax", 0x1F)
_topology = _until(0, "ecx", 0xFF00)

SUBLEAVES: dict[int, Rule] = {
    0x4: _caches,
    0x7: _counted,
    0xB: _topology,
    0xD: _xsave,
    0xF: _listed("edx"),
    0x10: _listed("ebx"),
    0x12: _until(2, "eax", 0xF),
    0x14: _counted,
    0x17: _counted,
    0x18: _counted,
    0x1B: _until(0, "eax", 0xFFF),
    0x1D: _counted,
    0x1E: _counted,
    0x1F: _topology,
    0x20: _counted,
    0x23: _listed("eax"),
    0x24: _counted,
    0x27: _listed("edx"),
    0x28: _listed("ebx"),
    0x29: _counted,
    0x8000001D: _caches,
    0x80000020: _listed("ebx"),
    0x80000026: _topology,
}
"""The leaves that have sub-leaves, each with its rule."""
