"""Caches and TLBs, from whichever leaves tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vcpuid.cpuid.registers import CpuidTable
from vcpuid.decode.descriptors import Descriptor, descriptors, micro_operations
from vcpuid.decode.leaves import Leaf, leaf
from vcpuid.decode.meaning import CACHE_TYPES, INTEL_WAYS, L1_WAYS, TLB_TYPES, WAYS
from vcpuid.decode.parties import parties


class Cache(NamedTuple):
    """A cache as the leaf `source` tells it: `size` in bytes, `line` in bytes, `ways` in words; None where the leaf does not say.

    `kind` is data, code, unified or trace: a trace cache holds decoded instructions, and its size is in µops.
    `shared` is the most logical processors that may share it, by their APIC IDs.
    """

    level: int
    kind: str
    size: int | None
    ways: str
    line: int | None
    partitions: int | None = None
    sets: int | None = None
    shared: int | None = None
    inclusive: bool | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """The usual short name: L1d, L1i, L2."""
        if self.kind == "trace":
            return "trace cache"
        return f"L{self.level}{ {'data': 'd', 'code': 'i'}.get(self.kind, '') }"

    @property
    def amount(self) -> str:
        """Its size as text."""
        if self.kind == "trace":
            return micro_operations(self.size)
        return size(self.size)


def size(amount: int | None) -> str:
    """Spell a size in bytes."""
    if amount is None:
        return "?"
    for unit, scale in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if amount >= 1 << scale and not amount & (1 << scale - 2) - 1:
            return f"{amount / (1 << scale):g} {unit}"
    return f"{amount} bytes"


class Tlb(NamedTuple):
    """A TLB as the leaf `source` tells it: `entries` for pages of the sizes `pages`; `ways` is empty where nothing tells them."""

    kind: str
    pages: str
    entries: int
    ways: str
    source: str


def caches(table: CpuidTable) -> tuple[Cache, ...]:
    """Return the caches: from leaf 4 or 0x8000001D, which tell most, else from 0x80000005 and 6 and from leaf 2's descriptors.

    Leaf 2 alone tells of a trace cache.
    """
    for function in (0x4, 0x8000001D):
        if found := tuple(_deterministic(table, function)):
            return (*(cache for cache in _described(table) if cache.kind == "trace"), *found)
    return (*_extended(table), *_described(table))


def tlbs(table: CpuidTable) -> tuple[Tlb, ...]:
    """Return the TLBs of leaf 0x18, of leaf 2's descriptors and of AMD's leaves 0x80000005, 6 and 0x80000019."""
    return (*_deterministic_tlbs(table), *_described_tlbs(table), *_extended_tlbs(table))


def leaf_2(table: CpuidTable) -> Iterator[Descriptor]:
    """Give what leaf 2's descriptors stand for. A register with bit 31 set has none, and AL is no descriptor."""
    who = parties(table).vendor
    for number, register in enumerate(table.registers(2)):
        if not register >> 31:
            for byte in register.to_bytes(4, "little")[number == 0 :]:
                yield from descriptors(byte, who)


def _deterministic(table: CpuidTable, function: int) -> Iterator[Cache]:
    for entry in table.leaf(function):
        kind = CACHE_TYPES.get(entry.eax & 0x1F, "reserved")
        if kind in ("no more", "reserved"):
            continue
        line, partitions, ways = (entry.ebx & 0xFFF) + 1, (entry.ebx >> 12 & 0x3FF) + 1, (entry.ebx >> 22) + 1
        sets = entry.ecx + 1
        yield Cache(
            level=entry.eax >> 5 & 7,
            kind=kind,
            size=line * partitions * ways * sets,
            ways="full" if entry.eax >> 9 & 1 else str(ways),
            line=line,
            partitions=partitions,
            sets=sets,
            shared=(entry.eax >> 14 & 0xFFF) + 1,
            inclusive=bool(entry.edx >> 1 & 1),
            source=f"{function:#x}.{entry.index:x}",
        )


