"""In which features two guests of one host differ, and at which party their ways part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vcpuid.answers.certainty import followed, open_bits
from vcpuid.answers.compare import NOT_TOLD
from vcpuid.answers.compare_report import SCHEMA, Counts
from vcpuid.answers.explain import Explanation, Stage
from vcpuid.answers.order import Order
from vcpuid.answers.ordered import behind, explained, judged
from vcpuid.answers.survey import cpuid_features, shows, words_of
from vcpuid.cpuid.names import Feature
from vcpuid.cpuid.words import Word
from vcpuid.path.pipeline import Path
from vcpuid.setup import Setup
from vcpuid.told.facts import listed


@dataclass(frozen=True, slots=True)
class OnHost:
    """One of them: its path, and how a domain led to its -cpu, None where that was given."""

    path: Path
    order: Order | None = None

    @classmethod
    def of(cls, cpu: str, setup: Setup, order: Order | None = None) -> OnHost:
        """Work one out; raises what `vcpuid.answers.certainty.followed` does."""
        path = followed(cpu, host=setup)
        return cls(path, None if order is None else judged(order, path))

    def head(self, name: str) -> Iterator[str]:
        """Say which it is, under a name."""
        for line in (*(() if self.order is None else self.order.head()), self.path.headline()):
            yield f"{name}: {line}"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.path.as_dict(), "libvirt": None if self.order is None else self.order.as_dict()}


@dataclass(frozen=True, slots=True)
class Parting:
    """A feature that one guest sees and the other does not; None is not told. `party` is where they part, `why` what each has there."""

    what: str
    place: str
    one: bool | None
    other: bool | None
    party: str
    why: str
    rules: tuple[str, ...]
    word: Word
    mask: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        told = {"what": self.what, "one": self.one, "other": self.other, "party": self.party, "why": self.why}
        return {**told, "place": self.place, "rules": list(self.rules)}


def between(one: OnHost, other: OnHost) -> tuple[list[Parting], int]:
    """List the features that one of two guests sees and the other does not, by leaf, and say how many were compared."""
    features = cpuid_features()
    found = [_parting(feature, one, other) for feature in _suspects(features, one, other)]
    return [parting for parting in found if parting is not None], len(features)


def _suspects(features: Sequence[Feature], *guests: OnHost) -> Iterator[Feature]:
    """Give the features whose bits are not the same in both, or are not told; where libvirt is in doubt, all of them."""
    words = words_of(features)
    hidden = [open_bits(guest.path, words) for guest in guests]
    doubted = any(guest.order is not None and (guest.order.open or guest.order.depends) for guest in guests)
    for feature in features:
        word, mask = feature.place
        open_ = any(found.get(word, 0) & mask for found in hidden)
        first, second = (shows(guest.path.trace.steps[-1].after, feature) for guest in guests)
        if doubted or open_ or first != second:
            yield feature


def _parting(feature: Feature, one: OnHost, other: OnHost) -> Parting | None:
    told = [explained(feature, guest.path, guest.order) for guest in (one, other)]
    ours, theirs = (None if found.depends else found.stages[-1].value for found in told)
    if ours == theirs:
        return None
    place = feature.place
    if ours is None or theirs is None:
        why = f"depends on {listed(tuple(dict.fromkeys(fact for found in told for fact in found.depends)))}"
        return Parting(feature.name, str(place), ours, theirs, NOT_TOLD, why, (), place.word, place.mask)
    first, second = _part(told)
    why = "; ".join(f"{name}: {stage.why}" for name, stage in (("one", first), ("other", second)) if stage.why)
    rules = dict.fromkeys(reason.rule.id for stage in (first, second) for reason in stage.reasons)
    return Parting(feature.name, str(place), ours, theirs, first.party, why, tuple(rules), place.word, place.mask)


def _part(told: Sequence[Explanation]) -> tuple[Stage, Stage]:
    """Return both stages of the first party that has the feature otherwise in one guest; where it was asked to, of who asked."""
    stages = zip(*(found.stages for found in told), strict=True)
    first, second = next(pair for pair in stages if pair[0].value != pair[1].value)
    asked = tuple(behind(found, stage) for found, stage in zip(told, (first, second), strict=True))
    parties = [stage.party for stage in asked]
    if asked == (first, second) or not all(found.above for found in told):
        return next(((stage, stage) for stage in asked if stage not in (first, second)), (first, second))
    at = next(party for party in parties if party != told[0].path.vmm.name)
    above = [next(stage for stage in found.above if stage.party == at) for found in told]
    return above[0], above[1]


def report(guests: Sequence[OnHost], found: Sequence[Parting], ignored: Sequence[str], counts: Counts) -> dict[str, object]:
    """Put the differences of two guests into a document."""
    named = {name: guest.as_dict() for name, guest in zip(("one", "other"), guests, strict=True)}
    told = {"ignored": list(ignored), "left_out": counts.left_out, "counts": counts.as_dict()}
    return {"schema": SCHEMA, "by": "guest", **named, **told, "differences": [parting.as_dict() for parting in found]}
