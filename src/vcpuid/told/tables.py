"""Which parts of a table of CPUID depend on what a host does not tell: its leaves, features, and registers that hold something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vcpuid.cpuid import Bit, CpuidTable, CpuidWord
from vcpuid.cpuid.names import by_bit
from vcpuid.cpuid.words import REGISTERS, positions
from vcpuid.errors import KvmError
from vcpuid.setup import Setup
from vcpuid.told.completions import nameless
from vcpuid.told.doubt import weighed
from vcpuid.told.facts import NotTold, WholeLeaf
from vcpuid.told.tried import Tried, on_each

EVERY_LEAF = "every leaf"
"""What is not told of a processor that does not say who made it, and which it is."""


def of_kvm(setup: Setup, table: Callable[[Setup], CpuidTable]) -> tuple[NotTold, ...]:
    """Say what is not told of a table that KVM makes on a host; `table` gives it, and raises KvmError where KVM gives none."""

    def given(other: Setup) -> CpuidTable | None:
        try:
            return table(other)
        except KvmError:
            return None

    if blind := nameless(setup.host):
        return (NotTold(EVERY_LEAF, blind),)
    tried = on_each(setup, given)
    return of_tables(table(setup), tried) if tried else ()


def of_tables(base: CpuidTable, given: Tried[CpuidTable | None]) -> tuple[NotTold, ...]:
    """Say in what a table is otherwise on the hosts that this one could be; `given` has their tables, None where there is none.

    A leaf is named as a whole where its being there is not told; else the features in it, and a register for the bits that are none.
    """
    leaves, masks = _changes(base, [other for _, other in given if other is not None])
    parts: dict[str, tuple[CpuidWord, int]] = {}
    for word, changed in masks.items():
        for position in positions(changed):
            name = _name(Bit(word, position))
            parts[name] = (word, parts.get(name, (word, 0))[1] | 1 << position)

    def answer(table: CpuidTable) -> dict[str, int]:
        there = {str(leaf): table.get(*leaf) is not None for leaf in leaves}
        return {**there, **{name: table.word(word) & mask for name, (word, mask) in parts.items()}}

    hanging = weighed(answer(base), given.map(lambda other: None if other is None else answer(other)))
    return tuple(NotTold(what, facts) for what, facts in hanging.items())


def _name(bit: Bit) -> str:
    """Name a feature; of what is none, and of AMD's copies of leaf 1, the register."""
    feature = by_bit(bit)
    return str(bit.word) if feature is None or feature.copy_of else feature.name


def _changes(base: CpuidTable, others: Iterable[CpuidTable]) -> tuple[dict[WholeLeaf, None], dict[CpuidWord, int]]:
    """Find the leaves that some of the tables have and others have not, and of the rest the bits that are not the same in all."""
    leaves: dict[WholeLeaf, None] = {}
    masks: dict[CpuidWord, int] = {}
    mine = base.by_key()
    for other in others:
        theirs = other.by_key()
        leaves.update((WholeLeaf(*place), None) for place in (*mine, *theirs) if place not in mine or place not in theirs)
        for place, entry in theirs.items():
            if place in mine and entry != mine[place]:
                for register, one, two in zip(REGISTERS, mine[place].registers, entry.registers, strict=True):
                    if one != two:
                        word = CpuidWord(*place, register)
                        masks[word] = masks.get(word, 0) | one ^ two
    return leaves, {word: mask for word, mask in masks.items() if WholeLeaf(word.function, word.index) not in leaves}
