"""Leaves that contradict each other: makers, last leaves, family, address widths."""

from __future__ import annotations

from collections.abc import Iterator

from vcpuid.cpuid import CpuidWord, bits, vendor_name
from vcpuid.cpuid.names import find
from vcpuid.cpuid.vendors import AMD, INTEL, signature
from vcpuid.hazards.rule import HazardRule, Looks, Severity
from vcpuid.hazards.view import View, names
from vcpuid.qemu.supported import AMD_ALIASES

_OWN_LEAVES = (
    ("xsave", 0xD), ("amx_tile", 0x1D), ("intel_pt", 0x14), ("sgx", 0x12), ("arch_lbr", 0x1C), ("avx10", 0x24), ("svm", 0x8000000A),
)  # fmt: skip
"""Features that a leaf of their own describes."""

_AMD_LEAVES = (0x8000001D, 0x8000001E, 0x8000001F, 0x80000020, 0x80000021, 0x80000022, 0x80000026, 0x8000001A, 0x8000001B, 0x80000019)
"""Leaves that AMD's manual defines and Intel's does not (APM volume 3, appendix E)."""

_AMD_FAMILIES = range(0xF, 0x100)
_INTEL_FAMILIES = (0x5, 0x6, 0xF, 0x12, 0x13)
"""Families of processors with x86-64 (and the Pentium): AMD's since the K8, Intel's with Core, NetBurst and those after Core."""


_FOUR_LEVELS, _SMALL_PAGES = 46, 40
"""The most address bits that OVMF uses with 4-level paging, and without 1 GiB pages."""


def _two_makers(view: View) -> Iterator[str]:
    extended = vendor_name(view.leaf(0x80000000))
    if view.tells(0) and extended and extended != view.vendor:
        yield f"leaf 0 says {view.vendor}, leaf 0x80000000 {extended}"


def _other_maker(view: View) -> Iterator[str]:
    host = view.of_host
    if host is not None and host.vendor and view.vendor and view.vendor != host.vendor:
        yield f"{view.vendor} on {host.vendor}"


def _family(view: View) -> Iterator[str]:
    family, model, _ = signature(view.leaf(1).eax)
    wrong = family not in _INTEL_FAMILIES if view.vendor == INTEL else view.is_amd and family not in _AMD_FAMILIES
    if wrong and view.has(bits.LM) and view.tells(1):
        yield f"{view.vendor} family {family:#x} model {model:#x}"


def _amd_leaves(view: View) -> Iterator[str]:
    if view.vendor == INTEL:
        yield from (f"leaf {number:#x}" for number in _AMD_LEAVES if number <= view.leaf(0x80000000).eax and any(view.leaf(number)))


def _intel_leaves(view: View) -> Iterator[str]:
    if view.is_amd and any(any(entry.registers) for entry in view.table.leaf(4)):
        yield "leaf 0x4"


def _beyond(view: View) -> Iterator[str]:
    """Name leaves that say something though they lie past the last of their range."""
    tops = {first >> 16: view.leaf(first).eax for first in (0, 0x80000000) if view.tells(first)}
    told: set[int] = set()
    for entry in view.table:
        top = tops.get(entry.function >> 16)
        if top is not None and entry.function > top and any(entry.registers) and entry.function not in told:
            told.add(entry.function)
            yield f"leaf {entry.function:#x}, the last is {top:#x}"
    yield from _cut_off(view, tops)
    last = view.leaf(7).eax
    for entry in view.table.leaf(7):
        if entry.index > last and any(entry.registers):
            yield f"leaf 0x7.{entry.index}, the last is 0x7.{last}"


def _cut_off(view: View, tops: dict[int, int]) -> Iterator[str]:
    """Name features that QEMU's CPU has and its table does not reach."""
    if view.state is None:
        return
    for row in view.catalog.words:
        mask = view.state.features.get(row.name, 0)
        if mask and isinstance(row.word, CpuidWord):
            top = tops.get(row.word.function >> 16)
            if top is not None and row.word.function > top:
                mask &= ~(AMD_ALIASES if row.name == "FEAT_8000_0001_EDX" else 0)  # repeats of leaf 1 are no loss
                yield from (f"{name} in leaf {row.word.function:#x}, the last is {top:#x}" for name in names({row.word: mask}))


def _no_own_leaf(view: View) -> Iterator[str]:
    for name, number in _OWN_LEAVES:
        bit = find(name).bit
        first = number & 0x80000000
        there = number <= view.leaf(first).eax and any(any(entry.registers) for entry in view.table.leaf(number))
        if bit is not None and view.has(bit) and not there and view.tells(first, number):
            yield f"{name} without leaf {number:#x}"


