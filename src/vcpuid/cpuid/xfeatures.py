"""XSAVE's state components by name: bits of XCR0 and, those marked so, of IA32_XSS.

Intel SDM volume 1, 13.1; enum xfeature of Linux, arch/x86/include/asm/fpu/types.h. LWP is AMD's (APM volume 2, 11.5.2).
"""

from __future__ import annotations

from typing import NamedTuple

X87 = 1 << 0
SSE = 1 << 1
AVX = 1 << 2
BNDREGS = 1 << 3
BNDCSR = 1 << 4
OPMASK = 1 << 5
ZMM_HI256 = 1 << 6
HI16_ZMM = 1 << 7
PT = 1 << 8
"""Processor trace, of IA32_XSS."""
PKRU = 1 << 9
PASID = 1 << 10
"""Of IA32_XSS."""
CET_USER = 1 << 11
CET_KERNEL = 1 << 12
"""Both of IA32_XSS."""
HDC = 1 << 13
"""Of IA32_XSS."""
UINTR = 1 << 14
"""Of IA32_XSS."""
LBR = 1 << 15
"""Last branch records, of IA32_XSS."""
HWP = 1 << 16
"""Of IA32_XSS."""
TILE_CONFIG = 1 << 17
TILE_DATA = 1 << 18
APX = 1 << 19
LWP = 1 << 62

LEGACY = X87 | SSE
LEGACY_AREA = 576
"""Bytes of an XSAVE area before the first other component: x87 and SSE in 512 of them, then the header (Intel SDM volume 1, 13.4)."""
MPX = BNDREGS | BNDCSR
AVX512 = OPMASK | ZMM_HI256 | HI16_ZMM
CET = CET_USER | CET_KERNEL
AMX = TILE_CONFIG | TILE_DATA
SUPERVISOR = PT | PASID | CET | HDC | UINTR | LBR | HWP
"""All of IA32_XSS."""

SIZES = {
    AVX: 256, BNDREGS: 64, BNDCSR: 64, OPMASK: 64, ZMM_HI256: 512, HI16_ZMM: 1024, PKRU: 8, PASID: 8, CET_USER: 16, CET_KERNEL: 24,
    TILE_CONFIG: 64, APX: 128,
}  # fmt: skip
"""Bytes of those that are as large on every processor: check_xstate_against_struct of Linux, arch/x86/kernel/fpu/xstate.c."""

IN_XSS = 1 << 0
ALIGNED = 1 << 1
NEEDS_XFD = 1 << 2
"""Flags of a component, ECX of its sub-leaf of leaf 0xD: it is one of IA32_XSS, it begins at a multiple of 64 bytes where the area is
compacted, IA32_XFD can disarm it."""


class ComponentPlace(NamedTuple):
    """What a component's sub-leaf of leaf 0xD tells: EAX, EBX and ECX."""

    size: int
    offset: int = 0
    flags: int = 0

    @staticmethod
    def number(component: int) -> int:
        """Return the sub-leaf of a component."""
        return component.bit_length() - 1


LAYOUT = {
    AVX: ComponentPlace(SIZES[AVX], 0x240),
    BNDREGS: ComponentPlace(SIZES[BNDREGS], 0x3C0),
    BNDCSR: ComponentPlace(SIZES[BNDCSR], 0x400),
    OPMASK: ComponentPlace(SIZES[OPMASK], 0x440),
    ZMM_HI256: ComponentPlace(SIZES[ZMM_HI256], 0x480),
    HI16_ZMM: ComponentPlace(SIZES[HI16_ZMM], 0x680),
    PT: ComponentPlace(128, flags=IN_XSS),
    PKRU: ComponentPlace(SIZES[PKRU], 0xA80),
    PASID: ComponentPlace(SIZES[PASID], flags=IN_XSS),
    CET_USER: ComponentPlace(SIZES[CET_USER], flags=IN_XSS),
    CET_KERNEL: ComponentPlace(SIZES[CET_KERNEL], flags=IN_XSS),
    TILE_CONFIG: ComponentPlace(SIZES[TILE_CONFIG], 0xAC0, ALIGNED),
    TILE_DATA: ComponentPlace(8192, 0xB00, ALIGNED | NEEDS_XFD),
}
"""Where Intel's processors have them in an area that is not compacted, before APX; those of IA32_XSS have no place there."""
