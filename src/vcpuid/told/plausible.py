"""What a leaf or an MSR that is not told could hold: the features that have names, and numbers as processors of the last years have them.

It need not be any real processor's. What matters is that a party that looks at the leaf at all finds something there, as it would find
nothing where the leaf is taken for absent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, lru_cache

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, MsrWord, Registers, Word, bits, vendors, xfeatures
from vcpuid.cpuid.feature_words import CONTROL_MSRS, TRUE_CONTROLS
from vcpuid.cpuid.names import all_features, find
from vcpuid.cpuid.vendors import signature, twelve
from vcpuid.cpuid.words import REGISTERS
from vcpuid.kvm.vmx import coming_with
from vcpuid.linux.tables import candidates

_NUMBERS = {
    (0x4, 0): Registers(0x1C004121, 0x01C0003F, 0x3F, 0),
    (0x5, 0): Registers(0x40, 0x40, 3, 0x2020),
    (0x7, 0): Registers(eax=2),
    (0xA, 0): Registers(0x07300805, 0, 0xF, 0x8604),
    (0xB, 0): Registers(1, 2, 0x100, 0),
    (0xB, 1): Registers(6, 0x20, 0x201, 0),
    (0xD, 0): Registers(
        xfeatures.LEGACY | xfeatures.AVX | xfeatures.MPX | xfeatures.AVX512 | xfeatures.PKRU | xfeatures.AMX, 0x2B00, 0x2B00, 0
    ),
    (0xD, 1): Registers(0, 0x2B00, xfeatures.PT | xfeatures.PASID | xfeatures.CET, 0),
    **{(0xD, xfeatures.ComponentPlace.number(mask)): Registers(*component) for mask, component in xfeatures.LAYOUT.items()},
    (0x12, 0): Registers(0, 0, 0, 0x381F),
    (0x12, 1): Registers(0x36, 0, 0x2E7, 0),
    (0x14, 0): Registers(1, 0x5F, 7, 0),
    (0x14, 1): Registers(0x02490002, 0x003F3FFF, 0, 0),
    (0x15, 0): Registers(2, 0x78, 25_000_000, 0),
    (0x1D, 0): Registers(1),
    (0x1D, 1): Registers(0x04002000, 0x00080040, 0x10, 0),
    (0x1E, 0): Registers(1, 0x4010),
    (0x24, 0): Registers(1, 2, 0, 0),
    (0x40000000, 0): Registers(0x40000001, *twelve(vendors.KVM)),
    (0x80000008, 0): Registers(0x3934, 0, 0x7007, 0),
    (0x8000000A, 0): Registers(1, 0x8000, 0, 0),
    (0x8000001E, 0): Registers(0, 0x100, 0x100, 0),
    (0x8000001F, 0): Registers(0, 0x4173, 0x3EE, 1),
    (0x80000022, 0): Registers(0, 6, 0, 0),
}
"""Registers that are no features, or features besides numbers."""

_CONFLICTS: dict[Word, int] = {bits.RTM_ALWAYS_ABORT.word: bits.RTM_ALWAYS_ABORT.mask}
"""Features that take others away: a processor that has all there is would have less than one without them."""

_LAST_LEAVES = dict.fromkeys(vendors.AMD_AND_HYGON, 0x80000028)
_LAST_LEAF = 0x80000008
_LAST_OF_CENTAUR = 0xC0000004
_LAST_OF_INTEL, _LAST_OF_OTHERS = 0x24, 0x10
"""Of the first range, on the newest processors of which the parties read leaves."""


@cache
def _named() -> dict[Word, int]:
    masks: dict[Word, int] = {}
    for feature in all_features():
        masks[feature.place.word] = masks.get(feature.place.word, 0) | feature.place.mask
    return masks


def features_of(word: Word) -> int:
    """Return the bits of a word that have a name; of a VMX control MSR, in its high half."""
    mask = _named().get(word, 0)
    return mask << 32 if isinstance(word, MsrWord) and word.msr in CONTROL_MSRS else mask


@lru_cache(maxsize=1024)
def leaf(vendor: str, function: int, index: int) -> Registers:
    """Return what a leaf could hold on a processor of this vendor; all zero where nothing that is known stands there."""
    numbers = _NUMBERS.get((function, index), Registers())
    if function == 0x80000000:
        return Registers(eax=_LAST_LEAVES.get(vendor, _LAST_LEAF))
    if function == 0xC0000000:
        return Registers(eax=_LAST_OF_CENTAUR)
    words = (CpuidWord(function, index, register) for register in REGISTERS)
    return Registers(*(number | features_of(word) & ~_CONFLICTS.get(word, 0) for number, word in zip(numbers, words, strict=True)))


def last_basic(vendor: str) -> int:
    """Return the last leaf of the first range on a processor of this vendor that says of leaf 0 no more than who made it."""
    return _LAST_OF_INTEL if vendor == vendors.INTEL else _LAST_OF_OTHERS


VMX = (0x480, 0x481, 0x482, 0x485, 0x48B, 0x48C, 0x48D, 0x48E, 0x48F, 0x490, 0x491, 0x492)
"""The VMX capability MSRs that hold features; of the plain controls those that Linux reads."""


def microcode(raw: CpuidTable, vendor: str, release: str) -> int:
    """Return what MSR 0x8B could hold beside the newest revision, which counts where it is not told: an old one.

    Intel withdrew its first revisions with SPEC_CTRL; those with SSBD came later.
    """
    family, model, stepping = signature(raw.registers(1).eax)
    if vendor != vendors.INTEL or not raw.has(bits.SPEC_CTRL_SSBD):
        return 0
    withdrawn = candidates(release, "bad_spectre_microcode", vendors.LINUX_KINDS[vendor], family, model)
    return max((row.data + 1 for row in withdrawn if row.steppings >> stepping & 1), default=0) << 32


def msr(index: int) -> int:
    """Return what a feature MSR could hold."""
    return features_of(MsrWord(TRUE_CONTROLS.get(index, index)))


def with_feature(index: int) -> Iterator[tuple[Bit, int]]:
    """Give the bits of a VMX control MSR, as masks, without which no processor has had the feature of CPUID."""
    for symbol, msr_, mask in coming_with():
        if msr_ == index:
            yield find(f"X86_FEATURE_{symbol}").place, mask
