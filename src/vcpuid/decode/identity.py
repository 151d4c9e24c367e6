"""Who the processor is: vendor, brand, family, model, stepping, and the names that its makers gave it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from vcpuid import data
from vcpuid.cpuid import vendors
from vcpuid.cpuid.registers import CpuidTable, vendor_name
from vcpuid.decode.meaning import text
from vcpuid.decode.parties import parties, vendor


class Identity(NamedTuple):
    """A processor's names. `family` and `model` are what people mean, put together from base and extended fields.

    Both are None, as `stepping` and `signature` are, of a table without leaf 1: it is a part of what CPUID answers.
    `microarchitecture` and `design` are None where no name is known; `hypervisors` are the names in the hypervisors' ranges, by base.
    """

    vendor: str
    brand: str
    family: int | None
    model: int | None
    stepping: int | None
    signature: int | None
    microarchitecture: str | None
    design: str | None
    hypervisors: dict[int, str]


def identity(table: CpuidTable) -> Identity:
    """Tell who a table's processor is."""
    name, maker = brand(table), vendor_name(table.registers(0))
    hypervisors = {base: _hypervisor(table, base) for base in parties(table).hypervisors}
    leaf = table.get(1)
    if leaf is None:
        return Identity(maker, name, None, None, None, None, None, None, hypervisors)
    family, model, stepping = vendors.signature(leaf.eax)
    microarchitecture, design = _names(_makers(vendor(table), name), family, model, stepping)
    return Identity(maker, name, family, model, stepping, leaf.eax, microarchitecture, design, hypervisors)


def brand(table: CpuidTable) -> str:
    """Return the brand string of leaves 0x80000002 to 4, or else Transmeta's, without the blanks around it."""
    for first, last in ((0x80000002, 0x80000004), (0x80860003, 0x80860006)):
        found = text(*(register for function in range(first, last + 1) for register in table.registers(function))).strip()
        if found:
            return found
    return ""


def _hypervisor(table: CpuidTable, base: int) -> str:
    leaf = table.registers(base)
    return text(leaf.ebx, leaf.ecx, leaf.edx)


def _span(cell: str) -> range:
    first, _, last = cell.partition("-")
    return range(int(first, 16), int(last or first, 16) + 1)


@cache
def _rows() -> dict[tuple[str, int], list[tuple[range, range | None, str, str]]]:
    rows: dict[tuple[str, int], list[tuple[range, range | None, str, str]]] = {}
    for who, family, models, steppings, microarchitecture, design in data.load("fields")["microarchitectures"]:
        row = (_span(models), _span(steppings) if steppings else None, microarchitecture, design)
        rows.setdefault((who, int(family, 16)), []).append(row)
    return rows


def _makers(who: str, name: str) -> tuple[str, ...]:
    """Say under which makers a processor is listed. Zhaoxin's first ones have Centaur's vendor name, and their own in the brand."""
    if who == "centaur" and name.startswith("ZHAOXIN"):
        return "zhaoxin", who
    return who, vendors.design_of(who)


def _names(makers: tuple[str, ...], family: int, model: int, stepping: int) -> tuple[str, str] | tuple[None, None]:
    for maker in makers:
        for models, steppings, microarchitecture, design in _rows().get((maker, family), ()):
            if model in models and (steppings is None or stepping in steppings):
                return microarchitecture, design
    return None, None
