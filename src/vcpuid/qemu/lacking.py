"""What hosts lack of QEMU's own models: each model is completed once for all hosts, and then held against what each supports.

QEMU completes a model and filters it on each host (x86_cpu_class_check_missing_features, target/i386/cpu.c). Of the host a model's
completion looks at the maker and at the components of XSAVE that KVM has, and at nothing else; that is all that it is shown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.registers import Registers
from vcpuid.qemu.catalog import Catalog, MachineType
from vcpuid.qemu.expand import INTEL_PT, OFFERED_COMPONENTS, Shape, expand
from vcpuid.qemu.filter import lacks_trace
from vcpuid.qemu.kept import kept
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw_on
from vcpuid.qemu.supported import Supported
from vcpuid.reasons import Unrecorded

_WIDTH = 64
"""Bits of the widest word, an MSR."""


@dataclass(frozen=True, slots=True)
class AskedModels:
    """QEMU's models as they are asked for: their names, as -cpu takes them, on a machine type, whose text may say more than `machine`."""

    tables: Catalog
    text: str
    machine: MachineType
    names: tuple[str, ...]
    globals: tuple[str, ...] = ()


class _Complete(NamedTuple):
    """A model before it is filtered: its features in one number, as `packed` makes it, those it lost by then, and whether it keeps all."""

    features: int
    lost: int
    forced: bool


class _Components(Supported):
    """A host that shows its components of XSAVE alone."""

    __slots__ = ()

    def __init__(self, tables: Catalog, components: tuple[int, ...]) -> None:
        self.words = dict.fromkeys((row.name for row in tables.words), 0) | dict(zip(OFFERED_COMPONENTS, components, strict=True))

    def leaf(self, function: int, index: int = 0) -> Registers:
        raise LookupError(f"a model of QEMU's own asks for leaf {function:#x} of the host")


def lacking(asked: AskedModels, able: Supported, vendor: str) -> Iterator[tuple[str, int]]:
    """Give what a host of this maker that supports so much lacks of each model, in one number: `unpacked` tells the words.

    Raises QemuError where QEMU does not take one of the models on this machine type.
    """
    tables, there = asked.tables, packed(asked.tables, able.words)
    trace = packed(tables, {"FEAT_7_0_EBX": INTEL_PT})
    components = tuple(able.words.get(name, 0) for name in OFFERED_COMPONENTS)
    for name, (features, lost, forced) in zip(asked.names, _completed(asked, asked.text, asked.globals, vendor, components), strict=True):
        missing = features & ~there
        if features & trace:
            missing |= packed(tables, lacks_trace(unpacked(tables, features if forced else features & ~missing), able))
        yield name, lost | missing


@kept(32)
def _completed(
    asked: AskedModels, text: str, given: tuple[str, ...], vendor: str, components: tuple[int, ...]
) -> tuple[_Complete, ...]:  # fmt: skip
    """Complete the models: hosts of one maker differ in their components alone, and in these mostly not.

    `text` and `given` are the parts of what is asked that may be long.
    """
    host = _Components(asked.tables, components)
    return tuple(_complete(asked, name, vendor, host) for name in asked.names)


def _complete(asked: AskedModels, name: str, vendor: str, host: Supported) -> _Complete:
    tables = asked.tables
    found = plan(tables.release, asked.text, name, asked.globals)
    draft = draw_on(found, tables, asked.machine, host, {"vendor": vendor}, Unrecorded())
    expand(draft, Shape())
    return _Complete(packed(tables, draft.features), packed(tables, draft.filtered), bool(draft.props["x-force-features"]))


def packed(tables: Catalog, words: Mapping[str, int]) -> int:
    """Put feature words into one number."""
    found = 0
    for row in reversed(tables.words):
        found = found << _WIDTH | words.get(row.name, 0)
    return found


@lru_cache(maxsize=4096)
def unpacked(tables: Catalog, features: int) -> FrozenMap[str, int]:
    """Give the words of such a number that are not empty."""
    words = ((row.name, features >> place * _WIDTH & (1 << _WIDTH) - 1) for place, row in enumerate(tables.words))
    return FrozenMap((name, value) for name, value in words if value)
