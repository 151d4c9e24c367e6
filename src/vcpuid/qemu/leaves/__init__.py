"""What a vCPU answers, leaf by leaf: cpu_x86_cpuid of QEMU's target/i386/cpu.c as a table of functions.

`LEAVES[function](cpu, index)` gives the registers; functions that are not there answer zero. `PER_VCPU` are those that differ between
the vCPUs of one guest.
"""

from __future__ import annotations

from collections.abc import Callable

from vcpuid.qemu.leaves import basic, cache, extended, topology, xsave
from vcpuid.qemu.leaves.cpu import ZERO, RealizedCpu, Regs

LEAVES: dict[int, Callable[[RealizedCpu, int], Regs]] = {
    0x0: basic.leaf_0,
    0x1: basic.leaf_1,
    0x2: cache.leaf_2,
    0x4: cache.leaf_4,
    0x5: basic.leaf_5,
    0x6: basic.leaf_6,
    0x7: basic.leaf_7,
    0xA: basic.leaf_a,
    0xB: topology.leaf_b,
    0xD: xsave.leaf_d,
    0x12: basic.leaf_12,
    0x14: basic.leaf_14,
    0x1C: basic.leaf_1c,
    0x1D: basic.leaf_1d,
    0x1E: basic.leaf_1e,
    0x1F: topology.leaf_1f,
    0x24: basic.leaf_24,
    0x29: basic.leaf_29,
    0x80000000: extended.leaf_80000000,
    0x80000001: extended.leaf_80000001,
    0x80000002: extended.leaf_80000002,
    0x80000003: extended.leaf_80000003,
    0x80000004: extended.leaf_80000004,
    0x80000005: cache.leaf_80000005,
    0x80000006: cache.leaf_80000006,
    0x80000007: extended.leaf_80000007,
    0x80000008: extended.leaf_80000008,
    0x8000000A: extended.leaf_8000000a,
    0x8000001D: cache.leaf_8000001d,
    0x8000001E: topology.leaf_8000001e,
    0x80000021: extended.leaf_80000021,
    0x80000022: extended.leaf_80000022,
    0xC0000000: extended.leaf_c0000000,
    0xC0000001: extended.leaf_c0000001,
}

SINCE: dict[int, tuple[int, int]] = {
    0x12: (6, 2), 0x1C: (7, 1), 0x1D: (7, 0), 0x1E: (7, 0), 0x24: (9, 2), 0x29: (11, 0), 0x80000021: (8, 1), 0x80000022: (9, 2),
}  # fmt: skip
"""Releases since which QEMU knows a leaf, of those that not all know; the bits that it hangs on may be on before, without a name."""

PER_VCPU = frozenset({0x1, 0xB, 0x1F, 0x8000001E})

__all__ = ["LEAVES", "PER_VCPU", "SINCE", "ZERO", "RealizedCpu", "Regs"]
