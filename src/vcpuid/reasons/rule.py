"""One reason for which a party changes bits."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    a user can do about it, None where nothing helps. `since` and `until` are the first and the last release (of Linux or of QEMU,
    whichever party it is) known to have the rule; None where all that vcpuid knows have it.
    """

    id: str
    reason: str
    source: str
    remedy: str | None = None
    since: str | None = None
    until: str | None = None

    def __hash__(self) -> int:
        return hash(self.id)
