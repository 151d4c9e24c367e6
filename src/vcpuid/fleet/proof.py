"""Whether a -cpu runs on every class of a fleet, and whether the guest's CPU is the same one on all: the path worked for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vcpuid.answers.attempt import Attempt
from vcpuid.answers.verdict import START, Verdict, unadvised
from vcpuid.cpuid import CpuidTable, Word, xfeatures
from vcpuid.cpuid.words import REGISTERS, CpuidWord, positions
from vcpuid.fleet.members import Census, Group, hosts_of
from vcpuid.fleet.words import fullest
from vcpuid.qemu.catalog import Catalog
from vcpuid.qemu.guest import QemuResult
from vcpuid.setup import Setup
from vcpuid.told.completions import untold
from vcpuid.told.facts import Fact, NotTold

Table = Mapping[Word, int]
"""The registers of a guest's table and its feature MSRs; what is not in it is 0."""

_XSAVE = 0xD

CUT = "its cores are of several kinds, and its snapshot tells of one: cpuid -r tells of all"
"""What is to be said of a class that is not whole."""


@dataclass(frozen=True)
class Proof:
    """What became of a -cpu on one class, or on one kind of its cores.

    `open` are the words of the guest's table, and feature MSRs, that hang on what the class does not tell.
    """

    group: Group
    found: Verdict = field(repr=False)
    open: frozenset[Word] = field(default=frozenset(), repr=False)

    @property
    def runs(self) -> bool | None:
        """Whether QEMU gives all that is asked for, without a warning; None where that is not told."""
        if self.found.warnings:
            return False
        return None if self.found.runs and not self.group.kind.whole else self.found.runs

    @property
    def why(self) -> str | None:
        """Say in a sentence why it does not run, or what is not told."""
        found = self.found
        if found.not_known is not None:
            return found.not_known
        if found.refusal is not None:
            return found.refusal.partition("\n")[0]
        if found.missing:
            return f"lacks {' '.join(missing.feature.name for missing in found.missing)}"
        if found.warnings:
            return found.warnings[0]
        if found.not_told:
            names = [open_.what for open_ in found.not_told]
            return f"not told: {START if START in names else ' '.join(names)}"
        if found.runs is None and found.start is not None:
            return found.start.message or "whether its KVM takes what QEMU sets at start is not tried"
        return None if self.group.kind.whole else f"not told: {CUT}"

    @property
    def told(self) -> bool:
        """Whether all of the guest's CPU is told, be it that QEMU refuses it."""
        refused = self.table is None and self.found.not_known is None
        return self.group.kind.whole and not self.not_told and not self.open and (refused or self.table is not None)

    @property
    def depends(self) -> tuple[Fact, ...]:
        """The facts on which hangs what is not told."""
        facts = tuple(dict.fromkeys(fact for open_ in self.not_told for fact in open_.depends))
        return facts or (untold(self.found.setup) if self.open else ())

    @property
    def not_told(self) -> tuple[NotTold, ...]:
        """What hangs on facts that the class does not tell."""
        return self.found.not_told

    @cached_property
    def table(self) -> Table | None:
        """The guest's CPU; None where QEMU does not start."""
        path = self.found.path
        return None if path is None else seen(path.made.tables[0], path.made.msrs)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = [open_.as_dict() for open_ in self.not_told]
        open_words = sorted(map(str, self.open))
        return {**self.group.as_dict(), "runs": self.runs, "why": self.why, "not_told": told, "open": open_words}


def prove(cpu: str, census: Census, setups: Sequence[Setup]) -> tuple[Proof, ...]:
    """Work the path of a -cpu on each class, on each kind of its cores; `setups` are those of the census's cores, in their order."""
    return tuple(_proof(cpu, group, setup) for group, setup in zip(census.cores, setups, strict=True))


def running(proofs: Iterable[Proof]) -> int:
    """Count the hosts on which a -cpu runs, on whichever of their cores."""
    given = list(proofs)
    failing = {proof.group.kind.id for proof in given if not proof.runs}
    return hosts_of(proof.group for proof in given if proof.group.kind.id not in failing)


def differs(proofs: Iterable[Proof]) -> tuple[str, ...]:
    """Name the words in which the guest's CPU is not the same on all that start it, as far as these tell."""
    return tuple(sorted(map(str, differing([(proof.table, proof.open) for proof in proofs if proof.table is not None]))))


