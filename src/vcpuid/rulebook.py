"""Every rule of every party, to be looked up by id or by text: what it says, where it comes from, how it is known.

    look_up("kvm.vmx.nested")     that rule
    look_up("nested")             the rules that have the word in their id, their reason or their source

Hazards are rules as well, of vcpuid itself: what in a table hurts a guest. They have no source but themselves.
"""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from vcpuid import answers, hazards, kvm, libvirt, linux, qemu, vmm
from vcpuid.hazards import HazardRule, Severity
from vcpuid.reasons import Rule
from vcpuid.reasons.history import NOTHING, History, history, party_of
from vcpuid.reasons.registry import entered

SCHEMA = "vcpuid/rules/1"
"""The form of `report`."""

HAZARDS = "hazards"
"""The party under which hazards are listed."""

_PACKAGES = (linux, kvm, qemu, libvirt, vmm, answers, hazards)
"""What has rules: each of their modules is imported before the rules are listed."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of one rule. A hazard has a `severity`, and no `source`; its reason is what happens to the guest."""

    id: str
    party: str
    reason: str
    source: str | None
    remedy: str | None
    history: History
    severity: Severity | None = None

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rule": self.id,
            "party": self.party,
            "reason": self.reason,
            "source": self.source,
            "remedy": self.remedy,
            "severity": None if self.severity is None else self.severity.value,
            **self.history.as_dict(),
            "evidence": self.history.provenance.evidence,
            "capture": self.history.capture,
        }


def report(cards: Iterable[Card]) -> dict[str, object]:
    """Put rules into a document for programs."""
    return {"schema": SCHEMA, "rules": [card.as_dict() for card in cards]}


@cache
def all_rules() -> tuple[Card, ...]:
    """Give every rule: those of the parties in the order of the path, then hazards, each party's by id."""
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    cards = [card(rule) for rule in entered() if isinstance(rule, Rule | HazardRule)]
    return tuple(sorted(cards, key=lambda card: (card.party == HAZARDS, _place(card.party), card.id)))


def rule(identity: str) -> Rule:
    """Return a party's rule by its id; KeyError where there is none."""
    all_rules()
    found = next((one for one in entered() if isinstance(one, Rule) and one.id == identity), None)
    if found is None:
        raise KeyError(identity)
    return found


def card(rule: Rule | HazardRule) -> Card:
    """Put together what is known of a rule."""
    if isinstance(rule, HazardRule):
        return Card(rule.id, HAZARDS, rule.consequence, None, rule.fix, NOTHING, rule.severity)
    return Card(rule.id, party_of(rule.id), rule.reason.replace("{cause}", "another feature"), rule.source, rule.remedy, history(rule))


def look_up(text: str) -> tuple[Card, ...]:
    """Find the rule of that id; else every rule that has all words of the text in its id, its reason or its source, in any case."""
    cards = all_rules()
    if exact := tuple(card for card in cards if card.id == text):
        return exact
    words = text.casefold().split()
    return tuple(card for card in cards if words and all(word in _searched(card) for word in words))


def near(text: str) -> tuple[str, ...]:
    """Name the rules whose ids are nearest to a text, the nearest first; none where nothing is near."""
    return tuple(difflib.get_close_matches(text[:60], [card.id for card in all_rules()], n=3, cutoff=0.6))


def _searched(card: Card) -> str:
    return f"{card.id} {card.reason} {card.source or ''}".casefold()


def _place(party: str) -> int:
    parties = ("silicon", "linux", "kvm", "qemu", "libvirt")
    return parties.index(party) if party in parties else len(parties)