def _extended(table: CpuidTable) -> Iterator[Cache]:
    intel = parties(table).vendor == "intel"
    if not intel:
        for kind, register in zip(("data", "code"), table.registers(0x80000005)[2:], strict=True):
            if register >> 24:
                number = register >> 16 & 0xFF
                yield Cache(1, kind, (register >> 24) << 10, L1_WAYS.get(number, str(number)), register & 0xFF, source="0x80000005")
    _, _, second, third = table.registers(0x80000006)
    if second >> 16 and not any(found.kind == "L2" for found in leaf_2(table)):
        ways = (INTEL_WAYS if intel else WAYS).get(second >> 12 & 0xF, "reserved")
        yield Cache(2, "unified", (second >> 16) << 10, ways, second & 0xFF, source="0x80000006")
    if third >> 18 and not intel:
        yield Cache(3, "unified", (third >> 18) * 512 << 10, WAYS.get(third >> 12 & 0xF, "reserved"), third & 0xFF, source="0x80000006")


def _described(table: CpuidTable) -> Iterator[Cache]:
    for found in leaf_2(table):
        if found.kind == "trace cache":
            yield Cache(1, "trace", found.size, found.way_count, None, source="0x2")
        elif found.size is not None and found.kind.startswith("L"):
            level, _, kind = found.kind[1:].partition(" ")
            yield Cache(int(level), kind or "unified", found.size, found.way_count, found.unit, source="0x2")


def _deterministic_tlbs(table: CpuidTable) -> Iterator[Tlb]:
    for entry in table.leaf(0x18):
        kind = TLB_TYPES.get(entry.edx & 0x1F, "reserved")
        if kind not in ("no more", "reserved"):
            pages = " ".join(size for bit, size in enumerate(("4K", "2M", "4M", "1G")) if entry.ebx >> bit & 1)
            ways = "full" if entry.edx >> 8 & 1 else str(entry.ebx >> 16)
            yield Tlb(f"L{entry.edx >> 5 & 7} {kind}", pages, (entry.ebx >> 16) * entry.ecx, ways, f"0x18.{entry.index:x}")


def _described_tlbs(table: CpuidTable) -> Iterator[Tlb]:
    for found in leaf_2(table):
        if found.is_tlb:
            yield Tlb(found.kind.removesuffix(" TLB"), found.pages, found.unit or 0, found.way_count, "0x2")


_EXTENDED_TLBS = (
    (0x80000005, "l1", "2m_4m"), (0x80000005, "l1", "4k"), (0x80000006, "l2", "2m_4m"), (0x80000006, "l2", "4k"),
    (0x80000019, "l1", "1g"), (0x80000019, "l2", "1g"),
)  # fmt: skip
"""Leaf, and how the names of its fields begin and end; those of code and data lie between."""


L2_TLB_SIZE_X32 = 1 << 14
"""Fn8000_0021_EAX[14] of AMD's manual, since Zen 5: what the leaves tell of L2 TLBs is in units of 32 entries."""


def _extended_tlbs(table: CpuidTable) -> Iterator[Tlb]:
    who = parties(table).vendor
    units = {"l1": 1, "l2": 32 if table.registers(0x80000021).eax & L2_TLB_SIZE_X32 else 1}
    for function, level, pages in _EXTENDED_TLBS:
        entry = table.get(function)
        if entry is None or who == "intel":
            continue
        decoded = leaf(entry, who)
        for side, kind in (("i", "code"), ("d", "data")):
            stem = f"{level}_{side}tlb_{pages}"
            entries = decoded.value(f"{stem}_nentries")
            if entries:
                size = pages.upper().replace("_", " ")
                yield Tlb(f"{level.upper()} {kind}", size, entries * units[level], _ways(decoded, f"{stem}_assoc"), f"{function:#x}")


def _ways(decoded: Leaf, name: str) -> str:
    found = next(value for value in decoded.values() if value.field.name == name)
    return found.reading.text or str(found.reading.value)
