"""What becomes of each field of CPUID where processors that differ are to look alike: data/fleet-policies.json, by leaf and field.

    and       a feature is there where all have it
    or        a defect, or a thing that is not there, is told where any says so
    min       the smallest number is true of all
    equal     what differs is dropped, to 0, and with it the features that cannot do without
    chosen    whoever makes the guest's CPU chooses: names, topology, caches
    ignored   it tells of one CPU, or of this moment

`meet` takes the first four over tables. It is associative, commutative and idempotent, and another table never adds a feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache, reduce
from typing import Literal, NamedTuple, get_args

from vcpuid import data
from vcpuid.cpuid import Bit, CpuidTable, CpuidWord, MsrWord
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import positions
from vcpuid.decode.layout import RESERVED, Field, canonical, layout
from vcpuid.decode.parties import Parties, parties

Policy = Literal["and", "or", "min", "equal", "chosen", "ignored"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


class Met(NamedTuple):
    """A register of processors that are to look alike: the bits that have a policy by which one value holds for all, and that value."""

    mask: int
    value: int


_MEETING: dict[Policy, Callable[[int, int], int]] = {
    "and": lambda one, other: one & other,
    "or": lambda one, other: one | other,
    "min": min,
    "equal": lambda one, other: one if one == other else 0,
}


def known(function: int) -> bool:
    """Whether a leaf has policies of its own; of another, feature bits go as `and`, and numbers as `equal`."""
    return f"{canonical(function):x}" in data.load("fleet-policies")["leaves"]


@lru_cache(1 << 12)  # leaves are as a dump numbers them
def policy(function: int, field: Field) -> Policy:
    """Return what becomes of a field of a leaf. A reserved bit may be a feature that is not known yet, and goes as one."""
    row = data.load("fleet-policies")["leaves"].get(f"{canonical(function):x}", {})
    own: Policy | None = row.get("fields", {}).get(field.name)
    if own is not None:
        return own
    if field.name == RESERVED:
        return row["flags"] if row.get("flags") == row.get("numbers") and row else "and"
    general: Policy = row.get("flags", "and") if field.width == 1 else row.get("numbers", "equal")
    return general


def msr_policies(index: int) -> dict[str, Policy]:
    """Return the bits of a feature MSR that go another way than as features do, by their names."""
    row = data.load("fleet-policies")["msrs"].get(f"{index:x}", {})
    found: dict[str, Policy] = row.get("fields", {})
    return found


def meet(tables: Iterable[CpuidTable]) -> dict[CpuidWord, Met]:
    """Return what holds for all of several processors, by register, of the leaves that all of them have.

    A table's fields are read as its vendor and hypervisors mean them; where these differ between tables, as those of no vendor.
    """
    given = list(tables)
    if not given:
        return {}
    whose = {parties(table) for table in given}
    who = whose.pop() if len(whose) == 1 else Parties("", ())
    words = [table.words() for table in given]
    shared = [word for word in words[0] if all(word in other for other in words)]
    return {word: _met(word, who.of(word.function), [one[word] for one in words]) for word in shared}


def _met(word: CpuidWord, who: str, values: list[int]) -> Met:
    mask = value = 0
    for field in _fields(word, who):
        if (rule := _MEETING.get(policy(word.function, field))) is not None:
            mask |= field.mask
            value |= reduce(rule, ((one & field.mask) >> field.low for one in values)) << field.low
    return Met(mask, value)


def _fields(word: CpuidWord, who: str) -> tuple[Field, ...]:
    eax, ebx, ecx, edx = layout(word.function, word.index, who)
    return {"eax": eax, "ebx": ebx, "ecx": ecx, "edx": edx}[word.register].fields


def met_msr(index: int, values: Iterable[int]) -> int:
    """Return the value of a feature MSR that holds for all."""
    given = list(values)
    every, any_ = reduce(lambda one, other: one & other, given), reduce(lambda one, other: one | other, given)
    named = [(position, by_bit(Bit(MsrWord(index), position))) for position in positions(any_)]
    defects = sum(1 << position for position, feature in named if feature and msr_policies(index).get(feature.name) == "or")
    return every | any_ & defects
