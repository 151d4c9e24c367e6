"""Who costs what: which features some members could give and others lack, and by whose doing.

Each feature that any class offers and not all do is laid to exactly the classes that lack it: those are the smallest set whose leaving, or
whose mending, wins it. Features with the same culprits and the same cause are told together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.answers.explain import explain
from vcpuid.answers.explanation import Explanation, Reason
from vcpuid.answers.fate import NO_HARDWARE
from vcpuid.cpuid import Bit
from vcpuid.cpuid.names import Feature, by_bit
from vcpuid.cpuid.words import positions
from vcpuid.errors import VcpuidError
from vcpuid.fleet import words
from vcpuid.fleet.costs import ALL
from vcpuid.fleet.members import FEW, Census, Group, hosts_of, spoken
from vcpuid.fleet.mending import newer_kernel, twin
from vcpuid.fleet.software import eldest, newest, remarks, settled
from vcpuid.fleet.wins import Win, wins
from vcpuid.path.pipeline import Path, resolve
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.reasons import Action
from vcpuid.setup import Setup, Stack
from vcpuid.told.completions import untold
from vcpuid.told.facts import Fact, listed

_FEW_OTHERS = 3


_SILENT = "whether the host's processor has it is not told"


class Loss(NamedTuple):
    """Features that a baseline lacks because of some of `all` classes: `hosts` is how many members these are.

    `mends` are what may give them to the first of the culprits, the surest first: what a host with the same processor has otherwise, a
    newer kernel, what the rule advises. `first` is the first party that is known not to have them, where no rule is known to be the cause.
    """

    features: tuple[str, ...]
    culprits: tuple[Group, ...]
    all: tuple[Group, ...]
    hosts: int
    cause: Reason | None
    mends: tuple[str, ...] = ()
    first: str | None = None

    @property
    def who(self) -> str:
        """Name the culprits in a sentence."""
        classes = {group.kind.id for group in self.culprits}
        others = [group for group in self.all if group.kind.id not in classes]
        if self.hosts > FEW and 0 < hosts_of(others) <= _FEW_OTHERS:
            return f"all but {spoken(others)}"
        return spoken(self.culprits)

    @property
    def party(self) -> str | None:
        """The party that takes the features from the culprits, or never had them; None where that is not told."""
        return self.first if self.cause is None else self.cause.party

    @property
    def why(self) -> str | None:
        """Why it does, as of the first of the culprits."""
        if self.cause is not None:
            return self.cause.text
        return None if self.first is None else NO_HARDWARE.reason if self.first == "silicon" else _SILENT

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "hosts": self.hosts,
            "who": self.who,
            "features": list(self.features),
            "party": self.party,
            "why": self.why,
            "rule": None if self.cause is None else self.cause.rule.id,
            "mends": list(self.mends),
            "classes": [group.as_dict() for group in self.culprits],
        }


class Untold(NamedTuple):
    """Features of which some classes do not tell whether they can give them, and the facts on which that depends."""

    features: tuple[str, ...]
    groups: tuple[Group, ...]
    depends: tuple[Fact, ...]

    @property
    def why(self) -> str:
        """Say in a sentence on what it depends."""
        return f"depends on {listed(self.depends)}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "features": list(self.features), "hosts": hosts_of(self.groups), "who": spoken(self.groups),
            "depends": [fact.as_dict() for fact in self.depends], "classes": [group.as_dict() for group in self.groups],
        }  # fmt: skip


@dataclass(frozen=True)
class Blame:
    """The losses, those of the fewest hosts first; `shared` is how many features all members have, `offered` how many any has for certain.

    What a member does not tell counts neither as lacking there nor as offered: it is among `not_told`. `wins` are the smallest sets whose
    leaving, or whose mending, wins a better named model for the others.
    """

    census: Census
    setups: tuple[Setup, ...]
    losses: tuple[Loss, ...]
    shared: int
    offered: int
    not_told: tuple[Untold, ...] = ()
    wins: tuple[Win, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of the software on any of the classes."""
        return remarks(self.census, self.setups)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": "vcpuid/fleet-blame/1",
            "vmm": eldest(self.setups).vmm.as_dict(),
            "machine": self.setups[0].machine,
            "remarks": list(self.remarks),
            **self.census.as_dict(),
            "shared": self.shared,
            "offered": self.offered,
            "losses": [loss.as_dict() for loss in self.losses],
            "not_told": [unknown.as_dict() for unknown in self.not_told],
            "wins": [win.as_dict() for win in self.wins],
        }