def alike(proofs: Sequence[Proof], census: Census) -> bool | None:
    """Tell whether the guest's CPU is the same on all; None where that hangs on what some do not tell, or some cannot be read."""
    if differs(proofs):
        return False
    return True if proofs and not census.unread and all(proof.told for proof in proofs) else None


def _proof(cpu: str, group: Group, setup: Setup) -> Proof:
    found = unadvised(cpu, setup)
    return Proof(group, found, unsettled(cpu, found))


def unsettled(cpu: str, found: Verdict) -> frozenset[Word]:
    """Return the words of a guest's table, and its feature MSRs, that are otherwise where all is there that its host does not tell."""
    full = None if found.path is None else fullest(found.setup)
    made = None if full is None else Attempt(full).run(cpu)
    if found.path is None or made is None:
        return frozenset()
    return frozenset(unlike(seen(found.path.made.tables[0], found.path.made.msrs), seen_of(made)))


_LISTED = 4


def listed_words(words: Collection[Word]) -> str:
    """Name words in a sentence: the first, and how many more there are."""
    names = sorted(map(str, words))
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def seen_of(made: QemuResult) -> dict[Word, int]:
    """Return the same of what QEMU made."""
    return seen(made.tables[0], made.msrs)


def seen(table: CpuidTable, msrs: Mapping[Word, int]) -> dict[Word, int]:
    """Return what a guest can find in its table and its feature MSRs, by word, but for zeros.

    QEMU 11 shows sub-leaves of leaf 0xD as the host has them, of components too that the guest may not use, for which XRSTOR and XSAVE
    never look: these do not count.
    """
    bounds, more = table.registers(_XSAVE), table.registers(_XSAVE, 1)
    usable = bounds.eax | bounds.edx << 32 | more.ecx | more.edx << 32
    found: dict[Word, int] = {word: value for word, value in msrs.items() if value}
    for function, index, _, *registers in table:
        if function == _XSAVE and index > 1 and not usable >> index & 1:
            continue
        for register, value in zip(REGISTERS, registers, strict=True):
            if value:
                found[CpuidWord(function, index, register)] = value
    return found


def unlike(one: Table, other: Table) -> dict[Word, int]:
    """Return the words in which two guests' CPUs differ, each with the bits."""
    return {word: rest for word in {**one, **other} if (rest := one.get(word, 0) ^ other.get(word, 0))}


def differing(tables: Sequence[tuple[Table, Collection[Word]]]) -> dict[Word, int]:
    """Return the words in which any guest differs from the first, each with the bits; of each table, but for those that are open."""
    found: dict[Word, int] = {}
    for other, open_ in tables[1:]:
        for word, mask in unlike(tables[0][0], other).items():
            if word not in open_ and word not in tables[0][1]:
                found[word] = found.get(word, 0) | mask
    return found


_WHOLE_LEAVES = {0x12: "sgx", 0x14: "intel-pt", 0x1C: "arch-lbr", 0xA: "pmu", 0x24: "avx10"}
"""Leaves that hold the host's own numbers for a feature: without it they are empty."""


def carriers(differing: Mapping[Word, int], tables: Catalog) -> Iterator[str]:
    """Name the features without which two guests would not differ in these words, by QEMU's names; nothing for a word that none carries."""
    rows = {row.word: row for row in tables.words}
    for word, mask in differing.items():
        if isinstance(word, CpuidWord) and word.function == _XSAVE:
            yield from _components(word, mask, tables)
        elif isinstance(word, CpuidWord) and word.function in _WHOLE_LEAVES:
            yield _WHOLE_LEAVES[word.function]
        if word in rows:
            yield from (rows[word].names[position] for position in positions(mask) if position in rows[word].names)


def _components(word: CpuidWord, mask: int, tables: Catalog) -> Iterator[str]:
    """Name the features that use the components of which a register of leaf 0xD tells."""
    if word.index > 1:
        numbers = [word.index]
    elif word.register in ("eax", "edx") if word.index == 0 else word.register in ("ecx", "edx"):
        numbers = [position + (32 if word.register == "edx" else 0) for position in positions(mask)]
    else:
        return
    for number in numbers:
        for row in tables.components:
            if row.number == number and not xfeatures.LEGACY >> number & 1:
                yield from (tables.by_name[row.word].names[position] for position in positions(row.mask))
