"""Whether Linux runs several threads on a core, as CPUID tells of the topology (sched_smt_active, cpu_smt_possible in kernel/cpu.c)."""

from __future__ import annotations

from vcpuid.cpuid import Snapshot, vendors


def several_threads(host: Snapshot) -> bool:
    """Whether CPUID tells of several threads on a core, as Linux counts them (leaf 0xB, AMD's 0x8000001E)."""
    raw = host.raw
    if raw.registers(0xB, 1).ebx:
        return raw.registers(0xB, 0).ebx > 1
    if raw.registers(0x80000000).eax >= 0x8000001E and host.vendor in vendors.AMD_AND_HYGON:
        return bool(raw.registers(0x8000001E).ebx >> 8 & 0xFF)
    return False
