"""A recorded QEMU held against the model of that QEMU: where the tables differ, and which bits the recording does not tell enough for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry
from vcpuid.errors import VcpuidError
from vcpuid.kvm.answers import kvm_says
from vcpuid.setup import Setup
from vcpuid.vmm.qemu import QEMU

_MOST = 4
"""As many registers in which two tables differ are named."""


def hanging(asked: str, setup: Setup, made: Sequence[CpuidTable]) -> Mapping[tuple[int, CpuidWord], int]:
    """Tell which bits of a QEMU's tables hang on the processor's own CPUID, of a host that tells what its KVM supports and not that.

    The model is asked again, of a processor that has all that could be there. Keys are a vCPU's place and a register.
    """
    supported = setup.host.supported
    if setup.host.raw or supported is None:
        return {}
    try:
        full = setup.with_host(replace(setup.host, raw=_with_all(supported)))
        others = QEMU.make(asked, full, kvm_says(full)).tables
    except VcpuidError:
        return {}
    found = {}
    for place, (one, other) in enumerate(zip(made, others, strict=False)):
        mine, theirs = one.words(), other.words()
        for word in dict.fromkeys((*mine, *theirs)):
            if changed := mine.get(word, 0) ^ theirs.get(word, 0):
                found[place, word] = _ALL if word.function in _BRAND else changed
    return found


_ALL = 0xFFFFFFFF
_BRAND = range(0x80000002, 0x80000005)
_NUMBERS = frozenset({0x0, 0x4, 0xB, 0xD, 0x1F, 0x40000000, 0x40000001, 0x80000000, 0x80000008, 0x8000001D, 0x8000001E})
"""Leaves that hold numbers, in which there is nothing that could be there besides."""


def _with_all(supported: CpuidTable) -> CpuidTable:
    """Return what the processor's own CPUID could be: all features, and a name."""
    entries = {(entry.function, entry.index): entry for entry in supported}
    for function in _BRAND:
        entries.setdefault((function, 0), Entry(function, 0, 0, 0, 0, 0, 0))
    return CpuidTable(
        entry if entry.function in _NUMBERS else Entry(*entry[:3], *(entry.eax if entry.function == 1 else _ALL, *([_ALL] * 3)))
        for entry in entries.values()
    )


def held(model: str, shown: Sequence[CpuidTable], made: Sequence[CpuidTable], open_: Mapping[tuple[int, CpuidWord], int]) -> str:
    """Say in a sentence in which registers a model's tables are not those that a recording shows, and of which that is not told."""
    differing: dict[str, None] = {}
    not_told = 0
    for place, (mine, theirs) in enumerate(zip(made, shown, strict=False)):
        one, other = mine.words(), theirs.words()
        for word in dict.fromkeys((*one, *other)):
            changed = one.get(word, 0) ^ other.get(word, 0)
            if changed & ~open_.get((place, word), 0) or ((word in one) != (word in other) and (place, word) not in open_):
                differing[str(word)] = None
            elif changed:
                not_told += 1
    if differing:
        names = list(differing)
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        return f"the model of {model} makes another table: it differs in {', '.join(names[:_MOST])}{more}"
    if not_told:
        registers = "registers hang" if not_told > 1 else "register hangs"
        return f"the model of {model} makes the same table as far as is told: {not_told} {registers} on the processor's own CPUID"
    return f"the model of {model} makes the same entries in another order or with other flags"
