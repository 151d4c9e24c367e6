"""Leaf 0xD: which state components the guest may save, where, and how much room they take (QEMU, target/i386/cpu.c)."""

from __future__ import annotations

from functools import cache

from vcpuid.cpuid import bits, xfeatures
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.leaves.basic import ARCH_LBR
from vcpuid.qemu.leaves.cpu import ZERO, RealizedCpu, Regs

XSAVE = bits.XSAVE.mask  # FEAT_1_ECX
XSAVES = bits.XSAVES.mask  # FEAT_XSAVE
LEGACY_SIZE = 0x240
"""Bytes of the x87 and SSE state and the header."""
_OFFSETS = {2: 0x240, 3: 0x3C0, 4: 0x400, 5: 0x440, 6: 0x480, 7: 0x680, 9: 0xA80}
"""Where QEMU up to 6.0 puts each component, whatever the host does (X86XSaveArea, target/i386/cpu.h)."""
LBR = xfeatures.LBR.bit_length() - 1
"""The sub-leaf of last branch records."""


@cache
def sizes(release: str) -> dict[int, int]:
    """Return the bytes of each component that a release knows beyond the legacy ones; it insists on the host having the same."""
    return {component.number: component.size for component in catalog(release).components if component.number > 1}


@cache
def subleaves(release: str) -> tuple[int, ...]:
    """Return the sub-leaves that may answer anything."""
    return (0, 1, *sizes(release))


@cache
def _users(release: str) -> dict[int, tuple[str, int]]:
    """Return the feature, as a word and bits, that each component goes with."""
    return {component.number: (component.word, component.mask) for component in reversed(catalog(release).components)}


def _placed(cpu: RealizedCpu, component: int) -> tuple[int, int]:
    """Return a component's offset and flags, which are the host's (kvm_cpu_xsave_init).

    Up to QEMU 9.1 only of a component whose feature KVM supports; QEMU 6.1 and 6.2 ask KVM instead, and have no flags.
    """
    if cpu.release < (6, 1):
        return _OFFSETS[component], 0
    if cpu.release < (7, 0):
        size, offset, _, _ = cpu.host_supports(0xD, component)
        return offset if size else 0, 0
    if cpu.release < (9, 2):
        word, mask = _users(cpu.state.release)[component]
        if cpu.state.supported.get(word, 0) & mask != mask:
            return 0, 0
    _, offset, flags, _ = cpu.host_cpuid(0xD, component)
    return offset, flags & 6


def leaf_d(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0xD: sub-leaf 0 the standard area, 1 the compacted one, others one component each, laid out as on the host."""
    if not cpu.word("FEAT_1_ECX") & XSAVE:
        return ZERO
    xcr0, xss = cpu.xcr0, cpu.xss
    known = sizes(cpu.state.release)
    if index == 0:
        size = LEGACY_SIZE
        for component, room in known.items():
            if xcr0 >> component & 1:
                size = max(size, _placed(cpu, component)[0] + room)
        return xcr0 & 0xFFFFFFFF, size, size, xcr0 >> 32
    if index == 1:
        eax = cpu.word("FEAT_XSAVE")
        if cpu.release < (7, 1):
            return eax, 0, 0, 0
        size = LEGACY_SIZE + sum(room for component, room in known.items() if (xcr0 | xss) >> component & 1)
        ecx = cpu.word("FEAT_XSAVE_XSS_LO") & ~xfeatures.LBR
        if _has_lbr(cpu) and eax & XSAVES:
            ecx |= xfeatures.LBR
        return eax, size, ecx, cpu.word("FEAT_XSAVE_XSS_HI")
    if index == LBR and _has_lbr(cpu):
        return cpu.host_supports(0xD, index)
    if index in known:
        if cpu.release >= (11, 0):
            # Whatever the guest may not use is shown nonetheless.
            supported = cpu.state.supported
            xcr0, xss = supported["FEAT_XSAVE_XCR0_LO"], supported["FEAT_XSAVE_XSS_LO"]
        if xcr0 >> index & 1:
            return known[index], *_placed(cpu, index), 0
        if xss >> index & 1:
            return known[index], 0, 1, 0
    return ZERO


def _has_lbr(cpu: RealizedCpu) -> bool:
    """Whether the guest gets last branch records."""
    return cpu.on("pmu") and bool(cpu.word("FEAT_7_0_EDX") & ARCH_LBR)
