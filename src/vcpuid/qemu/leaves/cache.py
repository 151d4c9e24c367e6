"""Leaves 2, 4, 0x80000005, 0x80000006 and 0x8000001D: how QEMU spells a guest's caches.

QEMU, target/i386/cpu.c (encode_cache_cpuid2 and its siblings, x86_cpu_get_cache_cpuid, cpu_x86_cpuid).
"""

from __future__ import annotations

from vcpuid.qemu.caches import CacheInfo, Caches, descriptors
from vcpuid.qemu.leaves.cpu import ZERO, RealizedCpu, Regs
from vcpuid.qemu.stable import mended
from vcpuid.qemu.topology import GuestTopology

_WORD = 0xFFFFFFFF
_UNKNOWN_DESCRIPTOR = 0xFF
"""Leaf 2: ask leaf 4 instead."""


def leaf_2(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 2: one descriptor a cache."""
    if cpu.on("host-cache-info"):
        return cpu.host_cpuid(2, 0)
    if cpu.on("x-vendor-cpuid-only") and cpu.state.is_amd:
        return ZERO
    codes = descriptors(cpu.release)
    l1d, l1i, l2, l3 = (codes.get((c.type, c.level, c.size, c.associativity, c.line_size), _UNKNOWN_DESCRIPTOR) for c in cpu.caches.leaf_2)
    if cpu.on("x-consistent-cache") and (cpu.integer("min-level") >= 4 or _UNKNOWN_DESCRIPTOR in (l1d, l1i, l2, l3)):
        return 1, 0, 0, _UNKNOWN_DESCRIPTOR
    return 1, 0, l3 if cpu.on("l3-cache") else 0, l1d << 16 | l1i << 8 | l2


def _sharing(topology: GuestTopology, level: str) -> int:
    """Return the highest APIC id offset among those that share a cache of this level."""
    offsets = {"core": topology.core_offset, "module": topology.module_offset, "die": topology.die_offset}
    return min((1 << offsets.get(level, topology.package_offset)) - 1, 4095)


def _cores(topology: GuestTopology) -> int:
    """Return the highest core id offset in a package."""
    return min((1 << topology.package_offset - topology.core_offset) - 1, 63)


def _kind(cache: CacheInfo) -> int:
    """EAX of leaves 4 and 0x8000001D but for the counts."""
    return cache.type | cache.level << 5 | (0x100 if cache.self_init else 0)


def _geometry(cache: CacheInfo) -> tuple[int, int, int]:
    """EBX, ECX and EDX of leaves 4 and 0x8000001D."""
    ebx = cache.line_size - 1 | cache.partitions - 1 << 12 | cache.associativity - 1 << 22
    return ebx, cache.sets - 1, cache.no_invd_sharing | cache.inclusive << 1 | cache.complex_indexing << 2


def _visible(cpu: RealizedCpu, caches: Caches, index: int) -> CacheInfo | None:
    """Return the cache that a sub-leaf of leaf 4 is about."""
    return None if index > 3 or (index == 3 and not cpu.on("l3-cache")) else caches[index]


def leaf_4(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 4: one sub-leaf a cache, and how many threads share it."""
    if cpu.on("host-cache-info"):
        return _host_leaf_4(cpu, index)
    if cpu.on("x-vendor-cpuid-only") and cpu.state.is_amd:
        return ZERO
    cache = _visible(cpu, cpu.caches.leaf_4, index)
    if cache is None:
        return ZERO
    topology = cpu.topology
    if cpu.release < (9, 1):
        threads = (1, 1, topology.threads, 1 << topology.die_offset)[index]
        cores = _counted_cores(cpu) - 1
        return ((_kind(cache) | cores << 26 | threads - 1 << 14) & _WORD, *_geometry(cache))
    threads = 0 if index < 2 and not cpu.on("x-l1-cache-per-thread") else _sharing(topology, cache.share_level)
    return (_kind(cache) | _cores(topology) << 26 | threads << 14, *_geometry(cache))


def _host_leaf_4(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 4 as the host does, its counts fitted to the guest's topology."""
    eax, ebx, ecx, edx = cpu.host_cpuid(4, index)
    if eax & 31:
        topology, count = cpu.topology, _counted_cores(cpu)
        if cpu.release < (7, 1):
            return eax & 0x3FFFFFF | (count - 1) << 26 & _WORD, ebx, ecx, edx
        sharing = (eax >> 14 & 0xFFF) + 1
        if cpu.release >= (9, 1):
            cores, fits = _cores(topology), _sharing(topology, "socket")
        else:
            cores, fits = _round_up(count) - 1, _round_up(topology.threads_per_package) - 1
        if count > 1 or mended(cpu.release, (9, 1), (7, 2)):
            eax = (eax & 0x3FFFFFF | cores << 26) & _WORD
        if sharing > topology.threads_per_package:
            eax = eax & ~0x3FFC000 | fits << 14
    return eax, ebx, ecx, edx


def _counted_cores(cpu: RealizedCpu) -> int:
    """Return the cores that leaf 4 counted up to QEMU 9.0: a package's, up to 8.1 a die's (cs->nr_cores)."""
    topology = cpu.topology
    return topology.cores * topology.dies if cpu.release >= (8, 2) else topology.cores


def _round_up(count: int) -> int:
    """Return the next power of two."""
    return 1 << (count - 1).bit_length()


# TLBs, the same for every guest: entries and ways, packed as the leaves have them.
_L1_TLBS = (0x01FF01FF, 0x01FF01FF)
_L2_TLBS = (0x00000000, 0x42004200)
_WAYS = {2: 2, 4: 4, 8: 6, 16: 8, 32: 0xA, 48: 0xB, 64: 0xC, 96: 0xD, 128: 0xE, 255: 0xF}
"""Ways as leaf 0x80000006 spells them."""


def leaf_80000005(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000005: AMD's L1 caches."""
    if cpu.on("host-cache-info"):
        return cpu.host_cpuid(0x80000005, 0)
    if cpu.on("x-vendor-cpuid-only-v2") and cpu.state.is_intel:
        return ZERO
    l1d, l1i, _, _ = cpu.caches.leaf_80000005
    ecx, edx = ((c.size >> 10 << 24 | c.associativity << 16 | c.lines_per_tag << 8 | c.line_size) & _WORD for c in (l1d, l1i))
    return (*_L1_TLBS, ecx, edx)


def leaf_80000006(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x80000006: AMD's L2 and L3; Intel has the L2 only."""
    if cpu.on("host-cache-info"):
        return cpu.host_cpuid(0x80000006, 0)
    _, _, l2, l3 = cpu.caches.leaf_80000005
    ecx = (l2.size >> 10 << 16 | _ways(l2) << 12 | l2.lines_per_tag << 8 | l2.line_size) & _WORD
    if cpu.on("x-vendor-cpuid-only-v2") and (cpu.state.is_intel or cpu.state.is_zhaoxin):
        return 0, 0, ecx, 0
    edx = (l3.size >> 19 << 18 | _ways(l3) << 12 | l3.lines_per_tag << 8 | l3.line_size) & _WORD if cpu.on("l3-cache") else 0
    return (*_L2_TLBS, ecx, edx)


def _ways(cache: CacheInfo) -> int:
    return cache.associativity if cache.associativity <= 1 else _WAYS.get(cache.associativity, 0)


def leaf_8000001d(cpu: RealizedCpu, index: int) -> Regs:
    """Answer leaf 0x8000001D: AMD's form of leaf 4; it shows the L3 whatever l3-cache says."""
    if cpu.on("host-cache-info"):
        return cpu.host_cpuid(0x8000001D, index)
    if index > 3:
        return ZERO
    cache, topology = cpu.caches.leaf_8000001d[index], cpu.topology
    if cpu.release >= (9, 1):
        threads = _sharing(topology, cache.share_level)
    else:
        threads = (topology.threads_per_die if cache.level == 3 else topology.threads) - 1
    ebx, ecx, edx = _geometry(cache)
    if cpu.on("x-amd-topoext-features-only"):
        edx &= 3
    return _kind(cache) | threads << 14, ebx, ecx, edx