def _wide_addresses(view: View) -> Iterator[str]:
    hardware = view.hardware
    if hardware is None:
        return
    guest, host = view.leaf(0x80000008).eax & 0xFF, hardware.registers(0x80000008).eax & 0xFF
    if guest > host > 0:
        ovmf = _ovmf_width(view)
        what = "goes by the guest's memory instead" if ovmf is None else f"puts its PCI window right below 2^{ovmf}"
        yield f"{guest} bits, the host has {host}; OVMF {what}"


def _ovmf_width(view: View) -> int | None:
    """Return the bits of addresses that OVMF uses; None where it does not believe what leaf 0x80000008 says. It reads the maker next to it.

    PlatformAddressWidthFromCpuid, OvmfPkg/Library/PlatformInitLib/MemDetect.c, since edk2-stable202211 (commit 8f9ef9c9a0ae): 40 bits were
    QEMU's default on any host, so they count only where AMD has them. Guests of 1 TiB and more with 5-level paging, which may go up to 48
    bits, are not told from others by their CPUID.
    """
    told, limit = view.leaf(0x80000008).eax & 0xFF, view.leaf(0x80000008).eax >> 16 & 0xFF
    maker = vendor_name(view.leaf(0x80000000))
    real = (36, 39) if maker == INTEL else (40,) if maker == AMD else ()
    if not limit and told <= 40 and told not in real:
        return None
    return min(told, limit or told, _FOUR_LEVELS if view.has(bits.GBPAGES) else _SMALL_PAGES)


def _no_hypervisor_bit(view: View) -> Iterator[str]:
    if view.leaf(0x40000000).ebx and not view.has(bits.HYPERVISOR) and view.tells(1):
        yield "leaf 0x40000000"


RULES = (
    HazardRule(
        "vendor.two", Severity.RISK, _two_makers,
        "Guests that read one leaf and guests that read the other take different paths for SYSCALL, caches and topology.",
        "set one vendor=… for both",
    ),
    HazardRule(
        "vendor.not-host", Severity.RISK, _other_maker,
        "SYSENTER and SYSCALL differ between makers in compatibility mode and KVM emulates them slowly or not at all; mitigations are "
        "picked for another processor than the one that runs the guest.",
        "set vendor= to the host's, with a model of that maker",
        Looks.HOST,
    ),
    HazardRule(
        "family.unknown", Severity.RISK, _family,
        "That maker has no such family: the guest's kernel finds no entry for it, applies no errata, and counts it as vulnerable to all or "
        "to nothing.",
        "use a model of the host's maker",
    ),
    HazardRule(
        "leaf.amd-on-intel", Severity.NOTE, _amd_leaves,
        "Intel's processors have no such leaves. Linux does not look at them there; other guests may.",
        "use a machine type with x-vendor-cpuid-only-v2 (pc-q35-10.1 and later), or xlevel=0x80000008",
    ),
    HazardRule(
        "leaf.intel-on-amd", Severity.NOTE, _intel_leaves,
        "AMD's processors describe caches in leaf 0x8000001D. Linux looks there; others may believe leaf 4.",
        "use a machine type with x-vendor-cpuid-only (6.1 and later), and +topoext",
    ),
    HazardRule(
        "level.too-low", Severity.RISK, _beyond,
        "Guests do not ask past the last leaf: they see none of these features, and a processor of Intel's would answer with its last "
        "leaf's values.",
        "set level=…, xlevel=… or min-level=…, or use a newer machine type",
    ),
    HazardRule(
        "level.own-leaf", Severity.RISK, _no_own_leaf,
        "The guest is told of a feature and not how to use it. Without its leaf Linux switches XSAVE off; of the others it reads zeros.",
        "set level=… or xlevel=… so that the leaf is there, or switch the feature off",
    ),
    HazardRule(
        "address.too-wide", Severity.RISK, _wide_addresses,
        "Physical addresses past the host's width cannot be mapped: a guest that has memory there, or whose firmware puts PCI windows "
        "there, hangs or faults.",
        "set host-phys-bits=on, or phys-bits= to the host's width or less",
        Looks.HOST,
    ),
    HazardRule(
        "hypervisor.hidden", Severity.NOTE, _no_hypervisor_bit,
        "Guests that find the hypervisor bit off do not look at its leaves: no kvm-clock, no paravirtual interrupts.",
        "add +hypervisor",
    ),
)  # fmt: skip
