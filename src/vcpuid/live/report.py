"""What a real guest answered, held against the table that KVM was handed, as documents for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vcpuid.cpuid import CpuidTable
from vcpuid.cpuid.words import REGISTERS, leaf_keys
from vcpuid.live.tiny_guest import ExitTime, GuestReading, Mode

SCHEMA = "vcpuid/kvm-run/1"
"""The form of `report` and of `time_report`."""


def registers(table: CpuidTable, reading: GuestReading, leaves: Iterable[tuple[int, int]]) -> Iterator[dict[str, object]]:
    """Give a row for each register of some leaves: as asked for in `table`, as kept, and as seen by the guest, with what differs."""
    for function, index in leaves:
        answers = (table.registers(function, index), reading.kept.registers(function, index), reading.seen[function, index])
        for register, asked, kept, seen in zip(REGISTERS, *answers, strict=True):
            note = "kept otherwise" if asked != kept else "seen otherwise" if kept != seen else ""
            values = {"asked": f"{asked:08x}", "kept": f"{kept:08x}", "seen": f"{seen:08x}"}
            yield {**leaf_keys(function, index), "register": register, **values, "note": note}


def report(rows: Iterable[dict[str, object]], mode: Mode, *, emulate: bool) -> dict[str, object]:
    """Put the rows of `registers` into a document."""
    return {"schema": SCHEMA, "mode": mode, "emulate": emulate, "registers": list(rows)}


def time_report(cost: ExitTime, mode: Mode) -> dict[str, object]:
    """Put what one CPUID costs into a document."""
    ns = None if cost.ns is None else round(cost.ns, 1)
    return {"schema": SCHEMA, "mode": mode, "cycles": round(cost.cycles, 1), "ns": ns, "rounds": cost.rounds}
