"""One reason for which a party changes bits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vcpuid.reasons.registry import enter


class Action(Enum):
    """What a rule did to the bits of a decision."""

    CLEARED = "cleared"
    SET = "set"
    COPIED = "copied"
    COMPUTED = "computed"


@dataclass(frozen=True, slots=True)
class Rule:
    """One reason for which a party changes bits.

    `reason` is a sentence for a person, about the bits in question ("KVM emulates it in software"). `{cause}` in it stands for the
    feature that the decision names as its cause. `source` is the function and file that does it, in Linux or in QEMU. `remedy` is what
    a user can do about it, None where nothing helps. `since` and `until` are the first and the last release whose tables vcpuid has and
    which has the rule; None where the oldest has it, or the newest. They select rules. `lacking` are those between that do not have it:
    an older one's tables are of a stable update that took it over, theirs of an earlier day. `also` are those outside that have it: a
    distribution's kernel is of an earlier day than the release that it has the code of. Which release brought a rule is told by
    `vcpuid.reasons.history`.

    Raises ValueError where another rule has the id.
    """

    id: str
    reason: str
    source: str
    remedy: str | None = None
    since: str | None = None
    until: str | None = None
    lacking: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        enter(self)

    def __hash__(self) -> int:
        return hash(self.id)
