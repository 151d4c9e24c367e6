"""Firecracker's CPU templates: what cpu-template-helper dumps of a guest, alone or in a fingerprint, and custom templates.

    {"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "eax", "bitmap": "0b0000…"}, …]}]}

Firecracker's docs/cpu_templates/schema.json tells the form. A dump sets every bit of every leaf in it, and is a guest's table. A template
that leaves bits to the host (`x` in a bitmap, or a register that is not there) is no CPU, whatever leaves it may set as a whole: what is
read is a partial snapshot with each bit that it sets, by name, or by place where no party has a name. MSRs in it are those of a vCPU, not
KVM's feature MSRs, and are passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.words import REGISTERS, Register
from vcpuid.errors import InputError
from vcpuid.formats.documents import is_object
from vcpuid.formats.firecracker_template import Bitmap, CpuidModifier, Template, read_object, template_of, write_template
from vcpuid.formats.form import Format
from vcpuid.formats.names import told_as

_WHOLE = 0xFFFFFFFF
_Leaves = dict[tuple[int, int], tuple[int, dict[Register, Bitmap]]]
"""Flags and bitmaps by leaf and sub-leaf; there is one of every register."""


def read(text: str, source: str) -> list[Snapshot]:
    """Read a guest's table, or the bits that a template sets; raises InputError for two entries of a leaf, two bitmaps of a register."""
    told = read_object(text, source)
    kernel = told.get("kernel_version")
    leaves = _leaves(template_of(told.get("guest_cpu_config", told), source), source)
    kernel = kernel if isinstance(kernel, str) and kernel.isprintable() else None
    if all(bitmap.filter == _WHOLE for _, bitmaps in leaves.values() for bitmap in bitmaps.values()):
        entries = (Entry(*place, flags, *(bitmaps[register].value for register in REGISTERS)) for place, (flags, bitmaps) in leaves.items())
        return [Snapshot(table=CpuidTable(entries), kernel=kernel)]
    named = dict(_set_bits(leaves))
    note = f"a template that leaves bits to the host: of CPUID only the {len(named)} that it sets are told, by name"
    return [Snapshot(named=named, kernel=kernel, notes=(note,))]


def _leaves(template: Template, source: str) -> _Leaves:
    leaves: _Leaves = {}
    for modifier in template.cpuid:
        place = modifier.leaf, modifier.subleaf
        where = f"leaf {modifier.leaf:x}.{modifier.subleaf:x}"
        if place in leaves:
            raise InputError(f"a second entry of {where}", source=source)
        bitmaps = dict.fromkeys(REGISTERS, Bitmap(0, 0)) | dict(modifier.registers)
        names = [register for register, _ in modifier.registers]
        if twice := [name for name in REGISTERS if names.count(name) > 1]:
            raise InputError(f"a second bitmap for {twice[0]} of {where}", source=source)
        leaves[place] = modifier.flags, bitmaps
    if not any(bitmap.filter for _, bitmaps in leaves.values() for bitmap in bitmaps.values()):
        raise InputError("a template that leaves every bit of CPUID to the host", source=source)
    return leaves


def _set_bits(leaves: _Leaves) -> Iterator[tuple[str, bool]]:
    for (function, index), (_, bitmaps) in leaves.items():
        for register in REGISTERS:
            word, (mask, value) = CpuidWord(function, index, register), bitmaps[register]
            yield from ((told_as(Bit(word, bit)), bool(value >> bit & 1)) for bit in range(32) if mask >> bit & 1)


def write(snapshots: Sequence[Snapshot]) -> Iterator[str]:
    """Yield a template that sets every bit of the first CPU's table."""
    leaves = (
        CpuidModifier(
            entry.function,
            entry.index,
            entry.flags,
            tuple((register, Bitmap(_WHOLE, value)) for register, value in zip(REGISTERS, entry.registers, strict=True)),
        )
        for entry in snapshots[0].table or ()
    )
    yield from write_template(Template(tuple(leaves)))


def _recognises(text: str) -> bool:
    return is_object(text) is not None and '"cpuid_modifiers"' in text


FORMAT = Format("firecracker", "a custom CPU template of Firecracker", _recognises, read, write, holds=("table",))
