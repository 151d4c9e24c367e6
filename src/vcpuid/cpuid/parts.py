"""The tables of CPUID that a snapshot can have, by the names of its fields, and which of them is meant."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from vcpuid.cpuid import SIGNIFICANT_INDEX, CpuidTable, Snapshot
from vcpuid.cpuid.bits import HYPERVISOR
from vcpuid.cpuid.by_name import PartialTable, with_named_bits
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.cpuid.whole import partly_supported
from vcpuid.cpuid.words import INDEXED_FUNCTIONS
from vcpuid.errors import InputError

_ROWS = (
    ("raw", "RAW", "the CPUID instruction's answers"),
    ("table", "TAB", "the table for KVM_SET_CPUID2"),
    ("kept", "GOT", "the table that KVM kept"),
    ("supported", "SUP", "KVM_GET_SUPPORTED_CPUID"),
    ("emulated", "EMU", "KVM_GET_EMULATED_CPUID"),
    ("hyperv", "HV", "KVM_GET_SUPPORTED_HV_CPUID"),
)
TABLES = {name: what for name, _, what in _ROWS}
"""What each is, in the order in which one is taken where none is named."""

TABLE_KINDS = {kind: name for name, kind, _ in _ROWS}
"""The names, by the words with which lines of a snapshot's file begin."""

_FOR_GUEST = ("table", "supported", "raw")


def pick(snapshot: Snapshot, part: str | None, source: str | None = None, native: str = "raw") -> tuple[str, CpuidTable]:
    """Give the table `part`, a key of TABLES, or else the first that the snapshot has, `native` before all others, and its name.

    Raises InputError, with `source` as where it happened, for a snapshot without.
    """
    lacking = f"not {TABLES[part]}" if part else "no CPUID entries"
    return _first(snapshot, (part,) if part else (native, *TABLES), lacking, source)


def for_guest(snapshot: Snapshot, source: str | None = None) -> CpuidTable:
    """Give the table that a guest is to get: the one made for it, else all that KVM supports, else the processor's own.

    What KVM kept is what became of such a table and is none. The processor's is as 64-bit programs see it, with KVM's flag on entries that
    answer for one sub-leaf only. Raises InputError as `pick` does.
    """
    lacking = "neither " + " nor ".join(TABLES[name] for name in _FOR_GUEST)
    part, table = _first(in_64_bit_mode(with_named_bits(snapshot)), _FOR_GUEST, lacking, source)
    return _flagged(table) if part == "raw" else table


def of_host(snapshot: Snapshot) -> bool:
    """Whether it can be no guest's table: none was made for a guest, and a KVM answered there, or its processor tells of no hypervisor.

    A guest that has a KVM itself is a host.
    """
    return by_kvm(snapshot) or (not snapshot.table and bool(snapshot.raw) and not snapshot.raw.has(HYPERVISOR))


def by_kvm(snapshot: Snapshot) -> bool:
    """Whether a KVM answered there, and no table was made for a guest."""
    return not snapshot.table and (snapshot.supported is not None or bool(snapshot.hyperv))


def dumped(snapshot: Snapshot) -> bool:
    """Whether the table that `for_guest` gives may be a part of one.

    That is what a program read of CPUID, which may have stopped early or lost lines since, or what is left of what KVM supports.
    """
    if snapshot.table:
        return False
    return partly_supported(snapshot) if snapshot.supported else bool(snapshot.raw)


def with_cpuid(host: Snapshot, table: CpuidTable) -> Snapshot:
    """Return a host that tells another table: as its processor's CPUID or, where it tells none, as what KVM supports."""
    return replace(host, raw=table) if host.raw else replace(host, supported=table)


def alone(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot in which the table that `for_guest` gives is all that is told of CPUID."""
    return replace(snapshot, raw=CpuidTable()) if snapshot.supported else snapshot


@lru_cache(maxsize=64)
def _flagged(raw: CpuidTable) -> CpuidTable:
    """Mark the entries of leaves with sub-leaves; without the mark, KVM answers every sub-leaf with the first one."""
    marked = [e._replace(flags=SIGNIFICANT_INDEX) if e.function in INDEXED_FUNCTIONS else e for e in raw]
    return raw.like(marked) if isinstance(raw, PartialTable) else CpuidTable(marked)


def _first(snapshot: Snapshot, names: tuple[str, ...], lacking: str, source: str | None) -> tuple[str, CpuidTable]:
    """Give the first of these tables that has entries, and its name; raises InputError, with what the snapshot has instead."""
    for name in names:
        table: CpuidTable | None = getattr(snapshot, name)
        if table:
            return name, table
    raise InputError(f"{'the snapshot' if source is None else 'it'} has {lacking}", source=source)
