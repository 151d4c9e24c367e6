"""The tables of CPUID that a snapshot can have, by the names of its fields, and which of them is meant."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.errors import InputError

TABLES = {
    "raw": "the CPUID instruction's answers",
    "table": "the table for KVM_SET_CPUID2",
    "kept": "the table that KVM kept",
    "supported": "KVM_GET_SUPPORTED_CPUID",
    "emulated": "KVM_GET_EMULATED_CPUID",
    "hyperv": "KVM_GET_SUPPORTED_HV_CPUID",
}
"""What each is, in the order in which one is taken where none is named."""


def pick(snapshot: Snapshot, part: str | None, source: str) -> tuple[str, CpuidTable]:
    """Give the table `part`, a key of TABLES, or else the first that the snapshot has, and its name.

    Raises InputError, with `source` as where it happened, for a snapshot without.
    """
    for name in (part,) if part else TABLES:
        table: CpuidTable | None = getattr(snapshot, name)
        if table:
            return name, table
    raise InputError(f"it has not {TABLES[part]}" if part else "it has no CPUID entries", source=source)
