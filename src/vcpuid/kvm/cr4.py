"""Which bits of CR4 KVM lets a vCPU set: those whose feature both KVM and the guest's table have.

From CR4_RESERVED_BITS (Linux arch/x86/include/asm/kvm_host.h) and __cr4_reserved_bits (arch/x86/kvm/x86.h, regs.h in 7.3).
"""

from __future__ import annotations

from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, bits
from vcpuid.kvm.lookup import find

CR4_OSXSAVE, CR4_PKE = 1 << 18, 1 << 22

_ALWAYS = 0x7FF
"""VME, PVI, TSD, DE, PSE, PAE, MCE, PGE, PCE, OSFXSR and OSXMMEXCPT."""


class Cr4Bit(NamedTuple):
    """A bit of CR4 and the features of which one is enough to have it; `since` is the first kernel that knows the bit."""

    name: str
    position: int
    features: tuple[tuple[str, Bit], ...]
    since: tuple[int, int] = (5, 10)


BITS = (
    Cr4Bit("UMIP", 11, (("UMIP", bits.UMIP),)),
    Cr4Bit("LA57", 12, (("LA57", bits.LA57),)),
    Cr4Bit("VMXE", 13, (("VMX", bits.VMX),)),
    Cr4Bit("FSGSBASE", 16, (("FSGSBASE", bits.FSGSBASE),)),
    Cr4Bit("PCIDE", 17, (("PCID", bits.PCID),)),
    Cr4Bit("OSXSAVE", 18, (("XSAVE", bits.XSAVE),)),
    Cr4Bit("SMEP", 20, (("SMEP", bits.SMEP),)),
    Cr4Bit("SMAP", 21, (("SMAP", bits.SMAP),)),
    Cr4Bit("PKE", 22, (("PKU", bits.PKU),)),
    Cr4Bit("CET", 23, (("SHSTK", bits.SHSTK), ("IBT", bits.IBT)), (6, 18)),
    Cr4Bit("LAM_SUP", 28, (("LAM", bits.LAM),), (6, 8)),
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
        names = " or ".join(name for name, _ in bit.features)
        if not _has(table, bit):
            return f"CR4.{bit.name}: the guest's table has no {names}"
        if supported is not None and not _has(supported, bit):
            return f"CR4.{bit.name}: KVM has no {names} on this host"
    return f"CR4 bits {rest:#x} are reserved for KVM of Linux {release[0]}.{release[1]}" if rest else None


def _has(table: CpuidTable, bit: Cr4Bit) -> bool:
    return any(_shows(table, feature) for _, feature in bit.features)


def _shows(table: CpuidTable, feature: Bit) -> bool:
    word = feature.word
    assert isinstance(word, CpuidWord), "no MSR tells of CR4's bits"
    entry = find(table, word.function, word.index)
    return entry is not None and bool(getattr(entry, word.register) & feature.mask)
