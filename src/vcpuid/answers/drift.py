"""What an upgrade changes: a guest's CPU on one stack and on another, feature by feature, each with the party that makes the difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vcpuid.answers.certainty import depends, open_bits
from vcpuid.answers.explain import NO_HARDWARE, Explanation, Reason, explain
from vcpuid.answers.survey import cpuid_features, shows, words_of
from vcpuid.cpuid import MsrWord
from vcpuid.cpuid.names import Feature, all_features
from vcpuid.path.pipeline import Path
from vcpuid.told.facts import listed

SCHEMA = "vcpuid/drift/1"
"""The form of `Drift.as_dict`."""

NOT_TOLD = "not told"
"""The change of a feature of which only one side tells whether the guest sees it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A feature that the guest sees on one stack and not on the other; None: not told.

    `party` decides on the side where the feature is missing, or puts it there on the other, by `rule`; `why` says it, and `remedy` what
    helps where it is lost. Party and rule are None where no rule tells, and where it is not told.
    """

    feature: Feature
    before: bool | None
    after: bool | None
    party: str | None
    rule: str | None
    why: str
    remedy: str | None

    @property
    def change(self) -> str:
        """Lost, gained or not told."""
        if self.before is None or self.after is None:
            return NOT_TOLD
        return "gained" if self.after else "lost"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "feature": self.feature.name,
            "place": str(self.feature.place),
            "change": self.change,
            "before": self.before,
            "after": self.after,
            "party": self.party,
            "rule": self.rule,
            "why": self.why,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Drift:
    """A guest's CPU on two stacks. Of the features in `changes` the two differ, `same` are as they were, and `not_told` on either side.

    `gone` and `new` are the VMM's warnings of one side alone.
    """

    before: Path
    after: Path
    changes: tuple[Change, ...]
    same: int
    not_told: int
    gone: tuple[str, ...]
    new: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "counts": {"differ": len(self.changes), "same": self.same, "not_told": self.not_told},
            "warnings": {"gone": list(self.gone), "new": list(self.new)},
            "changes": [change.as_dict() for change in self.changes],
        }


def drift(before: Path, after: Path) -> Drift:
    """Hold two paths of one host against each other, by every feature of CPUID and of the MSRs that either guest reads."""
    features = [*cpuid_features(), *_msr_features(before, after)]
    hidden = [open_bits(path, words_of(features)) for path in (before, after)]
    found, not_told = list[Change](), 0
    for feature in features:
        word, mask = feature.place
        a, b = (
            None if unknown.get(word, 0) & mask else shows(path.trace.steps[-1].after, feature)
            for path, unknown in zip((before, after), hidden, strict=True)
        )
        if a is None and b is None:
            not_told += 1
        elif a is None or b is None:
            path = before if a is None else after
            facts = depends(path, len(path.trace.steps) - 1, (feature.place,))
            found.append(Change(feature, a, b, None, None, f"depends on {listed(facts)}", None))
        elif a != b:
            found.append(_changed(feature, a, before, after))
    gone, new = (tuple(line for line in one.warnings if line not in other.warnings) for one, other in ((before, after), (after, before)))
    return Drift(before, after, tuple(found), len(features) - len(found) - not_told, not_told, gone, new)


def _msr_features(*paths: Path) -> Iterator[Feature]:
    """Give the features of the MSRs that a guest reads."""
    words = {word for path in paths for word in path.trace.steps[-1].after if isinstance(word, MsrWord)}
    for feature in all_features():
        if feature.bit is not None and feature.bit.word in words and (feature.linux_names or feature.qemu_names):
            yield feature


def _changed(feature: Feature, before: bool, one: Path, other: Path) -> Change:
    """Ask the side that lacks it why; where that is the hardware's lack, the other side makes it up, and says by which rule."""
    lacking, having = (explain(feature, path) for path in ((other, one) if before else (one, other)))
    when, remedy = ("now", lacking.remedy) if before else ("before", None)
    if reason := _deciding(lacking):
        return Change(feature, before, not before, reason.party, reason.rule.id, f"{when}: {reason.text}", remedy)
    if reason := _deciding(having):
        other_side = "before" if before else "now"
        return Change(feature, before, not before, reason.party, reason.rule.id, f"{other_side}: {reason.text}", None)
    return Change(feature, before, not before, None, None, f"{when}: {lacking.verdict}", None)


def _deciding(found: Explanation) -> Reason | None:
    """Return the reason that decided a feature's fate; none where the hardware just has it or lacks it."""
    return next((reason for reason in found.chain if reason.rule is not NO_HARDWARE), None)


def refused_report(before: Path | str, after: Path | str) -> dict[str, object]:
    """Make the document where a program on either side refuses the CPU: its words stand in the place of that side's path."""
    sides = ({"refusal": side} if isinstance(side, str) else side.as_dict() for side in (before, after))
    document = dict(zip(("before", "after"), sides, strict=True))
    return {"schema": SCHEMA, **document, "counts": None, "warnings": {"gone": [], "new": []}, "changes": []}
