"""What can have taken a feature away where no host is told: the rules of Linux, KVM and QEMU that have been seen to clear it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

from vcpuid import data
from vcpuid.answers.explanation import MIRRORS
from vcpuid.answers.fate import NO_HARDWARE
from vcpuid.cpuid import CpuidWord, bits
from vcpuid.cpuid.names import Feature, find, short_place
from vcpuid.cpuid.words import range_of
from vcpuid.reasons import Rule
from vcpuid.reasons.history import history

_HYPERVISOR = 0x40000000
_VENDORS = {"I": "Intel", "A": "AMD", "O": "others"}


@dataclass(frozen=True)
class Cause:
    """A rule that can clear a feature: `text` says how, `vendors` on whose processors it was seen to."""

    feature: str
    rule: Rule
    text: str
    vendors: tuple[str, ...]

    @property
    def party(self) -> str:
        """Whose rule it is."""
        return self.rule.id.partition(".")[0]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "feature": self.feature, "party": self.party, "rule": self.rule.id, "why": self.text, "source": self.rule.source,
            "remedy": self.rule.remedy, "vendors": list(self.vendors), **history(self.rule).as_dict(),
        }  # fmt: skip


def possible(feature: Feature) -> tuple[Cause, ...]:
    """Give what can keep a feature away: first of all a processor without it, then the rules that can clear it; none where none is known.

    The rule that clears the fewest features comes before others, since it says most: a command line with clearcpuid= can clear any.
    """
    word = feature.place.word
    in_hardware = isinstance(word, CpuidWord) and range_of(word.function) != _HYPERVISOR and feature.bit not in (*MIRRORS, bits.HYPERVISOR)
    lacking = (Cause(feature.name, NO_HARDWARE, NO_HARDWARE.reason, tuple(_VENDORS.values())),) if in_hardware else ()
    rows = sorted(_table().get(short_place(feature.place), ()), key=lambda row: _reach()[row[0]])
    return (*lacking, *(_cause(feature, *row) for row in rows))


def _cause(feature: Feature, rule_id: str, vendors: str, cause: str) -> Cause:
    from vcpuid.rulebook import rule

    found = rule(rule_id)
    text = found.reason.format(cause=find(cause).name) if cause else found.reason
    return Cause(feature.name, found, text, tuple(_VENDORS[letter] for letter in vendors))


@cache
def _table() -> dict[str, list[tuple[str, str, str]]]:
    table: dict[str, list[tuple[str, str, str]]] = {}
    for rule, vendors, cause, places in data.load("clearing")["rows"]:
        for place in places.split():
            table.setdefault(place, []).append((rule, vendors, cause))
    return table


@cache
def _reach() -> Counter[str]:
    """Count the features that each rule can clear."""
    return Counter(rule for rows in _table().values() for rule in {row[0] for row in rows})
