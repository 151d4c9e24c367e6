"""Which bits of CR4 KVM lets a vCPU set: those whose feature both KVM and the guest's table have.

From CR4_RESERVED_BITS (Linux arch/x86/include/asm/kvm_host.h) and __cr4_reserved_bits (arch/x86/kvm/x86.h, regs.h in 7.3).
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, CpuidWord
from vcpuid.kvm.lookup import find

OSXSAVE = 1 << 18
PKE = 1 << 22

_ALWAYS = 0x7FF
"""VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR and OSXMMEXCPT."""


class Cr4Bit(NamedTuple):
    """A bit of CR4 and the features of which one is enough to have it; `since` is the first kernel that knows the bit."""

    name: str
    position: int
    features: tuple[tuple[str, CpuidWord, int], ...]
    since: tuple[int, int] = (6, 1)


BITS = (
    Cr4Bit("UMIP", 11, (("UMIP", CpuidWord(7, 0, "ecx"), 2),)),
    Cr4Bit("LA57", 12, (("LA57", CpuidWord(7, 0, "ecx"), 16),)),
    Cr4Bit("VMXE", 13, (("VMX", CpuidWord(1, 0, "ecx"), 5),)),
    Cr4Bit("FSGSBASE", 16, (("FSGSBASE", CpuidWord(7, 0, "ebx"), 0),)),
    Cr4Bit("PCIDE", 17, (("PCID", CpuidWord(1, 0, "ecx"), 17),)),
    Cr4Bit("OSXSAVE", 18, (("XSAVE", CpuidWord(1, 0, "ecx"), 26),)),
    Cr4Bit("SMEP", 20, (("SMEP", CpuidWord(7, 0, "ebx"), 7),)),
    Cr4Bit("SMAP", 21, (("SMAP", CpuidWord(7, 0, "ebx"), 20),)),
    Cr4Bit("PKE", 22, (("PKU", CpuidWord(7, 0, "ecx"), 3),)),
    Cr4Bit("CET", 23, (("SHSTK", CpuidWord(7, 0, "ecx"), 7), ("IBT", CpuidWord(7, 0, "edx"), 20)), (6, 18)),
    Cr4Bit("LAM_SUP", 28, (("LAM", CpuidWord(7, 1, "eax"), 26),), (6, 12)),
)


def refusal(cr4: int, table: CpuidTable, supported: CpuidTable | None, release: tuple[int, int]) -> str | None:
    """Say why KVM refuses a CR4, None where it takes it.

    `table` is the guest's, `supported` what KVM_GET_SUPPORTED_CPUID of the host answers (None where the host is not known).
    """
    rest = cr4 & ~_ALWAYS
    for bit in BITS:
        if not rest >> bit.position & 1 or release < bit.since:
            continue
        rest &= ~(1 << bit.position)
        names = " or ".join(name for name, _, _ in bit.features)
        if not _has(table, bit):
            return f"CR4.{bit.name}: the guest's table has no {names}"
        if supported is not None and not _has(supported, bit):
            return f"CR4.{bit.name}: KVM has no {names} on this host"
    return f"CR4 bits {rest:#x} are reserved for KVM of Linux {release[0]}.{release[1]}" if rest else None


def _has(table: CpuidTable, bit: Cr4Bit) -> bool:
    for _, word, position in bit.features:
        entry = find(table, word.function, word.index)
        if entry is not None and getattr(entry, word.register) >> position & 1:
            return True
    return False
