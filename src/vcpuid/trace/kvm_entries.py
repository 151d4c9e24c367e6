"""A CPUID table as it stands in memory, the kernel's and a VMM's: an array of struct kvm_cpuid_entry2."""

from __future__ import annotations

import struct

from vcpuid.cpuid import CpuidTable, Entry

_ENTRY = struct.Struct("<7I12x")
SIZE, MOST = _ENTRY.size, 256
"""Bytes of an entry, and KVM_MAX_CPUID_ENTRIES."""
ROOM = SIZE * MOST


def table(data: bytes, at: int, count: int) -> CpuidTable:
    """Read so many entries from an offset on."""
    return CpuidTable(Entry(*entry) for entry in _ENTRY.iter_unpack(data[at : at + SIZE * min(count, MOST)]))
