"""What a table for a guest could be of which somebody has only a dump: one that stops early, or from which lines were lost.

A table that was recorded on its way to KVM, or that a party made, is whole: a leaf that is not in it is not there. What a program read of a
guest's CPUID tells of itself which leaves there are, as a host's does, by the rules of `vcpuid.told.completions`; so does a part of what
KVM supports, where that is what the guest is given.
"""

from __future__ import annotations

from functools import lru_cache

from vcpuid.cpuid import CpuidTable, Snapshot, xfeatures
from vcpuid.cpuid.parts import for_guest, with_cpuid
from vcpuid.setup import Setup
from vcpuid.told.completions import missing_leaves, nameless, with_facts
from vcpuid.told.facts import TABLE, Fact
from vcpuid.told.hosts import Completion

_XSAVE = 0xD


def unnamed(dump: Snapshot) -> tuple[Fact, ...]:
    """Name those of leaves 0 and 1 that a dump of a table lacks: without them nobody can tell which leaves it should have."""
    return _of_table(nameless(dump))


def missing(dump: Snapshot) -> tuple[Fact, ...]:
    """Name the leaves that a dump of a table should have and has not; where it lacks leaf 0 or 1, that."""
    return unnamed(dump) or _of_table(missing_leaves(dump))


@lru_cache(maxsize=8)
def completions(dump: Snapshot, xcr0: int) -> tuple[Completion, ...]:
    """Give the tables that a dump could be of, as the RAW lines of hosts; none where it is whole, and none without leaves 0 and 1.

    `xcr0` are the components that the host's KVM lets a guest have: a table with others it may refuse, and no guest has that.
    """
    leaves = () if unnamed(dump) else missing_leaves(dump)
    made = with_facts(Setup.of(dump), leaves, batched=False)
    whole = for_guest(dump).get(_XSAVE) is not None
    return tuple(
        completion._replace(
            facts=_of_table(completion.facts), setup=completion.setup if whole else _within(completion.setup, xcr0 | xfeatures.LEGACY)
        )
        for completion in made
    )


def _within(setup: Setup, components: int) -> Setup:
    """Return a table whose sub-leaf 0 of leaf 0xD lists no more than these components."""
    entries = (
        entry._replace(eax=entry.eax & components, edx=entry.edx & components >> 32) if entry[:2] == (_XSAVE, 0) else entry
        for entry in for_guest(setup.host)
    )
    return setup.with_host(with_cpuid(setup.host, CpuidTable(entries)))


def _of_table(facts: tuple[Fact, ...]) -> tuple[Fact, ...]:
    return tuple(fact._replace(of=TABLE) for fact in facts)
