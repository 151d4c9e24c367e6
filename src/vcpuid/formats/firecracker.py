"""Firecracker's CPU templates: what cpu-template-helper dumps of a guest, alone or in a fingerprint, and custom templates.

    {"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "eax", "bitmap": "0b0000…"}, …]}]}

Firecracker's docs/cpu_templates/schema.json tells the form. A dump sets every bit of every leaf in it, and is a guest's table. A template
that leaves bits to the host (`x` in a bitmap, or a register that is not there) is no CPU, whatever leaves it may set as a whole: what is
read is a partial snapshot with each bit that it sets, by name, or by place where no party has a name. MSRs in it are those of a vCPU, not
KVM's feature MSRs, and are passed over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.words import REGISTERS
from vcpuid.errors import InputError
from vcpuid.formats.documents import is_object, number, parse_json
from vcpuid.formats.form import Format
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.formats.names import told_as

_BITS = re.compile("[01x]{1,32}")

_Leaves = dict[tuple[int, int], tuple[int, dict[str, str]]]
"""Flags and bitmaps by leaf and sub-leaf; a bitmap has 32 characters, bit 31 first, and is there for every register."""


def read(text: str, source: str) -> list[Snapshot]:
    """Read a guest's table, or the bits that a template sets; raises InputError for two entries of a leaf, two bitmaps of a register."""
    values = parse_json(text, source)
    if len(values) != 1:
        raise InputError("more than one JSON value", source=source)
    template = values[0].get("guest_cpu_config", values[0])
    kernel = values[0].get("kernel_version")
    try:
        leaves = _leaves(template["cpuid_modifiers"], source)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"not of the form of Firecracker's templates: {error!r:.80}", source=source) from None
    kernel = kernel if isinstance(kernel, str) and kernel.isprintable() else None
    if any("x" in bitmap for _, bitmaps in leaves.values() for bitmap in bitmaps.values()):
        named = dict(_set_bits(leaves))
        if not named:
            raise InputError("a template that leaves every bit of CPUID to the host", source=source)
        note = f"a template that leaves bits to the host: of CPUID only the {len(named)} that it sets are told, by name"
        return [Snapshot(named=named, kernel=kernel, notes=(note,))]
    entries = (Entry(*place, flags, *(int(bitmaps[register], 2) for register in REGISTERS)) for place, (flags, bitmaps) in leaves.items())
    return [Snapshot(table=CpuidTable(entries), kernel=kernel)]


def _leaves(modifiers: Sequence[dict[str, Any]], source: str) -> _Leaves:
    leaves: _Leaves = {}
    for leaf in modifiers:
        function, index = number(leaf["leaf"], "leaf", source), number(leaf["subleaf"], "sub-leaf", source)
        flags = leaf["flags"]
        if not isinstance(flags, int) or not 0 <= flags < 1 << 32:
            raise ValueError(f"flags {flags!r:.40}")
        if (function, index) in leaves:
            raise InputError(f"a second entry of leaf {function:x}.{index:x}", source=source)
        if len(leaves) == ENTRY_LIMIT:
            raise InputError(f"more than {ENTRY_LIMIT} leaves", source=source)
        leaves[function, index] = flags, _bitmaps(leaf["modifiers"], f"leaf {function:x}.{index:x}", source)
    if not leaves:
        raise InputError("a template that leaves every bit of CPUID to the host", source=source)
    return leaves


def _bitmaps(modifiers: Sequence[dict[str, Any]], leaf: str, source: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for modifier in modifiers:
        register, bitmap = modifier["register"], modifier["bitmap"].removeprefix("0b").replace("_", "")
        if register not in REGISTERS or not _BITS.fullmatch(bitmap):
            raise ValueError(f"register {register!r:.10}, bitmap {bitmap!r:.60}")
        if register in told:
            raise InputError(f"a second bitmap for {register} of {leaf}", source=source)
        told[register] = bitmap
    return {register: told.get(register, "").rjust(32, "x") for register in REGISTERS}


def _set_bits(leaves: _Leaves) -> Iterator[tuple[str, bool]]:
    for (function, index), (_, bitmaps) in leaves.items():
        for register in REGISTERS:
            word, bits = CpuidWord(function, index, register), enumerate(reversed(bitmaps[register]))
            yield from ((told_as(Bit(word, position)), bit == "1") for position, bit in bits if bit != "x")


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
