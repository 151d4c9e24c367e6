"""Reading CPUID: vendor, family and model, the words that come straight from leaves, and the bits scattered over others (common.c)."""

from __future__ import annotations

from functools import cache

from vcpuid.cpuid import bits
from vcpuid.cpuid.registers import Entry, vendor_name
from vcpuid.cpuid.vendors import linux_kind, signature
from vcpuid.cpuid.words import CpuidWord
from vcpuid.linux import rules
from vcpuid.linux.cpu import Cpu
from vcpuid.linux.tables import tables
from vcpuid.reasons import Rule

_LIVE = {bit.word: bit.mask for bit in (bits.OSXSAVE, bits.OSPKE)}
"""Bits that mirror CR4."""


_STRANGERS = {"4.18": ("hygon", "zhaoxin")}
"""Vendors for which a kernel has no code; upstream has for Hygon's since 4.20 and for Zhaoxin's since 5.3."""


def read(cpu: Cpu) -> None:
    """Read what CPUID tells (cpu_detect, get_cpu_vendor, get_cpu_cap, get_cpu_address_sizes)."""
    leaf0 = cpu.leaf(0)
    cpu.level = leaf0.eax
    kind = linux_kind(vendor_name(leaf0))
    cpu.vendor = "unknown" if kind in _STRANGERS.get(cpu.tables.release, ()) else kind
    if cpu.level >= 1:
        cpu.family, cpu.model, cpu.stepping = signature(cpu.leaf(1).eax)
    extended = cpu.leaf(0x80000000).eax
    cpu.extended_level = extended if extended >> 16 == 0x8000 else 0
    if cpu.extended_level >= 0x80000007:
        cpu.power = cpu.leaf(0x80000007).edx
    if cpu.extended_level >= 0x80000008:
        sizes = cpu.leaf(0x80000008).eax
        cpu.phys_bits, cpu.virt_bits = sizes & 0xFF, sizes >> 8 & 0xFF
    _words(cpu)
    _scattered(cpu)
    _speculation_control(cpu)


@cache
def _cpuid_words(release: str) -> tuple[tuple[int, CpuidWord], ...]:
    return tuple((number, word) for number, word in enumerate(tables(release).words) if isinstance(word, CpuidWord))


def _words(cpu: Cpu) -> None:
    ledger, caps, raw = cpu.ledger, cpu.caps, cpu.raw
    for number, word in _cpuid_words(cpu.tables.release):
        if value := raw.word(word):
            if rule := _why_not_read(cpu, word):
                value = ledger.clear(word, value, value, rule)
            elif word in _LIVE:
                value = ledger.clear(word, value, _LIVE[word], rules.CR4_OFF)
            caps[number] = value


def _why_not_read(cpu: Cpu, word: CpuidWord) -> Rule | None:
    """Say why Linux does not read a word; None where it does (get_cpu_cap; init_c3 in centaur.c, init_zhaoxin_cap in zhaoxin.c)."""
    function = word.function
    if function >> 16 in _VENDOR_RANGES:
        reads = cpu.vendor in ("centaur", "zhaoxin") and cpu.family >= 6 and function <= cpu.leaf(0xC0000000).eax
        return None if reads and function >> 16 == 0xC000 else rules.NOT_READ
    top = cpu.extended_level if function >> 31 else cpu.level
    return rules.LEVEL if function > top or (function == 7 and word.index > cpu.leaf(7).eax) else None


_VENDOR_RANGES = (0x8086, 0xC000)


def _scattered(cpu: Cpu) -> None:
    get = cpu.raw.get
    tops = {0: cpu.level, 0x80000000: cpu.leaf(0x80000000).eax}
    for function, subleaf, register, masks in cpu.tables.scattered:
        base = function & 0xFFFF0000
        entry = get(function, subleaf) if function <= tops[base] <= base | 0xFFFF else None
        value = 0 if entry is None else entry[_FIRST_REGISTER + register]
        if value:
            for mask, feature in masks:
                if value & mask:
                    cpu.set(feature, rules.SCATTERED)


_FIRST_REGISTER = Entry._fields.index("eax")

_IMPLIED = {
    "SPEC_CTRL": ("IBRS", "IBPB", "MSR_SPEC_CTRL"),
    "INTEL_STIBP": ("STIBP",),
    "SPEC_CTRL_SSBD": ("SSBD",),
    "VIRT_SSBD": ("SSBD",),
    "AMD_IBRS": ("IBRS", "MSR_SPEC_CTRL"),
    "AMD_IBPB": ("IBPB",),
    "AMD_STIBP": ("STIBP", "MSR_SPEC_CTRL"),
    "AMD_SSBD": ("SSBD", "MSR_SPEC_CTRL"),
}


def _speculation_control(cpu: Cpu) -> None:
    """Give each control one flag, whichever vendor's bit announces it."""
    for cause, implied in _IMPLIED.items():
        if cpu.has(cause):
            for feature in implied:
                cpu.set(feature, rules.SPECULATION, cause)
    if cpu.has("AMD_SSBD"):
        cpu.clear("VIRT_SSBD", rules.VIRT_SSBD, "AMD_SSBD")
    cpu.set("SYSFAST32", rules.SYSFAST)
