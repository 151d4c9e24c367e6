"""Why a feature of a guest's CPU is listed as it is: what libvirt decided, rule by rule, and the same as decisions about bits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from vcpuid.cpuid.words import Bit
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.definition import CpuDef, Policy
from vcpuid.reasons import Action, Decision, Rule

_FRAGMENT = re.compile(r"<feature policy='([a-z]+)'/>")


def in_xml(remedy: str | None, feature: str) -> str | None:
    """Write a feature's name into a remedy that is a piece of XML."""
    return None if remedy is None else _FRAGMENT.sub(rf"<feature policy='\1' name='{feature}'/>", remedy)


class Ruling(NamedTuple):
    """One thing that libvirt decided: a rule gave a feature that policy, or dropped it (None). `cause` is the model that led to it."""

    feature: str
    policy: Policy | None
    rule: Rule
    cause: str | None = None

    @property
    def reason(self) -> str:
        """The rule's reason, with the cause in its place."""
        return self.rule.reason.replace("{cause}", self.cause or "another")

    @property
    def remedy(self) -> str | None:
        """The rule's remedy, as XML of this feature."""
        return in_xml(self.rule.remedy, self.feature)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = {"feature": self.feature, "policy": self.policy, "rule": self.rule.id}
        return {**told, "reason": self.reason, "remedy": self.remedy}


class Journal:
    """What was decided about one CPU, in order; the last note about a feature is the one that stands."""

    __slots__ = ("model", "rulings")

    def __init__(self) -> None:
        self.rulings: list[Ruling] = []
        self.model: tuple[str, Rule] | None = None

    def copy(self) -> Journal:
        """Return another one with the same notes, to go on in."""
        found = Journal()
        found.rulings, found.model = list(self.rulings), self.model
        return found

    def note(self, feature: str, policy: Policy | None, rule: Rule, cause: str | None = None) -> None:
        """Write one thing down."""
        self.rulings.append(Ruling(feature, policy, rule, cause))

    def chose(self, model: str, rule: Rule) -> None:
        """Write down the model and why it is that one."""
        self.model = model, rule

    def listed(self, cpu: CpuDef, rule: Rule, cause: str | None = None) -> None:
        """Write down all features of a CPU's list."""
        self.rulings += [Ruling(name, policy, rule, cause) for name, policy in cpu.features.items()]

    def of(self, feature: str) -> list[Ruling]:
        """Return what was decided about a feature."""
        return [note for note in self.rulings if note.feature == feature]


def decisions(rulings: Iterable[Ruling], known: CpuMap) -> Iterator[Decision]:
    """Give them as decisions about bits: a feature that is required or forced is set, any other is cleared, a dropped one as well."""
    for feature, policy, rule, _ in rulings:
        place = known.numbers.get(feature)
        if place is None or policy == "optional":
            continue
        bit: Bit = known.bits[place]
        on = policy in ("require", "force")
        yield Decision(bit.word, bit.mask, bit.mask if on else 0, Action.SET if on else Action.CLEARED, rule)
