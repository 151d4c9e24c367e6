"""What in a fleet's CPU will hurt on some of its hosts: what `vcpuid check` finds on each class, put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vcpuid import hazards
from vcpuid.fleet import packing
from vcpuid.fleet.kept import Question
from vcpuid.fleet.members import Group, hosts_of, spoken
from vcpuid.hazards.rule import Hazard, Severity
from vcpuid.path.pipeline import Path, tried
from vcpuid.setup import Setup
from vcpuid.told.facts import Fact
from vcpuid.vmm.known import named


@dataclass(frozen=True)
class Danger:
    """A hazard, and the classes on which the guest has it."""

    hazard: Hazard
    groups: tuple[Group, ...]

    @property
    def hosts(self) -> int:
        """On how many hosts."""
        return hosts_of(self.groups)

    @property
    def grave(self) -> bool:
        """Whether it is certain, and more than good to know."""
        return bool(self.hazard.subjects) and not self.hazard.depends and self.hazard.rule.severity is not Severity.NOTE

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.hazard.as_dict(), "hosts": self.hosts, "who": spoken(self.groups)}


class Found(NamedTuple):
    """A hazard with its rule's id, as it goes from process to process and into the cache."""

    rule: str
    subjects: tuple[str, ...]
    depends: tuple[Fact, ...]


def _hurting(cpu: str, setup: Setup) -> tuple[Found, ...]:
    path = tried(cpu, setup, named())
    found = hazards.of_path(path) if isinstance(path, Path) else ()
    return tuple(Found(hazard.rule.id, hazard.subjects, hazard.depends) for hazard in found)


def _packed(found: Iterable[Found]) -> object:
    return [[one.rule, one.subjects, list(map(packing.fact, one.depends))] for one in found]


def _unpacked(told: Any) -> tuple[Found, ...]:
    return tuple(Found(rule, tuple(subjects), tuple(map(packing.fact_of, facts))) for rule, subjects, facts in told)


HAZARDS = Question("hazards", _hurting, _packed, _unpacked)
_RULES = {rule.id: rule for rule in hazards.RULES}


def dangers(cpu: str, groups: Sequence[Group], setups: Sequence[Setup]) -> tuple[Danger, ...]:
    """Find what hurts a guest with this -cpu on any of some classes: the gravest first, of these what most hosts have."""
    found: dict[Found, list[Group]] = {}
    for group, findings in zip(groups, HAZARDS.ask(cpu, setups), strict=True):
        for one in findings:
            found.setdefault(one, []).append(group)
    every = (Danger(Hazard(_RULES[one.rule], one.subjects, one.depends), tuple(having)) for one, having in found.items())
    return tuple(sorted(every, key=lambda one: (not one.grave, one.hazard.rule.severity.rank, -one.hosts)))
