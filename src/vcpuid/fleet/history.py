"""What a host has been: its classes in the order of time, and what changed from one to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, MsrTable, Snapshot
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import positions
from vcpuid.fleet.fleet import Fleet

_NAMED = 12
"""Changes of one kind that are named before the rest is counted."""


class Observation(NamedTuple):
    """A time through which a host was of one class: in which cluster, from when to when it was seen so, and what was new about it."""

    cluster: str
    first: int
    last: int
    id: int
    changes: tuple[str, ...]


def of_host(fleet: Fleet, name: str) -> tuple[Observation, ...]:
    """Return a host's observations; raises InputError where there is no host of that name, and for a folder, which keeps no history."""
    found, before = [], None
    for cluster, first, last, kind in fleet.history(name):
        changes = () if before is None else tuple(changed(before.facts, kind.facts))
        found.append(Observation(cluster, first, last, kind.id, changes))
        before = kind
    return tuple(found)


def changed(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Say what is new in a class's facts: kernel, microcode, parameters, flags, features of CPUID and of KVM's answer, MSRs."""
    if before.kernel != after.kernel:
        yield f"kernel {before.kernel} → {after.kernel}"
    for name in ("microcode", "bugs", "flags"):
        one, other = before.cpuinfo.get(name, ""), after.cpuinfo.get(name, "")
        if one != other:
            yield (
                f"microcode {one or 'not told'} → {other or 'not told'}"
                if name == "microcode"
                else _words(name, one.split(), other.split())
            )
    yield from _parameters(before.params, after.params)
    yield from _tables("CPUID", before.raw, after.raw)
    yield from _tables("KVM", before.supported or CpuidTable(), after.supported or CpuidTable())
    yield from _msrs("KVM's MSRs", before.msrs, after.msrs)
    yield from _msrs("MSRs", before.hardware_msrs, after.hardware_msrs)


def _parameters(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name, 'not told')} → {after.get(name, 'not told')}"


def _words(what: str, before: list[str], after: list[str]) -> str:
    one, other = set(before), set(after)
    return f"{what} {_some([*(f'+{name}' for name in after if name not in one), *(f'-{name}' for name in before if name not in other)])}"


def _tables(what: str, before: CpuidTable, after: CpuidTable) -> Iterator[str]:
    one, other = before.words(), after.words()
    told = [name for word in {**one, **other} for name in _bits(word, one.get(word, 0), other.get(word, 0))]
    if told:
        yield f"{what} {_some(told)}"


def _bits(word: CpuidWord, before: int, after: int) -> Iterator[str]:
    """Name the features that came and went; a register of which a bit has no name is told by its values."""
    features = [(position, by_bit(Bit(word, position))) for position in positions(before ^ after)]
    if any(feature is None for _, feature in features):
        yield f"{word} {before:#x} → {after:#x}"
        return
    for position, feature in features:
        assert feature is not None
        yield f"{'+' if after >> position & 1 else '-'}{feature.name}"


def _msrs(what: str, before: MsrTable, after: MsrTable) -> Iterator[str]:
    told = [
        f"{index:#x} {_value(before, index)} → {_value(after, index)}"
        for index in sorted({*before, *after, *before.refused, *after.refused})
        if _value(before, index) != _value(after, index)
    ]
    if told:
        yield f"{what} {_some(told)}"


def _value(table: MsrTable, index: int) -> str:
    return f"{table[index]:#x}" if index in table else "refused" if index in table.refused else "not told"


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return " ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
