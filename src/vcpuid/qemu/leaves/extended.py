"""Leaves 0x80000000 to 0x80000022 but for caches and topology, and 0xC0000000 (QEMU, target/i386/cpu.c, cpu_x86_cpuid)."""

from __future__ import annotations

from vcpuid.cpuid import bits
from vcpuid.qemu.leaves.cpu import ZERO, RealizedCpu, Regs

CMP_LEGACY = bits.CMP_LEGACY.mask  # FEAT_8000_0001_ECX
SVM = bits.SVM.mask  # FEAT_8000_0001_ECX
LONG_MODE = bits.LM.mask  # FEAT_8000_0001_EDX
LA57 = bits.LA57.mask  # FEAT_7_0_ECX
PERFMON_V2 = bits.PERFMON_V2.mask  # FEAT_8000_0022_EAX


def _is_intel_like(cpu: RealizedCpu) -> bool:
    """Whether QEMU 10.1 and later leave out what Intel and Zhaoxin reserve."""
    return cpu.on("x-vendor-cpuid-only-v2") and (cpu.state.is_intel or cpu.state.is_zhaoxin)


def leaf_80000000(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000000: the last leaf, the vendor."""
    if _is_intel_like(cpu):
        return cpu.state.xlevel, 0, 0, 0
    ebx, edx, ecx = cpu.vendor_words
    return cpu.state.xlevel, ebx, ecx, edx


def leaf_80000001(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000001: extended features. Threads make QEMU up to 9.2 add cmp-legacy here, later ones while they expand features."""
    ecx = cpu.word("FEAT_8000_0001_ECX")
    if cpu.release < (10, 0) and cpu.threads > 1 and not cpu.state.is_intel:
        ecx |= CMP_LEGACY
    return cpu.signature, 0, ecx, cpu.word("FEAT_8000_0001_EDX")


def leaf_80000002(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000002: the model's name, characters 0 to 15."""
    return cpu.model_id_words[0]


def leaf_80000003(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000003: the model's name, characters 16 to 31."""
    return cpu.model_id_words[1]


def leaf_80000004(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000004: the model's name, characters 32 to 47."""
    return cpu.model_id_words[2]


def leaf_80000007(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000007: power management and RAS."""
    reserved = cpu.on("x-vendor-cpuid-only-v2") and cpu.state.is_intel
    return 0, 0 if reserved else cpu.word("FEAT_8000_0007_EBX"), 0, cpu.word("FEAT_8000_0007_EDX")


def leaf_80000008(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000008: address widths, and how many threads a package has."""
    eax = cpu.state.phys_bits
    if cpu.word("FEAT_8000_0001_EDX") & LONG_MODE:
        eax |= (57 if cpu.word("FEAT_7_0_ECX") & LA57 else 48) << 8 | cpu.state.guest_phys_bits << 16
    threads = cpu.threads
    ecx = cpu.topology.package_offset << 12 | threads - 1 if threads > 1 and not _is_intel_like(cpu) else 0
    return eax, cpu.word("FEAT_8000_0008_EBX"), ecx, 0


def leaf_8000000a(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x8000000A: SVM revision 1 with 16 address space ids."""
    return (1, 0x10, 0, cpu.word("FEAT_SVM")) if cpu.word("FEAT_8000_0001_ECX") & SVM else ZERO


def leaf_80000021(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000021: AMD's further features."""
    return cpu.word("FEAT_8000_0021_EAX"), cpu.word("FEAT_8000_0021_EBX"), cpu.word("FEAT_8000_0021_ECX"), 0


def leaf_80000022(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000022: AMD's performance monitoring, version 2 and its counters as KVM has them."""
    if cpu.on("pmu") and cpu.word("FEAT_8000_0022_EAX") & PERFMON_V2:
        return PERFMON_V2, cpu.host_supports(0x80000022, 0)[1] & 0xF, 0, 0
    return ZERO


def leaf_c0000000(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0xC0000000: the last leaf."""
    return cpu.state.xlevel2, 0, 0, 0


def leaf_c0000001(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0xC0000001: VIA's and Zhaoxin's features."""
    return cpu.signature, 0, 0, cpu.word("FEAT_C000_0001_EDX")
