"""Leaves 0 to 0x29 but for caches, topology and XSAVE (QEMU, target/i386/cpu.c, cpu_x86_cpuid)."""

from __future__ import annotations

from vcpuid.cpuid import bits, xfeatures
from vcpuid.qemu.leaves.cpu import ZERO, RealizedCpu, Regs
from vcpuid.qemu.stable import mended

# Bits of feature words that decide what other leaves say.
PDCM = bits.PDCM.mask  # FEAT_1_ECX
HT = bits.HT.mask  # FEAT_1_EDX
SGX = bits.SGX.mask  # FEAT_7_0_EBX
INTEL_PT = bits.INTEL_PT.mask  # FEAT_7_0_EBX
SGX_LC = bits.SGX_LC.mask  # FEAT_7_0_ECX
ARCH_LBR = bits.ARCH_LBR.mask  # FEAT_7_0_EDX
AMX_TILE = bits.AMX_TILE.mask  # FEAT_7_0_EDX
AVX10 = bits.AVX10.mask  # FEAT_7_1_EDX
PT_LIP = bits.INTEL_PT_LIP.mask  # FEAT_14_0_ECX
APX = bits.APX.mask  # FEAT_7_1_EDX
PROVISION_KEY = bits.SGX_PROVISIONKEY.mask  # leaf 0x12.1 EAX


def leaf_0(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0: the last leaf, the vendor."""
    ebx, edx, ecx = cpu.vendor_words
    return cpu.state.level, ebx, ecx, edx


def leaf_1(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 1: the model's signature, this thread's APIC id, how many threads the package has, features."""
    topology = cpu.topology
    ebx = (cpu.apic_id << 24 | 8 << 8) & 0xFFFFFFFF
    ecx, edx = cpu.word("FEAT_1_ECX"), cpu.word("FEAT_1_EDX")
    if cpu.release >= (10, 0):
        threads = topology.threads_per_package
        if threads > 1:
            # AMD wants the threads, Intel the APIC ids that a package takes up.
            ids = 1 << topology.package_offset if cpu.state.is_intel or cpu.state.is_zhaoxin else threads
            ebx |= min(ids, 255) << 16
    elif (threads := cpu.threads) > 1:
        ebx = (ebx | threads << 16) & 0xFFFFFFFF
        edx |= HT
    if not cpu.on("pmu") and (cpu.release < (10, 1) or cpu.on("x-pdcm-on-even-without-pmu")):
        ecx &= ~PDCM
    return cpu.signature, ebx, ecx, edx


def leaf_5(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 5: MWAIT wakes on interrupts, nothing else is said of it."""
    return 0, 0, 3, 0


def leaf_6(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 6: thermal and power."""
    return cpu.word("FEAT_6_EAX"), 0, 0, 0


def leaf_7(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 7: structured extended features."""
    if index == 0:
        ebx, ecx, edx = cpu.word("FEAT_7_0_EBX"), cpu.word("FEAT_7_0_ECX"), cpu.word("FEAT_7_0_EDX")
        if cpu.release < (9, 1):
            # Later releases leave this to the filter.
            _, host_ebx, host_ecx, _ = cpu.host_supports(7, 0)
            if not host_ebx & SGX:
                ebx &= ~SGX
            if not ebx & SGX or not host_ecx & SGX_LC:
                ecx &= ~SGX_LC
        return cpu.state.level_func7, ebx, ecx, edx
    if index == 1:
        return cpu.word("FEAT_7_1_EAX"), 0, cpu.word("FEAT_7_1_ECX"), cpu.word("FEAT_7_1_EDX")
    if index == 2:
        return 0, 0, 0, cpu.word("FEAT_7_2_EDX")
    return ZERO


def leaf_a(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0xA: performance monitoring as KVM has it."""
    return cpu.host_supports(0xA, index) if cpu.on("pmu") else ZERO


def leaf_12(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x12: SGX as KVM has it, less what the feature words lack.

    QEMU is taken to have no EPC section, and not to be let at /dev/sgx_provision.
    """
    if index > 1 or not cpu.word("FEAT_7_0_EBX") & SGX:
        return ZERO
    eax, ebx, ecx, edx = cpu.host_supports(0x12, index)
    if index == 0:
        return eax & cpu.word("FEAT_SGX_12_0_EAX"), ebx & cpu.word("FEAT_SGX_12_0_EBX"), ecx, edx
    eax &= cpu.word("FEAT_SGX_12_1_EAX") & ~PROVISION_KEY
    # From 7.1 on QEMU took the supervisor components for the user's here, until that was mended.
    right = cpu.release < (7, 1) or mended(cpu.release, (8, 1), (7, 2))
    low, high = ("FEAT_XSAVE_XCR0_LO", "FEAT_XSAVE_XCR0_HI") if right else ("FEAT_XSAVE_XSS_LO", "FEAT_XSAVE_XSS_HI")
    return eax, 0, ecx & cpu.word(low) | xfeatures.LEGACY, edx & cpu.word(high)


def leaf_14(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x14: the one Processor Trace that QEMU offers, an Ice Lake's."""
    if not cpu.word("FEAT_7_0_EBX") & INTEL_PT:
        return ZERO
    if index == 0:
        return 1, 0xF, 0x7 | cpu.word("FEAT_14_0_ECX") & PT_LIP, 0
    return (0x0249 << 16 | 2, 0x003F << 16 | 0x1FFF, 0, 0) if index == 1 else ZERO


def leaf_1c(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x1C: last branch records as KVM has them."""
    if cpu.on("pmu") and cpu.word("FEAT_7_0_EDX") & ARCH_LBR:
        return (*cpu.host_supports(0x1C, 0)[:3], 0)
    return ZERO


def leaf_1d(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x1D: AMX tiles, a Sapphire Rapids'."""
    if not cpu.word("FEAT_7_0_EDX") & AMX_TILE:
        return ZERO
    if index == 0:
        return 1, 0, 0, 0
    return (0x2000 | 0x400 << 16, 0x40 | 8 << 16, 0x10, 0) if index == 1 else ZERO


def leaf_1e(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x1E: AMX multiplication, a Sapphire Rapids'."""
    if not cpu.word("FEAT_7_0_EDX") & AMX_TILE:
        return ZERO
    if index == 0:
        return cpu.host_supports(0x1E, 0)[0] if cpu.release >= (11, 0) else 0, 0x10 | 0x40 << 8, 0, 0
    return (cpu.word("FEAT_1E_1_EAX"), 0, 0, 0) if index == 1 else ZERO


def leaf_24(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x24: AVX10's version and vector lengths."""
    if not cpu.word("FEAT_7_1_EDX") & AVX10:
        return ZERO
    if index == 0:
        return cpu.integer("level-func24"), cpu.word("FEAT_24_0_EBX") | cpu.integer("avx10-version"), 0, 0
    return (0, 0, cpu.word("FEAT_24_1_ECX"), 0) if index == 1 else ZERO


def leaf_29(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x29: APX."""
    return (0, cpu.word("FEAT_29_0_EBX"), 0, 0) if cpu.word("FEAT_7_1_EDX") & APX else ZERO
