"""What a hazard is: a rule row, and a finding of it in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from vcpuid.reasons.registry import enter
from vcpuid.told.facts import Fact
from vcpuid.told.facts import remedy as how_to_tell


class Severity(Enum):
    """How bad it is: a guest that uses what it is told fails; it may fail or lose something; good to know."""

    BREAKS = "breaks"
    RISK = "risk"
    NOTE = "note"

    @property
    def rank(self) -> int:
        """Its place among all, the worst first."""
        return list(Severity).index(self)


class Looks(Enum):
    """What a rule looks at: at what was asked of QEMU alone, at the guest's table, at the host as well, or at a VMM's recorded calls."""

    ASKED = "asked"
    TABLE = "table"
    HOST = "host"
    RECORDING = "recording"


@dataclass(frozen=True, slots=True)
class HazardRule:
    """One way in which a table hurts.

    `detect` yields what it is about, one text a finding ("rtm", "avx2 needs avx"); `consequence` says what happens, `fix` what to do.
    `looks` says what has to be known for it to be judged: of calls `detect` takes a guest that a recording shows, else a `View`.

    Raises ValueError where another rule has the id.
    """

    id: str
    severity: Severity
    detect: Callable[[Any], Iterable[str]]
    consequence: str
    fix: str
    looks: Looks = Looks.TABLE

    def __post_init__(self) -> None:
        enter(self)


@dataclass(frozen=True, slots=True)
class Hazard:
    """A rule that applies to a table; `subjects` are its findings.

    With `depends`, whether they are there hangs on these facts, which the host or the table does not tell; without `subjects`, nobody can
    tell what the rule would find.
    """

    rule: HazardRule
    subjects: tuple[str, ...]
    depends: tuple[Fact, ...] = ()

    @property
    def breaks(self) -> bool:
        """Whether a guest that believes its table is certain to fail."""
        return self.rule.severity is Severity.BREAKS and not self.depends

    @property
    def remedy(self) -> str:
        """What can be done: about a hazard that may not be there, first give what tells."""
        return f"{how_to_tell(self.depends)}; if so: {self.rule.fix}" if self.depends else self.rule.fix

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rule": self.rule.id,
            "severity": self.rule.severity.value,
            "subjects": list(self.subjects),
            "consequence": self.rule.consequence,
            "remedy": self.remedy,
            "depends": [fact.as_dict() for fact in self.depends],
        }
