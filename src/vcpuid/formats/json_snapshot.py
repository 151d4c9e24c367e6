"""A snapshot as JSON, for programs: an object with the parts by their names.

    {"schema": "vcpuid/snapshot/1", "raw": [{"function": "00000007", "index": "0", "flags": 0, "eax": "00000001", …}],
     "msrs": {"10a": "…"}, "cpu": "…"}

Registers, leaves, sub-leaves and MSRs are hexadecimal without 0x, as everywhere in vcpuid's output; what a machine did not tell is not
there. A file may have several such objects, one behind the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.parts import TABLES
from vcpuid.cpuid.registers import MsrTable
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_json
from vcpuid.formats.form import EVERYTHING, Format
from vcpuid.formats.lines import CPU_LIMIT, format_snapshot, parse_snapshot
from vcpuid.numbers import U64, digits

SCHEMA = "vcpuid/snapshot/1"
"""The form of such an object, by which it begins; those that vcpuid 0.1 wrote begin with a part."""

_TABLES = tuple(name for name in EVERYTHING if name in TABLES)
_SIGN = re.compile(rf'\s*\{{\s*(?:"schema":\s*"vcpuid/snapshot/|"(?:{"|".join(EVERYTHING)})":)')


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield each snapshot as an object."""
    for snapshot in snapshots:
        yield from json.dumps(as_object(snapshot), indent=2, ensure_ascii=False).split("\n")


def as_object(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as the object that stands for it."""
    tables = {name: table for name in _TABLES if (table := getattr(snapshot, name)) is not None}
    told: dict[str, Any] = {name: [entry.as_dict() for entry in table] for name, table in tables.items()}
    told["msrs"] = {f"{msr:x}": f"{value:x}" for msr, value in snapshot.msrs.items()}
    told["refused_msrs"] = [f"{msr:x}" for msr in snapshot.msrs.refused]
    told["hardware_msrs"] = {f"{msr:x}": f"{value:x}" for msr, value in snapshot.hardware_msrs.items()}
    told["absent_hardware_msrs"] = [f"{msr:x}" for msr in snapshot.hardware_msrs.refused]
    told |= {name: dict(getattr(snapshot, name)) for name in ("cpuinfo", "params", "named")}
    told |= {name: getattr(snapshot, name) for name in ("set_result", "cpu", "kernel")}
    told["notes"] = list(snapshot.notes)
    parts = {name: value for name, value in told.items() if (name in TABLES and name != "raw") or value not in (None, {}, [])}
    return {"schema": SCHEMA, **parts}


def read(text: str, source: str) -> list[Snapshot]:
    """Read each object; raises InputError where one is not of the form, or the snapshot form could not hold it."""
    snapshots = []
    values = parse_json(text, source)
    if len(values) > CPU_LIMIT:
        raise InputError(f"more than {CPU_LIMIT} CPUs", source=source)
    for value in values:
        try:
            snapshot = _snapshot(value)
            if parse_snapshot(format_snapshot(snapshot)) != snapshot:
                raise ValueError("a value of the wrong kind")
        except InputError as error:
            raise InputError(f"not of the form of vcpuid's JSON: {error.cause}", source=source) from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(f"not of the form of vcpuid's JSON: {error!r:.120}", source=source) from None
        snapshots.append(snapshot)
    return snapshots


def _snapshot(value: dict[str, Any]) -> Snapshot:
    if value.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"its schema is {str(value['schema'])[:80]!r}, and {SCHEMA} is known")
    parts: Any = {name: CpuidTable(map(_entry, value[name])) for name in _TABLES if name in value}
    parts |= {name: value[name] for name in ("cpuinfo", "params", "named", "set_result", "cpu", "kernel") if name in value}
    return Snapshot(
        **parts,
        msrs=_msrs(value, "msrs", "refused_msrs"),
        hardware_msrs=_msrs(value, "hardware_msrs", "absent_hardware_msrs"),
        notes=tuple(value.get("notes", ())),
    )


def _msrs(value: dict[str, Any], values: str, refused: str) -> MsrTable:
    read = {_hex(msr): _hex(content) for msr, content in value.get(values, {}).items()}
    return MsrTable(read, map(_hex, value.get(refused, ())))


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(_hex(row["function"]), _hex(row["index"]), row["flags"], *(_hex(row[register]) for register in REGISTERS))


def _hex(text: str) -> int:
    if (number := digits(text, 16, U64)) is None:
        raise ValueError(text)
    return number


FORMAT = Format("json", "a snapshot as JSON", lambda text: bool(_SIGN.match(text)), read, write, holds=EVERYTHING, several=True)
