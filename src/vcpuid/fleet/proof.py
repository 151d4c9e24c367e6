"""Whether a -cpu runs on every class of a fleet, and whether the guest's CPU is the same one on all: the path worked for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from vcpuid.cpuid import Word, xfeatures
from vcpuid.cpuid.words import CpuidWord, positions
from vcpuid.fleet import packing
from vcpuid.fleet.kept import Question
from vcpuid.fleet.members import Census, Group, hosts_of
from vcpuid.fleet.outcome import CpuOutcome, Table, outcome, unlike
from vcpuid.qemu.catalog import Catalog
from vcpuid.setup import Setup
from vcpuid.told.facts import Fact, NotTold

_XSAVE = 0xD

OUTCOME = Question("outcome", outcome, packing.outcome, packing.outcome_of)

CUT = "its cores are of several kinds, and its snapshot describes one of them: cpuid -r describes all"
"""What is to be said of a class that is not whole."""


@dataclass(frozen=True)
class Proof:
    """What became of a -cpu on one class, or on one kind of its cores."""

    group: Group
    found: CpuOutcome = field(repr=False)

    @property
    def runs(self) -> bool | None:
        """Whether QEMU gives all that is asked for, without a warning; None where that is not told."""
        return None if self.found.runs and not self.group.kind.whole else self.found.runs

    @property
    def why(self) -> str | None:
        """Say in a sentence why it does not run, or what is not told."""
        return self.found.why if self.found.why is not None or self.group.kind.whole else f"not told: {CUT}"

    @property
    def told(self) -> bool:
        """Whether all of the guest's CPU is told, be it that QEMU refuses it."""
        return self.group.kind.whole and not self.not_told and not self.found.open and self.found.known

    @property
    def depends(self) -> tuple[Fact, ...]:
        """The facts on which hangs what is not told."""
        facts = tuple(dict.fromkeys(fact for open_ in self.not_told for fact in open_.depends))
        return facts or self.found.untold

    @property
    def not_told(self) -> tuple[NotTold, ...]:
        """What hangs on facts that the class does not tell."""
        return self.found.not_told

    @property
    def table(self) -> Table | None:
        """The guest's CPU; None where QEMU does not start."""
        return self.found.table

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = [open_.as_dict() for open_ in self.not_told]
        open_words = sorted(map(str, self.found.open))
        return {**self.group.as_dict(), "runs": self.runs, "why": self.why, "not_told": told, "open": open_words}


class Proven:
    """What holds a -cpu against all classes of a fleet."""

    proofs: tuple[Proof, ...]
    census: Census

    @property
    def runs(self) -> bool | None:
        """Whether it runs on every member; None where that is not told of some and not denied of any, or where some cannot be read."""
        told = [proof.runs for proof in self.proofs]
        return False if False in told else None if None in told or self.census.unread else True

    @cached_property
    def differs(self) -> tuple[str, ...]:
        """The words in which the guest's CPU is not the same on all that start it, as far as these tell."""
        return tuple(sorted(map(str, differing([(proof.table, proof.found.open) for proof in self.proofs if proof.table is not None]))))

    @property
    def alike(self) -> bool | None:
        """Whether the guest's CPU is the same on all; None where that hangs on what some do not tell, or some cannot be read."""
        if self.differs:
            return False
        return True if self.proofs and not self.census.unread and all(proof.told for proof in self.proofs) else None


def prove(cpu: str, census: Census, setups: Sequence[Setup]) -> tuple[Proof, ...]:
    """Work the path of a -cpu on each class, on each kind of its cores; `setups` are those of the census's cores, in their order."""
    return tuple(Proof(group, found) for group, found in zip(census.cores, OUTCOME.ask(cpu, setups), strict=True))


def running(proofs: Iterable[Proof]) -> int:
    """Count the hosts on which a -cpu runs, on whichever of their cores."""
    given = list(proofs)
    failing = {proof.group.kind.id for proof in given if not proof.runs}
    return hosts_of(proof.group for proof in given if proof.group.kind.id not in failing)


_LISTED = 4


def listed_words(words: Collection[Word]) -> str:
    """Name words in a sentence: the first, and how many more there are."""
    names = sorted(map(str, words))
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


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
