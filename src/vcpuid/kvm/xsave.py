"""How large an XSAVE area is, for a set of features (xstate_required_size, Linux arch/x86/kvm/cpuid.c)."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, xfeatures

_FIRST = 2
_LAST = 62
ALIGNED_SINCE = (5, 17)
"""The first Linux whose KVM knows of the alignment."""

_U32 = 0xFFFFFFFF
"""KVM adds in 32 bits, which only a broken CPUID overflows."""


def area_size(components: CpuidTable, features: int, *, compacted: bool, aligned: bool = True) -> int:
    """Return the bytes that XSAVE (or XSAVES and XSAVEC: `compacted`) needs for `features`, bits of XCR0 and IA32_XSS.

    `components` tells each feature's size, place and alignment: sub-leaves 2 and up of the host's leaf 0xD, on which KVM relies. x87 and
    SSE (bits 0 and 1) lie in the first 512 bytes, the header in the next 64. KVM before Linux 5.17 reckons a compacted area without the
    alignment that some features ask for: `aligned` is false there (`ALIGNED_SINCE`).
    """
    size = xfeatures.LEGACY_AREA
    for number in range(_FIRST, min(_LAST, features.bit_length() - 1) + 1):
        if features >> number & 1:
            length, place, flags, _ = components.registers(0xD, number)
            if compacted:
                place = (size + 63) & ~63 if aligned and flags & xfeatures.ALIGNED else size
            size = max(size, (place + length) & _U32)
    return size
