"""`-cpu MODEL,+flag,-flag,name=value`: how QEMU reads it, and in which words it refuses a value.

QEMU, target/i386/cpu.c (x86_cpu_parse_featurestr and the setters), qapi/string-input-visitor.c (values), hw/core/qdev-properties.c. The
text is cut at every comma; `name=value` settings are applied while the CPU is created, whatever their place, and +flag and -flag after
them, first all pluses and then all minuses. QEMU 7.2 aborts where lbr-fmt is given what is no number, here it is refused as later ones
do; `realized` and links to other objects are for QEMU's own use, and not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vcpuid.errors import QemuError
from vcpuid.qemu import messages
from vcpuid.qemu.catalog import HOST_MODELS, TYPE_SUFFIX, Catalog, Flag
from vcpuid.qemu.kept import kept
from vcpuid.qemu.values import boolean, characters, integer, on_off_auto, size

_METRIC = 1000
_LARGEST_FREQUENCY = (1 << 63) - 1
_LARGEST = {"family": 0xFF + 0xF, "model": 0xFF, "stepping": 0xF, "tsc-frequency": _LARGEST_FREQUENCY}
_READ_ONLY = frozenset(
    {"type", "feature-words", "filtered-features", "unavailable-features", "crash-information", "hotplugged", "hotpluggable"}
)
_LBR_FORMAT = 0x3F
_NEWEST_AVX10 = 2
_VENDOR_LENGTH, _MODEL_ID_LENGTH = 12, 48


@dataclass(frozen=True, slots=True)
class CpuOption:
    """A -cpu argument taken apart: `settings` in order, `plus` and `minus` without their sign, `warnings` about ambiguous ones."""

    model: str
    settings: tuple[tuple[str, str], ...]
    plus: tuple[str, ...]
    minus: tuple[str, ...]
    warnings: tuple[str, ...]


def model_of(cpu: str) -> str:
    """Return the model that a -cpu argument names; raises QemuError for an empty one."""
    if not cpu:
        raise QemuError(messages.EMPTY_CPU())
    return cpu.partition(",")[0]


@kept(1024)
def parse(cpu: str, release: tuple[int, int]) -> CpuOption:
    """Take a -cpu argument apart as a release of QEMU does; raises QemuError where tsc-freq is no number."""
    settings: list[tuple[str, str]] = []
    plus: dict[str, None] = {}  # each counts once, however often it is said
    minus: dict[str, None] = {}
    warnings: list[str] = []
    for part in filter(None, cpu.partition(",")[2].split(",")):
        if part[0] in "+-":
            (plus if part[0] == "+" else minus)[part[1:]] = None
            continue
        name, equals, value = part.partition("=")
        name, value = name.replace("_", "-"), value if equals else "on"
        for sign, names in (("+", plus), ("-", minus)):
            if name in names:
                warnings.append(messages.AMBIGUOUS(sign=sign, name=name, value=value))
        if name == "tsc-freq":
            name, value = "tsc-frequency", _metric(value, release)
        settings.append((name, value))
    if warnings:
        warnings.append(messages.AMBIGUOUS_OUTLOOK())
    return CpuOption(model_of(cpu), tuple(_said_over(settings)), tuple(plus), tuple(minus), tuple(warnings))


def _said_over(settings: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Leave of a setting that is said over and over the first time, at which it may be refused, and the last, which counts."""
    first: set[tuple[str, str]] = set()
    last = {setting: at for at, setting in enumerate(settings)}
    for at, setting in enumerate(settings):
        if setting not in first or last[setting] == at:
            first.add(setting)
            yield setting


def _metric(text: str, release: tuple[int, int]) -> str:
    """Read a number with a metric suffix such as 2.5G (x86_cpu_parse_featurestr)."""
    number = size(text, _METRIC, release)
    if number is None or number > _LARGEST_FREQUENCY:
        raise QemuError(messages.BAD_NUMBER(text=text))
    return str(number)


