"""What a guest that speaks Hyper-V, Windows first of all, finds in leaves 0x40000000 to 0x40000082.

The bits of each enlightenment and what it needs are those of `vcpuid.cpuid.hyperv`; names of further bits are the features table's.
What Windows does with each is in data/hyperv.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, bits
from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.hyperv import (
    DEBUG_INTERFACE,
    DEBUG_PLATFORM,
    DEBUG_VENDOR,
    ENLIGHTENMENTS,
    FEATURES,
    HV_1,
    INTERFACE,
    LIMITS,
    NESTED,
    NO_SPINLOCKS,
    RECOMMENDATIONS,
    VENDOR,
    VERSION,
)
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.text import characters
from vcpuid.cpuid.words import REGISTERS
from vcpuid.data import load
from vcpuid.told.assumptions import Assumption, as_dicts
from vcpuid.told.facts import Fact, NotTold, listed

SCHEMA = "vcpuid/hyperv/2"
"""The form of `report`."""

SPINLOCKS = "hv-spinlocks"
_BIT_WORDS = tuple(
    CpuidWord(leaf, 0, register)
    for leaf, registers in ((FEATURES, "eax ebx edx"), (RECOMMENDATIONS, "eax"), (NESTED, "eax ebx"), (DEBUG_PLATFORM, "eax"))
    for register in REGISTERS
    if register in registers.split()
)


class HyperVField(NamedTuple):
    """One value of a leaf: its place (as `40000004.ebx` or `40000003.eax.1`), its name and what it says; `flags` the enlightenments
    that the bit belongs to."""

    place: str
    name: str
    value: str
    flags: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON: the place as leaf, register (or several, `ebx-edx`) and bit, None for all bits."""
        function, register, *bits = self.place.split(".")
        place = {"function": function, "register": register, "bits": bits[0] if bits else None}
        return {**place, "name": self.name, "value": self.value, "flags": list(self.flags)}


class Offer(NamedTuple):
    """One enlightenment: whether the table offers it, the flags it needs that the table lacks, and what Windows makes of it.

    `windows` is "recommended", "nested" (for a Hyper-V in the guest) or "special"; `use` says what it is for, `without` what Windows
    does where it is not there. `idle` says that an idle guest burns time without it, or without one that needs it.
    """

    flag: str
    offered: bool
    lacks: tuple[str, ...]
    needs: tuple[str, ...]
    windows: str
    use: str
    without: str
    depends: tuple[Fact, ...] = ()
    idle: bool = False

    @property
    def means(self) -> str:
        """What it means that it is offered, or that it is not; where that is not told, what it depends on."""
        if self.depends:
            return f"depends on {listed(self.depends)}"
        if self.offered and self.lacks:
            return f"without {' and '.join(self.lacks)} it is of no use"
        return self.use if self.offered else self.without

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        row = {**self._asdict(), "lacks": list(self.lacks), "needs": list(self.needs), "means": self.means}
        return {**row, "offered": None if self.depends else self.offered, "depends": [fact.as_dict() for fact in self.depends]}


def present(table: CpuidTable) -> bool:
    """Whether a guest finds Hyper-V: the hypervisor bit, and `Hv#1` in leaf 0x40000001. Windows asks for no vendor's name."""
    return table.has(bits.HYPERVISOR) and table.registers(INTERFACE).eax == HV_1


def offered(table: CpuidTable) -> frozenset[str]:
    """Give the hv-* flags whose bits are all set in a table."""
    if table.registers(INTERFACE).eax != HV_1:
        return frozenset()
    flags = {name for name, one in ENLIGHTENMENTS.items() if all(map(table.has, one.bits))}
    return frozenset(flags | ({SPINLOCKS} if table.registers(RECOMMENDATIONS).ebx != NO_SPINLOCKS else set()))


Hanging = Mapping[str, tuple[Fact, ...]]
"""The flags of which it is not told whether a table offers them, each with the facts on which that depends."""

NOTHING_OPEN: Hanging = FrozenMap()


def offers(table: CpuidTable, hanging: Hanging = NOTHING_OPEN) -> tuple[Offer, ...]:
    """Tell of each enlightenment whether the table offers it and what that means; in QEMU's order, hv-spinlocks last."""
    flags, facts = offered(table), load("hyperv")["enlightenments"]
    idle = idles()
    found = []
    for name in (*ENLIGHTENMENTS, SPINLOCKS):
        needs = _needs(name)
        lacks = tuple(need for need in needs if need not in flags)
        windows, use, without = facts[name]
        found.append(Offer(name, name in flags, lacks, needs, windows, use, without, hanging.get(name, ()), name in idle))
    return tuple(found)


def idles() -> frozenset[str]:
    """Give the flags without which an idle guest burns time, with all that they need."""
    return frozenset(need for flag in load("hyperv")["idle"] for need in _closure(flag))


def _needs(flag: str) -> tuple[str, ...]:
    """QEMU's dependencies; hv-synic's is a condition on x-hv-synic-kvm-only there, an option for QEMU's own tests."""
    return ("hv-vpindex",) if flag == "hv-synic" else ENLIGHTENMENTS[flag].needs if flag in ENLIGHTENMENTS else ()


