"""Whether Linux runs several threads on a core, as CPUID tells of the topology (sched_smt_active, cpu_smt_possible in kernel/cpu.c)."""

from __future__ import annotations

from vcpuid.cpuid import Snapshot, bits, vendors


def several_threads(host: Snapshot, *, one_place: bool = True) -> bool:
    """Whether CPUID tells of several threads on a core, as Linux counts them (leaf 0xB, AMD's 0x8000001E).

    Before 6.9 Linux did not read the topology in `one_place` for all vendors, and took no notice of leaf 0xB on AMD's processors, nor
    of the other where TOPOEXT does not announce it.
    """
    raw = host.raw
    if raw.registers(0xB, 1).ebx and (one_place or host.vendor not in vendors.AMD_AND_HYGON):
        return raw.registers(0xB, 0).ebx > 1
    announced = one_place or raw.has(bits.TOPOEXT)
    if announced and raw.registers(0x80000000).eax >= 0x8000001E and host.vendor in vendors.AMD_AND_HYGON:
        return bool(raw.registers(0x8000001E).ebx >> 8 & 0xFF)
    return False
