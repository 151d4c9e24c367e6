"""What in a fleet's CPU will hurt on some of its hosts: what `vcpuid check` finds on each class, put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vcpuid import hazards
from vcpuid.fleet.members import Group, hosts_of, spoken
from vcpuid.hazards.rule import Hazard, Severity
from vcpuid.path.pipeline import Path, tried
from vcpuid.setup import Setup
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


def dangers(cpu: str, members: Iterable[tuple[Group, Setup]]) -> tuple[Danger, ...]:
    """Find what hurts a guest with this -cpu on any of some classes: the gravest first, of these what most hosts have."""
    found: dict[Hazard, list[Group]] = {}
    for group, setup in members:
        path = tried(cpu, setup, named())
        for hazard in hazards.of_path(path) if isinstance(path, Path) else ():
            found.setdefault(hazard, []).append(group)
    every = (Danger(hazard, tuple(groups)) for hazard, groups in found.items())
    order = list(Severity)
    return tuple(sorted(every, key=lambda one: (not one.grave, order.index(one.hazard.rule.severity), -one.hosts)))
