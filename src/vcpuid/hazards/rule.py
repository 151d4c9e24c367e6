"""What a hazard is: a rule row, and a finding of it in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from vcpuid.hazards.view import View
from vcpuid.reasons.registry import enter
from vcpuid.told.facts import Fact


class Severity(Enum):
    """How bad it is: a guest that uses what it is told fails; it may fail or lose something; good to know."""

    BREAKS = "breaks"
    RISK = "risk"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class HazardRule:
    """One way in which a table hurts.

    `detect` yields what it is about, one text a finding ("rtm", "avx2 needs avx"); `consequence` says what happens, `fix` what to do.

    Raises ValueError where another rule has the id.
    """

    id: str
    severity: Severity
    detect: Callable[[View], Iterable[str]]
    consequence: str
    fix: str

    def __post_init__(self) -> None:
        enter(self)


@dataclass(frozen=True, slots=True)
class Hazard:
    """A rule that applies to a table; `subjects` are its findings.

    With `depends`, whether they are there hangs on these facts, which the host does not tell.
    """

    rule: HazardRule
    subjects: tuple[str, ...]
    depends: tuple[Fact, ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether a guest that believes its table is certain to fail."""
        return self.rule.severity is Severity.BREAKS and not self.depends

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rule": self.rule.id,
            "severity": self.rule.severity.value,
            "subjects": list(self.subjects),
            "consequence": self.rule.consequence,
            "remedy": self.rule.fix,
            "depends": [fact.as_dict() for fact in self.depends],
        }
