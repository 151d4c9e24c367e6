"""What is new about a host: the facts of its class held against those of the class that it was of before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, MsrTable, Snapshot
from vcpuid.cpuid.by_name import PartialTable
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import leaf_name, positions
from vcpuid.fleet.classes import HostClass
from vcpuid.numbers import U32
from vcpuid.told.completions import tells

NOT_TOLD = "not told"
_NAMED = 12
"""Changes of one kind that are named before the rest is counted."""


def changed(before: HostClass, after: HostClass) -> Iterator[str]:
    """Say what is new in a class's facts: kernel, QEMU, microcode, parameters, flags, features of CPUID and of KVM's answer, MSRs.

    What one of the two does not tell has neither come nor gone: it is not told.
    """
    one, other = before.facts, after.facts
    if one.kernel != other.kernel:
        yield f"kernel {one.kernel or NOT_TOLD} → {other.kernel or NOT_TOLD}"
    if one.qemu != other.qemu:
        yield f"QEMU {one.qemu or NOT_TOLD} → {other.qemu or NOT_TOLD}"
    yield from _parameters(_of_cpuinfo(one, "microcode"), _of_cpuinfo(other, "microcode"))
    for name in ("bugs", "flags"):
        yield from _words(name, one.cpuinfo.get(name), other.cpuinfo.get(name))
    yield from _parameters(one.params, other.params)
    yield from _parameters(_named(one), _named(other))
    if len(before.cores) != len(after.cores):
        yield f"kinds of cores {len(before.cores)} → {len(after.cores)}"
    for number, (first, second) in enumerate(zip(before.cores, after.cores, strict=False)):
        yield from _processor(f"CPUID of core {number + 1}" if number else "CPUID", first, second)
    yield from _kvm(one.supported, other.supported)
    yield from _msrs("KVM's MSRs", one.msrs, other.msrs)
    yield from _msrs("MSRs", one.hardware_msrs, other.hardware_msrs)


def _of_cpuinfo(facts: Snapshot, name: str) -> Mapping[str, str]:
    return {name: facts.cpuinfo[name]} if name in facts.cpuinfo else {}


def _named(facts: Snapshot) -> Mapping[str, str]:
    return {name: "on" if there else "off" for name, there in facts.named.items()}


def _parameters(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name, NOT_TOLD)} → {after.get(name, NOT_TOLD)}"


def _words(what: str, before: str | None, after: str | None) -> Iterator[str]:
    if before is None or after is None:
        yield from _told(what, before is not None, after is not None)
    elif before != after:
        ones, others = before.split(), after.split()
        one, other = set(ones), set(others)
        yield f"{what} {_some([*(f'+{name}' for name in others if name not in one), *(f'-{name}' for name in ones if name not in other)])}"


def _told(what: str, before: bool, after: bool) -> Iterator[str]:
    """Say that something is told on one side alone."""
    if before is not after:
        yield f"{what} {'told' if before else NOT_TOLD} → {'told' if after else NOT_TOLD}"


def _processor(what: str, before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Hold two processors against each other, in what both tell of them."""
    if not before.raw or not after.raw:
        yield from _told(what, bool(before.raw), bool(after.raw))
        return
    one, other = before.raw.words(), after.raw.words()
    words = {**one, **other}
    told = {word: _told_bits(before, word) & _told_bits(after, word) for word in words}
    if names := [name for word, mask in told.items() for name in _bits(word, one.get(word, 0) & mask, other.get(word, 0) & mask)]:
        yield f"{what} {_some(names)}"
    for when, facts in (("before", before), ("now", after)):
        if leaves := _leaves(word for word in words if not _told_bits(facts, word)):
            yield f"{what} {NOT_TOLD} {when}: {_some(leaves)}"


def _told_bits(facts: Snapshot, word: CpuidWord) -> int:
    """Return the bits of a register of which the snapshot says something, be it that the processor has no such leaf."""
    if isinstance(facts.raw, PartialTable):
        return facts.raw.told(word)
    return U32 if tells(facts, word) else 0


def _leaves(words: Iterable[CpuidWord]) -> list[str]:
    return list(dict.fromkeys(leaf_name(word.function, word.index) for word in words))


def _kvm(before: CpuidTable | None, after: CpuidTable | None) -> Iterator[str]:
    if before is None or after is None:
        yield from _told("KVM's answer", before is not None, after is not None)
        return
    one, other = before.words(), after.words()
    if names := [name for word in {**one, **other} for name in _bits(word, one.get(word, 0), other.get(word, 0))]:
        yield f"KVM {_some(names)}"


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
    return f"{table[index]:#x}" if index in table else "refused" if index in table.refused else NOT_TOLD


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return " ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
