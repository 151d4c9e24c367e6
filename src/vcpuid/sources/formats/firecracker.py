"""Firecracker's CPU templates: what cpu-template-helper dumps of a guest, alone or in a fingerprint, and custom templates.

    {"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "eax", "bitmap": "0b0000…"}, …]}]}

Firecracker's docs/cpu_templates/schema.json tells the form. A template that leaves bits to the host (`x` in a bitmap, or a register that
is not there) is no CPU, and is refused. MSRs in it are those of a vCPU, not KVM's feature MSRs, and are passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.sources.formats.documents import is_object, number, parse_json
from vcpuid.sources.formats.form import Format

_BITS = re.compile("[01x]{1,32}")


def read(text: str, source: str) -> list[Snapshot]:
    """Read the guest's table; raises InputError for a template that leaves something to the host."""
    values = parse_json(text, source)
    if len(values) != 1:
        raise InputError("more than one JSON value", source=source)
    template = values[0].get("guest_cpu_config", values[0])
    kernel = values[0].get("kernel_version")
    try:
        entries = [_entry(leaf, source) for leaf in template["cpuid_modifiers"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"not of the form of Firecracker's templates: {error!r:.80}", source=source) from None
    return [Snapshot(table=CpuidTable(entries), kernel=kernel if isinstance(kernel, str) and kernel.isprintable() else None)]


def _entry(leaf: dict[str, Any], source: str) -> Entry:
    function, index = number(leaf["leaf"], "leaf", source), number(leaf["subleaf"], "sub-leaf", source)
    flags = leaf["flags"]
    if not isinstance(flags, int) or not 0 <= flags < 1 << 32:
        raise ValueError(f"flags {flags!r:.40}")
    bitmaps = {modifier["register"]: modifier["bitmap"] for modifier in leaf["modifiers"]}
    registers = [_register(bitmaps.get(register), f"{register} of leaf {function:x}.{index:x}", source) for register in REGISTERS]
    return Entry(function, index, flags, *registers)


def _register(bitmap: str | None, what: str, source: str) -> int:
    bits = "" if bitmap is None else bitmap.removeprefix("0b").replace("_", "")
    if bitmap is not None and not _BITS.fullmatch(bits):
        raise ValueError(f"bitmap {bitmap!r:.80}")
    if len(bits) < 32 or "x" in bits:
        raise InputError(f"a template that leaves {what} to the host, in part or whole, is no CPU", source=source)
    return int(bits, 2)


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield a template that sets every bit of the first CPU's table."""
    leaves = [
        {
            "leaf": f"{entry.function:#x}",
            "subleaf": f"{entry.index:#x}",
            "flags": entry.flags,
            "modifiers": [
                {"register": register, "bitmap": f"0b{value:032b}"} for register, value in zip(REGISTERS, entry.registers, strict=True)
            ],
        }
        for entry in snapshots[0].table or ()
    ]
    yield from json.dumps({"cpuid_modifiers": leaves}, indent=2).split("\n")


def _recognises(text: str) -> bool:
    return is_object(text) is not None and '"cpuid_modifiers"' in text


FORMAT = Format("firecracker", "a custom CPU template of Firecracker", _recognises, read, write, holds=("table",))
