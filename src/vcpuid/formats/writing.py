"""Writing snapshots in any form, and telling first what that form has no room for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.parts import TABLES, pick
from vcpuid.cpuid.registers import SIGNIFICANT_INDEX
from vcpuid.cpuid.words import INDEXED_FUNCTIONS
from vcpuid.errors import InputError
from vcpuid.formats import FORMATS
from vcpuid.formats.form import EVERYTHING, Format

_OTHERS = {
    "msrs": "the feature MSRs",
    "hardware_msrs": "the hardware's MSRs",
    "cpuinfo": "the lines of /proc/cpuinfo",
    "params": "the parameters of kernel modules",
    "named": "the features told by name",
    "set_result": "what KVM_SET_CPUID2 returned",
    "cpu": "the CPU's name",
    "kernel": "the kernel's release",
    "notes": "the notes",
}

WRITABLE = {known.name: known for known in FORMATS if known.write is not None}
"""The formats that can be written, by name."""


def write(snapshots: Sequence[Snapshot], to: str, part: str | None = None) -> Iterator[str]:
    """Yield the lines, without their ends, of a CPU or several in the format `to`.

    `part`, a key of TABLES, names the table to write where the form holds one only. Raises InputError for an unknown format, and for a
    snapshot without that table, or with nothing that the form holds.
    """
    form, ready, _ = _prepare(snapshots, to, part)
    assert form.write is not None
    yield from form.write(ready)


def losses(snapshots: Sequence[Snapshot], to: str, part: str | None = None) -> list[str]:
    """Tell what of the snapshots would not come back if they were written and read again; raises as `write` does."""
    return _prepare(snapshots, to, part)[2]


def _prepare(snapshots: Sequence[Snapshot], to: str, part: str | None) -> tuple[Format, list[Snapshot], list[str]]:
    """Cut snapshots down to what a form holds; return it, them, and what was cut off."""
    form = WRITABLE.get(to)
    if form is None:
        raise InputError(f"{to[:40]!r} is not a format that can be written; these can: {', '.join(WRITABLE)}")
    if part is not None and (part not in TABLES or form.holds == EVERYTHING):
        raise InputError(f"{part[:40]!r} is not one of {', '.join(TABLES)}" if part not in TABLES else f"{to} holds all tables")
    fitted = [_fit(snapshot, form, part) for snapshot in (snapshots if form.several else snapshots[:1])]
    lost = dict.fromkeys(text for _, texts in fitted for text in texts)
    if len(snapshots) > len(fitted):
        lost[f"{len(snapshots) - 1} of {len(snapshots)} CPUs: this form holds one"] = None
    return form, [snapshot for snapshot, _ in fitted], list(lost)


def _fit(snapshot: Snapshot, form: Format, part: str | None) -> tuple[Snapshot, list[str]]:
    if form.holds == EVERYTHING:
        if not _tells(snapshot):
            raise InputError(f"the snapshot has neither CPUID nor a feature by name: {form.title} would not read back")
        return snapshot, []
    by_name = form.holds[0] not in TABLES
    native = "raw" if by_name else form.holds[0]
    chosen = None
    kept: dict[str, Any] = {name: getattr(snapshot, name) for name in form.holds if name not in TABLES}
    lost: list[str] = []
    if part or any(getattr(snapshot, name) for name in TABLES):
        chosen, table = pick(snapshot, part, native=native)
        kept[native], lost = _as(native, chosen, table)
        if by_name:  # names are all that comes back, and `loses` says so
            kept.pop("named")
            lost = []
    elif not any(kept.values()):
        raise InputError(f"the snapshot has nothing that {form.title} holds")
    ready = Snapshot(**kept)
    lost += form.loses(ready) if form.loses is not None else []
    for name, text in TABLES.items():
        table = getattr(snapshot, name)
        if name != chosen and (table if name == "raw" else table is not None):
            lost.append(f"{text} ({len(table)} entries)")
    nothing = Snapshot()
    lost += [text for name, text in _OTHERS.items() if name not in kept and getattr(snapshot, name) != getattr(nothing, name)]
    return ready, lost


def _tells(snapshot: Snapshot) -> bool:
    """Whether a snapshot has what its lines are not read without (`lines.parse_snapshot`): <cpu> may name a model, and nothing else."""
    told = snapshot.raw or snapshot.named or snapshot.cpuinfo
    return bool(told) or any(getattr(snapshot, name) is not None for name in TABLES if name != "raw")


def _as(native: str, chosen: str, table: CpuidTable) -> tuple[CpuidTable, list[str]]:
    """Turn one table of a snapshot into another: none has a leaf twice, and answers of the instruction have no flags."""
    lost = [] if chosen == native else [f"that these are {TABLES[chosen]}: they read back as {TABLES[native]}"]
    if native == "raw" and any(entry.flags for entry in table):
        lost.append("the entries' flags")
    single: dict[tuple[int, int], Entry] = {}
    for entry in table:
        flags = entry.flags
        if native == "raw":
            flags = 0
        elif chosen == "raw":
            flags = SIGNIFICANT_INDEX if entry.function in INDEXED_FUNCTIONS else 0
        single.setdefault(entry[:2], entry._replace(flags=flags))
    if len(single) < len(table):
        lost.append(f"{len(table) - len(single)} entries behind another of the same leaf and sub-leaf")
    return CpuidTable(single.values()), lost
