"""Every rule under its id: an id names one rule, whichever party has it, for as long as the process runs."""

from __future__ import annotations

from typing import Protocol


class Identified(Protocol):
    """Whatever is looked up by an id."""

    @property
    def id(self) -> str:
        """The id: the party, then what it is about, joined by dots ("kvm.vmx.nested")."""


_BY_ID: dict[str, Identified] = {}


def enter(rule: Identified) -> None:
    """Note a rule under its id; one that is equal to the rule noted may come again. Raises ValueError where another has the id."""
    if _BY_ID.setdefault(rule.id, rule) != rule:
        raise ValueError(f"two rules are called {rule.id}")


def entered() -> tuple[Identified, ...]:
    """Return the rules of all modules imported so far; `vcpuid.rulebook` imports those that have rules first."""
    return tuple(_BY_ID.values())
