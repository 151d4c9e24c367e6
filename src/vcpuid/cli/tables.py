"""How verbs print a table of CPUID entries, and what they say of one that is no processor's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vcpuid.cli.output import Sheet, emit
from vcpuid.cli.setup import print_warnings
from vcpuid.cpuid import CpuidTable
from vcpuid.cpuid.parts import TABLES

if TYPE_CHECKING:
    from vcpuid.told.facts import NotTold

COLUMNS = ["function", "index", "flags", "eax", "ebx", "ecx", "edx"]


def print_table(table: CpuidTable, kind: str, form: str, data: Mapping[str, object], not_told: Sequence[NotTold] = ()) -> None:
    """Print a table; its plain form is that of snapshots, and `data` its document for JSON.

    What of it is not told stands below the table, in comments of the plain form, and for CSV and JSON lines on standard error.
    """
    from vcpuid.told.facts import sentences

    open_ = sentences(not_told)
    if form in ("csv", "jsonl"):
        print_warnings(open_)
    lines = [*(f"{kind} {entry}" for entry in table), *(f"# {line}" for line in open_)]
    emit(Sheet(COLUMNS, [entry.as_dict() for entry in table], data, lines=lines, foot=["", *open_] if open_ else []), form)


def kind(part: str, side: str = "") -> list[str]:
    """Say whose answers these are, where they are no processor's: of a table for KVM_SET_CPUID2 all else looks the same.

    `side` is what they are called where several tables are shown.
    """
    if part == "raw":
        return []
    what = f"{TABLES[part]}, not a processor's own CPUID"
    return [f"{side}: {what}" if side else f"{what[0].upper()}{what[1:]}", ""]
