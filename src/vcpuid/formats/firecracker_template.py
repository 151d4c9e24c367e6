"""Firecracker's CPU templates as values, a reader of the JSON that is as strict as Firecracker's own, and a writer.

    {"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "ebx", "bitmap": "0bxxx1…0x"}]}],
     "msr_modifiers": [{"addr": "0x10a", "bitmap": "0b1…0x"}], "kvm_capabilities": ["171", "!56"]}

A bitmap sets bits to 0 or 1 and leaves those to the host that are `x` or that it does not reach. From templates.rs, templates_serde.rs and
x86_64/custom_cpu_template.rs in src/vmm/src/cpu_config of Firecracker; docs/cpu_templates/schema.json tells the form.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from vcpuid.cpuid.words import REGISTERS, Register
from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_json
from vcpuid.formats.lines import ENTRY_LIMIT
from vcpuid.numbers import U32, U64, decimal, digits

_NUMBER = re.compile("0b[+]?([01]+)|0x[+]?([0-9a-fA-F]+)")
_CAPABILITY = re.compile("!?[+]?([0-9]+)")
_KEYS = ("kvm_capabilities", "cpuid_modifiers", "msr_modifiers")
_ARM = ("vcpu_features", "reg_modifiers")
_T = TypeVar("_T")


class Bitmap(NamedTuple):
    """The bits that a template sets: `filter` says which, `value` to what; `value` has no bit outside of `filter`."""

    filter: int
    value: int


@dataclass(frozen=True, slots=True)
class CpuidModifier:
    """What a template makes of one sub-leaf: its flags, and bitmaps of its registers, applied in order."""

    leaf: int
    subleaf: int
    flags: int
    registers: tuple[tuple[Register, Bitmap], ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A CPU template, its modifiers in order.

    `msrs` are pairs of index and bitmap; `capabilities` change the list of KVM capabilities asked for: "171", or to drop one "!171".
    """

    cpuid: tuple[CpuidModifier, ...] = ()
    msrs: tuple[tuple[int, Bitmap], ...] = ()
    capabilities: tuple[str, ...] = ()


def write_template(template: Template) -> Iterator[str]:
    """Yield the JSON of a template, line by line."""
    cpuid = [
        {
            "leaf": f"{modifier.leaf:#x}",
            "subleaf": f"{modifier.subleaf:#x}",
            "flags": modifier.flags,
            "modifiers": [{"register": register, "bitmap": _spelled(bitmap, 32)} for register, bitmap in modifier.registers],
        }
        for modifier in template.cpuid
    ]
    told: dict[str, object] = {"cpuid_modifiers": cpuid}
    if template.msrs:
        told["msr_modifiers"] = [{"addr": f"{index:#x}", "bitmap": _spelled(bitmap, 64)} for index, bitmap in template.msrs]
    if template.capabilities:
        told["kvm_capabilities"] = list(template.capabilities)
    yield from json.dumps(told, indent=2).split("\n")


def _spelled(bitmap: Bitmap, width: int) -> str:
    bits = (str(bitmap.value >> at & 1) if bitmap.filter >> at & 1 else "x" for at in range(width - 1, -1, -1))
    return "0b" + "".join(bits)


def read_template(text: str, source: str) -> Template:
    """Read a custom CPU template; raises InputError, with the file and the key, where Firecracker would not take it."""
    return template_of(read_object(text, source), source)