def recommended_but_missing(table: CpuidTable, hanging: Hanging = NOTHING_OPEN) -> tuple[str, ...]:
    """Give the recommended flags that a table is certain not to offer, each after those it needs: what to add to -cpu."""
    missing = {one.flag for one in offers(table) if one.flag not in hanging and one.windows == "recommended" and not one.offered}
    ordered: list[str] = []
    for flag in (*ENLIGHTENMENTS, SPINLOCKS):
        if flag in missing:
            ordered += [need for need in _closure(flag) if need not in ordered and need not in offered(table)]
    return tuple(ordered)


def _closure(flag: str) -> Iterator[str]:
    for need in _needs(flag):
        yield from _closure(need)
    yield flag


def report(
    table: CpuidTable,
    path: Mapping[str, object] | None = None,
    hanging: Hanging = NOTHING_OPEN,
    assumes: Mapping[Assumption, Sequence[str]] = FrozenMap(),
    enlightened: Mapping[str, object] = FrozenMap(),
) -> dict[str, object]:
    """Put all of it into a document for programs.

    `path` is the path that led to the guest, None for a table that somebody gave; `assumes` are the settings that are taken for granted,
    each with the flags that hang on it; `enlightened` is what `vcpuid.answers.windows` says of the guest's -cpu.
    """
    return {
        "schema": SCHEMA,
        "path": path,
        "present": present(table),
        "missing": list(recommended_but_missing(table, hanging)),
        "enlightenments": [offer.as_dict() for offer in offers(table, hanging)],
        "fields": [field.as_dict() for field in fields(table)],
        "not_told": [NotTold(flag, facts).as_dict() for flag, facts in hanging.items()],
        "assumes": as_dicts(assumes),
        **enlightened,
    }


def fields(table: CpuidTable) -> tuple[HyperVField, ...]:
    """Decode the Hyper-V leaves that a table has, field by field; bits that are 0 are left out."""
    return tuple(_fields(table))


def _fields(table: CpuidTable) -> Iterator[HyperVField]:
    highest, *vendor = table.registers(VENDOR)
    if table.get(VENDOR) is not None:
        yield HyperVField(f"{VENDOR:x}.eax", "highest leaf", f"{highest:#x}")
        yield HyperVField(f"{VENDOR:x}.ebx-edx", "vendor", _text(vendor))
    if table.get(INTERFACE) is not None:
        yield HyperVField(f"{INTERFACE:x}.eax", "interface", _text([table.registers(INTERFACE).eax]))
    if table.get(VERSION) is not None:
        build, version, service_pack, branch = table.registers(VERSION)
        yield HyperVField(f"{VERSION:x}.eax", "build", str(build))
        yield HyperVField(f"{VERSION:x}.ebx", "version", f"{version >> 16}.{version & 0xFFFF}")
        yield HyperVField(f"{VERSION:x}.ecx", "service pack", str(service_pack))
        yield HyperVField(f"{VERSION:x}.edx", "service branch and number", f"{branch >> 24}.{branch & 0xFFFFFF}")
    yield from _bits(table)
    if table.get(RECOMMENDATIONS) is not None:
        retries = table.registers(RECOMMENDATIONS).ebx
        never = retries == NO_SPINLOCKS
        yield HyperVField(f"{RECOMMENDATIONS:x}.ebx", "spins before a long wait is told", "never" if never else str(retries), (SPINLOCKS,))
    if table.get(LIMITS) is not None:
        processors, logical, _, _ = table.registers(LIMITS)
        yield HyperVField(f"{LIMITS:x}.eax", "virtual processors", "no limit" if processors == 0xFFFFFFFF else str(processors))
        yield HyperVField(f"{LIMITS:x}.ebx", "logical processors", str(logical))
    if nested := table.registers(NESTED).eax & 0xFFFF:
        yield HyperVField(f"{NESTED:x}.eax", "enlightened VMCS versions", f"{nested & 0xFF} to {nested >> 8}", ("hv-evmcs",))
    if table.get(DEBUG_VENDOR) is not None:
        yield HyperVField(f"{DEBUG_VENDOR:x}.ebx-edx", "debugger's vendor", _text(table.registers(DEBUG_VENDOR)[1:]), ("hv-syndbg",))
        yield HyperVField(f"{DEBUG_INTERFACE:x}.eax", "debugger's interface", _text([table.registers(DEBUG_INTERFACE).eax]), ("hv-syndbg",))


def _bits(table: CpuidTable) -> Iterator[HyperVField]:
    for word in _BIT_WORDS:
        value = table.word(word)
        if word.function == NESTED and word.register == "eax":
            value &= ~0xFFFF
        for position in range(value.bit_length()):
            if value >> position & 1:
                bit = Bit(word, position)
                feature = by_bit(bit)
                yield HyperVField(f"{word.function:x}.{word.register}.{position}", feature.name if feature else "?", "1", _flags(bit))


def _flags(bit: Bit) -> tuple[str, ...]:
    return tuple(name for name, one in ENLIGHTENMENTS.items() if bit in one.bits)


def _text(registers: list[int] | tuple[int, ...]) -> str:
    return characters(*registers).rstrip("\0")
