"""What libvirt sees of the host by itself: CPUID by the instruction, feature MSRs, /proc/cpuinfo (virCPUx86GetHost, src/cpu/cpu_x86.c).

The module msr is taken not to be loaded: libvirt then reads MSRs from KVM, and one that KVM does not know is 0. With /dev/cpu/0/msr it
would read the hardware's.
"""

from __future__ import annotations

from collections.abc import Mapping

from vcpuid.cpuid import bits, vendors
from vcpuid.cpuid.registers import CpuidTable
from vcpuid.cpuid.words import CpuidWord
from vcpuid.kvm.answers import Answers
from vcpuid.libvirt.cpu_map import CpuMap, signature_of
from vcpuid.libvirt.decode import CpuData

_ARCH_CAPABILITIES = 0x10A
_MICROCODE = 0x8B


def processor(says: Answers, known: CpuMap) -> CpuData:
    """Return the host's processor as libvirt reads it."""
    raw = CpuidTable(entry for entry in says.raw if _is_read(says.raw, entry.function, entry.index))
    every = known.release >= (11, 0) or raw.registers(7).edx & bits.ARCH_CAPABILITIES.mask
    msrs = says.msrs if every else {}
    return CpuData(features_in_cpuid(raw, msrs, known), known.vendor(says.vendor), signature_of(raw.registers(1).eax))


def features_in_cpuid(raw: CpuidTable, msrs: Mapping[int, int], known: CpuMap) -> int:
    """Return the features whose bits are set in CPUID and in MSRs."""
    found = 0
    for word, pairs in known.words:
        value = raw.word(word) if isinstance(word, CpuidWord) else msrs.get(word.msr, 0)
        if value:
            for mask, feature in pairs:
                if value & mask:
                    found |= feature
    return found


def _is_read(raw: CpuidTable, function: int, index: int) -> bool:
    """Tell whether libvirt reads a sub-leaf (cpuidSet): up to the last leaf of each range, beyond sub-leaf 0 where it knows how."""
    base = function & 0x80000000
    if function & 0x40000000 or function > raw.registers(base).eax:
        return False
    if function == 0x12:
        return bool(raw.registers(7).ebx & bits.SGX.mask) and index <= 1
    if function == 0x17 and raw.registers(function).eax < 3:
        return False
    if index == 0:
        return True
    first = raw.registers(function)
    if function in (0x7, 0x14, 0x17):
        return index <= first.eax
    if function == 0xD:
        return index == 1
    if function == 0xF:
        return bool(first.edx >> index & 1)
    return function == 0x10 and bool(first.ebx >> index & 1)


def microcode(says: Answers) -> int:
    """Return the microcode's revision as /proc/cpuinfo shows it; 0 where KVM does not tell it."""
    value = says.msrs.get(_MICROCODE, 0)
    return value >> 32 if says.vendor == vendors.INTEL else value & 0xFFFFFFFF


def address_bits(says: Answers) -> int:
    """Return the physical address bits of /proc/cpuinfo's "address sizes" (Linux, get_cpu_address_sizes)."""
    raw = says.raw
    if raw.registers(0x80000000).eax >= 0x80000008 and (told := raw.registers(0x80000008).eax):
        return told & 0xFF
    return 36 if raw.registers(1).edx & (bits.PAE.mask | bits.PSE36.mask) else 32
