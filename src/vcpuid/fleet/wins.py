"""The smallest sets of members whose leaving, or whose mending, wins a better named model for the others.

A model runs as it is on all but the classes that lack a feature of it: that set is the smallest whose leaving wins the model. Of all models
those are told that no set of fewer hosts wins as good a one for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vcpuid.fleet import words
from vcpuid.fleet.costs import guest_of
from vcpuid.fleet.members import Group, hosts_of, spoken
from vcpuid.fleet.software import eldest
from vcpuid.qemu.catalog import Catalog
from vcpuid.setup import Setup
from vcpuid.software.cpu import software_cpu
from vcpuid.software.psabi import level


class Obstacle(NamedTuple):
    """A class that stands in the way of a model, and the features of it that the class lacks, by QEMU's names."""

    group: Group
    lacks: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.group.as_dict(), "lacks": list(self.lacks)}


class Win(NamedTuple):
    """A model that runs as it is on all others once `obstacles` have left or have what they lack.

    `features` counts the model's, of which `more` are more than `than` has, the best model that runs on all now, None where none does;
    `level` is its psABI level.
    """

    model: str
    features: int
    more: int
    than: str | None
    level: int
    obstacles: tuple[Obstacle, ...]

    @property
    def hosts(self) -> int:
        """How many hosts stand in the way."""
        return hosts_of(obstacle.group for obstacle in self.obstacles)

    @property
    def who(self) -> str:
        """Name them in a sentence."""
        return spoken([obstacle.group for obstacle in self.obstacles])

    @property
    def lacks(self) -> tuple[str, ...]:
        """All that any of them lacks."""
        return tuple(dict.fromkeys(name for obstacle in self.obstacles for name in obstacle.lacks))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "model": self.model, "features": self.features, "more": self.more, "than": self.than, "psabi_level": self.level,
            "hosts": self.hosts, "who": self.who, "lacks": list(self.lacks), "classes": [obstacle.as_dict() for obstacle in self.obstacles],
        }  # fmt: skip


def wins(groups: Sequence[Group], setups: Sequence[Setup], tables: Catalog) -> tuple[Win, ...]:
    """Find what the fewest hosts stand in the way of, these first; each win is a better model than the one before."""
    certain = [words.worthwhile(words.known(setup)) for setup in setups]
    hoped = [words.worthwhile(words.offered(setup)) for setup in setups]
    found: list[tuple[int, int, str, dict[int, words.Words]]] = []
    for model in tables.models.values():
        if model.deprecated:
            continue
        wanted = words.worthwhile(words.wanted(eldest(setups), model.name))
        lacking = {at: rest for at, offered in enumerate(hoped) if (rest := words.without(wanted, offered))}
        told = all(at in lacking or not words.without(wanted, known) for at, known in enumerate(certain))
        if told and len(lacking) < len(setups):
            features = words.count(words.worthwhile(model.features))
            found.append((hosts_of(groups[at] for at in lacking), -features, model.name, lacking))
    return tuple(_better(sorted(found, key=lambda row: row[:3]), groups, setups, tables))


def _better(
    found: Sequence[tuple[int, int, str, dict[int, words.Words]]], groups: Sequence[Group], setups: Sequence[Setup], tables: Catalog
) -> Iterator[Win]:
    now, than = max(((-negative, name) for hosts, negative, name, _ in found if not hosts), key=lambda row: row[0], default=(0, None))
    best = now
    for hosts, negative, name, lacking in found:
        if hosts and -negative > best:
            best = -negative
            runs = next(setup for at, setup in enumerate(setups) if at not in lacking)
            table = guest_of(name, runs)
            obstacles = (Obstacle(groups[at], tuple(words.names(rest, tables))) for at, rest in lacking.items())
            yield Win(name, best, best - now, than, 0 if table is None else level(software_cpu(table)), tuple(obstacles))