def blame(census: Census, stack: Stack | None = None) -> Blame:
    """Lay each feature that not all members can give to those that lack it; `stack` as for a baseline, and so are the errors raised."""
    setups = settled(census, stack)
    tables = catalog(newest(setups).vmm.tables)
    offered = [words.worthwhile(words.offered(setup)) for setup in setups]
    known = [words.worthwhile(words.known(setup)) for setup in setups]
    every, common = words.joined(known), words.meet(offered)
    by_lack: dict[tuple[int, ...], words.Words] = {}
    for name, mask in words.without(every, common).items():
        for position in positions(mask):
            lacking = tuple(at for at, given in enumerate(offered) if not given.get(name, 0) >> position & 1)
            of_these = by_lack.setdefault(lacking, {})
            of_these[name] = of_these.get(name, 0) | 1 << position
    ways = _Ways(census.cores, setups, known, stack)
    losses = [loss for lacking, lost in by_lack.items() for loss in _losses(lacking, lost, census, setups, tables, ways)]
    losses.sort(key=lambda loss: (loss.hosts, -len(loss.features), loss.features))
    open_ = [tuple(words.names(words.without(*both), tables)) for both in zip(offered, known, strict=True)]
    shared = words.count(words.meet((common, every)))
    unknown, won = tuple(_unknown(open_, census, setups)), wins(census.cores, setups, catalog(eldest(setups).vmm.tables))
    return Blame(census, setups, tuple(losses), shared, words.count(every), unknown, won)


class _Ways:
    """What may give features to a class."""

    def __init__(self, groups: Sequence[Group], setups: Sequence[Setup], known: Sequence[words.Words], stack: Stack | None) -> None:
        self._groups, self._setups, self._known, self._stack = groups, setups, known, stack

    def of(self, at: int, lost: words.Words, found: Explanation) -> Iterator[str]:
        """Give them for the class at a place, the surest first; `found` explains one of the features."""
        group, by_rule = self._groups[at], found.chain[-1].party if found.chain else None
        others = [
            (other, known)
            for place, (other, known, setup) in enumerate(zip(self._groups, self._known, self._setups, strict=True))
            if place != at and "kernel" not in setup.assumed
        ]
        newer = newer_kernel(by_rule, group, self._setups[at], self._stack, lost)
        ways = (twin(by_rule or _first(found), group, others, lost), newer, found.remedy)
        yield from (way for way in ways if way is not None)


def _unknown(open_: Sequence[tuple[str, ...]], census: Census, setups: Sequence[Setup]) -> Iterator[Untold]:
    """Put together the classes that do not tell of the same features by the same facts."""
    found: dict[tuple[tuple[str, ...], tuple[Fact, ...]], list[Group]] = {}
    for features, group, setup in zip(open_, census.cores, setups, strict=True):
        if features:
            found.setdefault((features, untold(setup)), []).append(group)
    for (features, facts), groups in found.items():
        yield Untold(features, tuple(groups), facts)


def _losses(
    lacking: tuple[int, ...], lost: words.Words, census: Census, setups: tuple[Setup, ...], tables: Catalog, ways: _Ways,
) -> Iterator[Loss]:  # fmt: skip
    """Tell the features of one set of culprits by their causes on the first of these, and by what may give them."""
    culprits = tuple(census.cores[at] for at in lacking)
    path = _path(setups[lacking[0]])
    names: dict[tuple[str, ...], list[str]] = {}
    reasons: dict[tuple[str, ...], Reason | None] = {}
    firsts: dict[tuple[str, ...], str | None] = {}
    mends: dict[tuple[str, ...], dict[str, None]] = {}
    for feature, name in _named(lost, tables):
        found = None if path is None else explain(feature, path)
        cause = None if found is None else _cause(found)
        flag = tables.flags[name]
        way = () if found is None else tuple(ways.of(lacking[0], {flag.word: flag.mask & lost.get(flag.word, 0)}, found))
        first = None if found is None else _first(found)
        key = (first or "", "", *way) if cause is None else (cause.party, cause.rule.id, *way)
        names.setdefault(key, []).append(name)
        reasons.setdefault(key, cause)
        firsts.setdefault(key, first)
        mends.setdefault(key, {}).update(dict.fromkeys(way))
    for key, own in names.items():
        yield Loss(tuple(dict.fromkeys(own)), culprits, census.groups, hosts_of(culprits), reasons[key], tuple(mends[key]), firsts[key])


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


def _first(found: Explanation) -> str | None:
    """Return the first party that is known not to have the feature."""
    return next((stage.party for stage in found.stages if stage.value is False), None)


def _cause(found: Explanation) -> Reason | None:
    """Return the first cause for which the bit is off; what turned it on before is none."""
    taken = [reason for reason in found.chain if reason.action is not Action.SET]
    return taken[-1] if taken else None