def read_object(text: str, source: str) -> dict[str, Any]:
    """Read a JSON object; raises InputError where the text is none, or a key stands twice in an object."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        read = dict(pairs)
        if len(read) < len(pairs):
            key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise InputError(f"a second {key[:40]!r} in one object", source=source)
        return read

    values = parse_json(text, source, pairs=once)
    if len(values) != 1:
        raise InputError("more than one JSON value" if values else "no JSON value", source=source)
    return _object(values[0], "the template", source)


def template_of(value: object, source: str) -> Template:
    """Read a template from its JSON value; raises InputError, with the key, where Firecracker would not take it."""
    told = _object(value, "the template", source)
    for key in told.keys() - set(_KEYS):
        cause = "is for arm64" if key in _ARM else f"is no key of a CPU template: {', '.join(_KEYS)} are"
        raise InputError(f"{key[:40]!r} {cause}", source=source)
    return Template(
        tuple(_each(told, "cpuid_modifiers", "", source, _cpuid_modifier)),
        tuple(_each(told, "msr_modifiers", "", source, _msr_modifier)),
        tuple(_each(told, "kvm_capabilities", "", source, _capability)),
    )


def _cpuid_modifier(value: object, key: str, source: str) -> CpuidModifier:
    told = _object(value, key, source)
    flags = _required(told, "flags", key, source)
    if isinstance(flags, bool) or not isinstance(flags, int) or not 0 <= flags < 1 << 32:
        raise InputError(f"{key}.flags: {flags!r:.40} is not a number of 32 bits", source=source)
    _required(told, "modifiers", key, source)
    return CpuidModifier(
        _number(told, "leaf", key, source),
        _number(told, "subleaf", key, source),
        flags,
        tuple(_each(told, "modifiers", f"{key}.", source, _register_modifier)),
    )


def _register_modifier(value: object, key: str, source: str) -> tuple[Register, Bitmap]:
    told = _object(value, key, source)
    name = _required(told, "register", key, source)
    for register in REGISTERS:
        if name == register:
            return register, _bitmap(told, key, source, 32)
    raise InputError(f"{key}.register: {str(name)[:40]!r} is not one of {', '.join(REGISTERS)}", source=source)


def _msr_modifier(value: object, key: str, source: str) -> tuple[int, Bitmap]:
    told = _object(value, key, source)
    return _number(told, "addr", key, source), _bitmap(told, key, source, 64)


def _capability(value: object, key: str, source: str) -> str:
    found = _CAPABILITY.fullmatch(value) if isinstance(value, str) else None
    if found is None or decimal(found[1]) is None:
        raise InputError(f'{key}: {str(value)[:40]!r} is not the number of a KVM capability, as "171" or "!171"', source=source)
    return str(value)


def _bitmap(told: dict[str, Any], key: str, source: str, width: int) -> Bitmap:
    text = _required(told, "bitmap", key, source)
    body = text.removeprefix("0b") if isinstance(text, str) else "?"
    bits = body.replace("_", "")
    too_long = len(bits) > width or (len(bits) == width and body.startswith("_"))  # Firecracker counts from the right, and stops there
    if too_long or not set(bits) <= set("01x"):
        raise InputError(f"{key}.bitmap: {str(text)[:80]!r} is not a bitmap of at most {width} characters 0, 1 and x", source=source)
    filter_, value = (digits("0" + ones, 2, U64) for ones in (bits.translate(str.maketrans("01x", "110")), bits.replace("x", "0")))
    assert filter_ is not None
    assert value is not None  # both are checked above
    return Bitmap(filter_, value)


def _number(told: dict[str, Any], name: str, key: str, source: str) -> int:
    text = _required(told, name, key, source)
    found = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    value = None if found is None else digits(found[1], 2, U32) if found[1] else digits(found[2], 16, U32)
    if value is None:
        raise InputError(f'{key}.{name}: {str(text)[:40]!r} is not a number of 32 bits, as "0x7" or "0b111"', source=source)
    return value


def _required(told: dict[str, Any], name: str, key: str, source: str) -> Any:
    if name not in told:
        raise InputError(f"{key}: {name} is missing", source=source)
    return told[name]


def _object(value: object, key: str, source: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{key}: not a JSON object", source=source)
    return value


def _each(told: dict[str, Any], name: str, within: str, source: str, read: Callable[[object, str, str], _T]) -> Iterator[_T]:
    values = told.get(name, [])
    key = within + name
    if not isinstance(values, list):
        raise InputError(f"{key}: not a list", source=source)
    if len(values) > ENTRY_LIMIT:
        raise InputError(f"{key}: more than {ENTRY_LIMIT} entries", source=source)
    return (read(value, f"{key}[{number}]", source) for number, value in enumerate(values))
