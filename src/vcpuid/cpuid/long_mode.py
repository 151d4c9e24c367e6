"""Dumps that a 32-bit program took: Intel's processors show SYSCALL to 64-bit code alone (SDM, CPUID, leaf 0x80000001 EDX bit 11).

Every processor of Intel's with long mode has SYSCALL, so one without was asked in 32-bit mode. That is most of the dumps that people
publish. AMD's processors show the bit in every mode.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from vcpuid.cpuid import CpuidTable, Snapshot, bits
from vcpuid.cpuid.registers import is_kvm_guest
from vcpuid.cpuid.vendors import INTEL

REMARK = "a 32-bit program took the dump, to which Intel's processors do not show SYSCALL: it counts as there"
"""What every answer about such a dump says."""


@lru_cache(maxsize=256)
def of_32_bit_program(host: Snapshot) -> bool:
    """Whether a snapshot's RAW lines are what a 32-bit program on Intel reads.

    Not so where KVM says otherwise: of the host, it lists what 64-bit code sees, and to its guests, which is what a snapshot with a
    table for one tells of, it shows the table that was set.
    """
    raw, supported = host.raw, host.supported
    if host.vendor != INTEL or not raw.has(bits.LM) or raw.has(bits.SYSCALL) or is_kvm_guest(raw) or host.table is not None:
        return False
    return supported is None or supported.has(bits.SYSCALL)


def in_64_bit_mode(host: Snapshot) -> Snapshot:
    """Return a snapshot as a 64-bit program would have taken it: the same, but for the dumps of 32-bit ones."""
    return _completed(host) if of_32_bit_program(host) else host


@lru_cache(maxsize=64)
def _completed(host: Snapshot) -> Snapshot:
    mask = bits.SYSCALL.mask
    return replace(host, raw=CpuidTable(e._replace(edx=e.edx | mask) if e[:2] == _PLACE else e for e in host.raw))


_PLACE = 0x80000001, 0
