"""Who costs what: which features some members could give and others lack, and by whose doing.

Each feature that any class offers and not all do is laid to exactly the classes that lack it: those are the smallest set whose leaving, or
whose mending, wins it. Features with the same culprits and the same cause are told together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.answers.explain import Reason, explain
from vcpuid.cpuid import Bit
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.cpuid.words import positions
from vcpuid.errors import VcpuidError
from vcpuid.fleet import words
from vcpuid.fleet.baseline import remarks, settled, worthwhile
from vcpuid.fleet.costs import ALL
from vcpuid.fleet.members import FEW, Census, Group, spoken
from vcpuid.path.pipeline import Path, resolve
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.reasons import Action
from vcpuid.setup import Setup, Stack

_FEW_OTHERS = 3


class Loss(NamedTuple):
    """Features that a baseline lacks because of some of `all` classes: `hosts` is how many members these are."""

    features: tuple[str, ...]
    culprits: tuple[Group, ...]
    all: tuple[Group, ...]
    hosts: int
    cause: Reason | None

    @property
    def who(self) -> str:
        """Name the culprits in a sentence."""
        others = [group for group in self.all if group not in self.culprits]
        if self.hosts > FEW and 0 < sum(group.hosts for group in others) <= _FEW_OTHERS:
            return f"all but {spoken(others)}"
        return spoken(self.culprits)

    @property
    def party(self) -> str | None:
        """The party that takes the features from the culprits, or never had them; None where that is not told."""
        return None if self.cause is None else self.cause.party

    @property
    def why(self) -> str | None:
        """Why it does, as of the first of the culprits."""
        return None if self.cause is None else self.cause.text

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "hosts": self.hosts,
            "who": self.who,
            "features": list(self.features),
            "party": self.party,
            "why": self.why,
            "rule": None if self.cause is None else self.cause.rule.id,
            "classes": [group.as_dict() for group in self.culprits],
        }


@dataclass(frozen=True)
class Blame:
    """The losses, those of the fewest hosts first; `shared` is how many features all members have, `offered` how many any has for certain.

    What a member does not tell counts neither as lacking there nor as offered.
    """

    census: Census
    setups: tuple[Setup, ...]
    losses: tuple[Loss, ...]
    shared: int
    offered: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": "vcpuid/fleet-blame/1",
            "vmm": self.setups[0].vmm.as_dict(),
            "machine": self.setups[0].machine,
            "remarks": list(remarks(self.setups)),
            **self.census.as_dict(),
            "shared": self.shared,
            "offered": self.offered,
            "losses": [loss.as_dict() for loss in self.losses],
        }


def blame(census: Census, stack: Stack | None = None) -> Blame:
    """Lay each feature that not all members can give to those that lack it; `stack` as for a baseline, and so are the errors raised."""
    setups = settled(census, stack)
    tables = catalog(setups[0].vmm.tables)
    offered = [worthwhile(words.offered(setup)) for setup in setups]
    every, common = words.joined(worthwhile(words.known(setup)) for setup in setups), words.meet(offered)
    by_lack: dict[tuple[int, ...], words.Words] = {}
    for name, mask in words.without(every, common).items():
        for position in positions(mask):
            lacking = tuple(at for at, given in enumerate(offered) if not given.get(name, 0) >> position & 1)
            of_these = by_lack.setdefault(lacking, {})
            of_these[name] = of_these.get(name, 0) | 1 << position
    losses = [loss for lacking, lost in by_lack.items() for loss in _losses(lacking, lost, census, setups, tables)]
    losses.sort(key=lambda loss: (loss.hosts, -len(loss.features), loss.features))
    return Blame(census, setups, tuple(losses), words.count(words.meet((common, every))), words.count(every))


def _losses(lacking: tuple[int, ...], lost: words.Words, census: Census, setups: tuple[Setup, ...], tables: Catalog) -> Iterator[Loss]:
    """Tell the features of one set of culprits by their causes on the first of these."""
    culprits = tuple(census.groups[at] for at in lacking)
    path = _path(setups[lacking[0]])
    causes: dict[tuple[str, str] | None, list[str]] = {}
    reasons: dict[tuple[str, str] | None, Reason | None] = {}
    for feature, name in _named(lost, tables):
        cause = None if path is None else _cause(feature, path)
        key = None if cause is None else (cause.party, cause.rule.id)
        causes.setdefault(key, []).append(name)
        reasons.setdefault(key, cause)
    for key, names in causes.items():
        yield Loss(tuple(dict.fromkeys(names)), culprits, census.groups, sum(group.hosts for group in culprits), reasons[key])


def _named(lost: words.Words, tables: Catalog) -> Iterator[tuple[Feature, str]]:
    for name, mask in lost.items():
        row = tables.by_name[name]
        for position in positions(mask):
            if position in row.names:
                bit = Bit(row.word, position)
                yield by_bit(bit) or Feature(bit), row.names[position]


def _path(setup: Setup) -> Path | None:
    try:
        return resolve(ALL, host=setup)
    except VcpuidError:
        return None


def _cause(feature: Feature, path: Path) -> Reason | None:
    """Return the first cause for which the bit is off; what turned it on before is none."""
    taken = [reason for reason in explain(feature, path).chain if reason.action is not Action.SET]
    return taken[-1] if taken else None