def find(catalog: Catalog, type_name: str, name: str) -> Flag | str:
    """Return what a property name stands for on a type of CPU: the bits of a feature, or the name of another property.

    Raises QemuError where that type has no such property, or nobody may set it.
    """
    name = catalog.aliases.get(name, name)
    if name in catalog.flags:
        return catalog.flags[name]
    found = catalog.properties.get(name)
    if found is None or (found.host_only and type_name.removesuffix(TYPE_SUFFIX) not in HOST_MODELS):
        raise QemuError(messages.NO_PROPERTY(type=type_name, name=name))
    if name in _READ_ONLY:
        raise QemuError(messages.READ_ONLY(type=type_name, name=name) if catalog.number >= (7, 2) else messages.NOT_PERMITTED())
    return name


def spelled(catalog: Catalog, name: str) -> str:
    """Return how refusals spell a property that was given by this name: as it was given, but up to 6.0 without its further names."""
    return name if catalog.number >= (6, 1) else catalog.aliases.get(name, name)


def settable(catalog: Catalog, model: str) -> dict[str, str]:
    """Return the properties that a user may set on a model and that are no features, each with its type by QEMU's name."""
    kinds = {name: found.type for name, found in catalog.properties.items() if not found.host_only or model in HOST_MODELS}
    return {name: kind for name, kind in kinds.items() if name not in _READ_ONLY and not kind.startswith("link")}


def value(catalog: Catalog, name: str, text: str, spelled: str) -> Any:
    """Read the value of a property that is no feature, `spelled` as the user did; raises QemuError with QEMU's words where it refuses."""
    kind = catalog.properties[name].type
    if kind == "bool":
        return boolean(spelled, text)
    if kind == "OnOffAuto":
        return on_off_auto(name, text, catalog.number)
    if kind.startswith("link"):
        raise QemuError(messages.NO_DEVICE(name=text))
    if kind.startswith(("int", "uint")):
        return _number(catalog, name, kind, text)
    value = characters(text)
    if name == "vendor" and len(value) != _VENDOR_LENGTH:
        if catalog.number < (8, 2):
            raise QemuError(messages.VALUE_REFUSED(name=name, value=text))
        raise QemuError(messages.LENGTH(name=name, length=_VENDOR_LENGTH))
    return value[:_MODEL_ID_LENGTH] if name == "model-id" else value


def switch(catalog: Catalog, name: str, on: bool, spelled: str) -> bool:
    """Set a property that is no feature by +name or -name, `spelled` as the user did; raises QemuError unless it is a boolean."""
    kind = catalog.properties[name].type
    if kind == "bool":
        return on
    if kind.startswith(("int", "uint")) and _visited(catalog, name, kind) == "uint64":
        raise QemuError(messages.EXPECTS(name=spelled, what="uint64"))
    expected = "integer" if kind.startswith("int") else "string"
    raise QemuError(messages.EXPECTED_TYPE(name=spelled, what=expected))


def _visited(catalog: Catalog, name: str, kind: str) -> str:
    """Name the integer that a setter asks for first."""
    return "uint64" if kind.startswith("uint") or (name in ("family", "model", "stepping") and catalog.number >= (9, 2)) else "int64"


def _number(catalog: Catalog, name: str, kind: str, text: str) -> int:
    visited = _visited(catalog, name, kind)
    number = integer(text, signed=visited == "int64")
    if number is None:
        raise QemuError(messages.EXPECTS(name=name, what=visited))
    if name in _LARGEST:
        if not 0 <= number <= _LARGEST[name]:
            if catalog.number >= (9, 2):
                raise QemuError(messages.TOO_MUCH(name=name, most=_LARGEST[name]))
            raise QemuError(messages.NUMBER_REFUSED(name=name, value=number, most=_LARGEST[name]))
        return number
    bits = int(kind.lstrip("uint") or "64")
    low, high = (0, 1 << bits) if kind.startswith("uint") else (-1 << bits - 1, 1 << bits - 1)
    if not low <= number < high:
        raise QemuError(messages.EXPECTS(name=name, what=f"{kind}_t"))
    if name == "lbr-fmt" and number & ~_LBR_FORMAT:
        raise QemuError(messages.LBR_MASK(mask=_LBR_FORMAT))
    if name == "avx10-version" and number > _NEWEST_AVX10 and catalog.number >= (11, 0):
        raise QemuError(messages.AVX10_NEWEST(most=_NEWEST_AVX10))
    return number
