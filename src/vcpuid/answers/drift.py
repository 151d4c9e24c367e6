"""What an upgrade changes: a guest's CPU on one stack and on another, feature by feature, each with the party that makes the difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.answers.certainty import followed, open_bits
from vcpuid.answers.compare import handed_on
from vcpuid.answers.explanation import Explanation, Reason
from vcpuid.answers.fate import NO_HARDWARE
from vcpuid.answers.order import DOMAIN, LIBVIRT, Order
from vcpuid.answers.ordered import explained, judged
from vcpuid.answers.survey import NOT_TOLD_CHANGE, cpuid_features, number, shows
from vcpuid.cpuid import CpuidWord, MsrWord
from vcpuid.cpuid.names import Feature, all_features, parse_place
from vcpuid.cpuid.words import REGISTERS
from vcpuid.path.pipeline import Path
from vcpuid.setup import Setup
from vcpuid.told.facts import Fact, listed

SCHEMA = "vcpuid/drift/1"
"""The form of `Drift.as_dict`."""

_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Side:
    """The guest on one of the stacks: its path, and how a domain of libvirt's led to its -cpu, None where that was given."""

    path: Path
    order: Order | None = None

    @classmethod
    def of(cls, cpu: str, setup: Setup, order: Order | None = None) -> Side:
        """Work one out; raises what `vcpuid.answers.certainty.followed` does."""
        path = followed(cpu, host=setup)
        return cls(path, None if order is None else judged(order, path))

    @property
    def refused(self) -> bool:
        """Whether libvirt refuses its domain."""
        return self.order is not None and self.order.refusal is not None

    def head(self) -> Iterator[str]:
        """Say which it is, a line each of the domain and of the VMM; of a long -cpu, such as libvirt makes, the beginning."""
        if self.order is not None:
            yield from self.order.head()
        yield self.path.headline(most=_SHOWN)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.path.as_dict(), "libvirt": None if self.order is None else self.order.as_dict()}


class Guessed(NamedTuple):
    """A program that one side names, and of the other the host does not tell it; `how` names the option that tells it there."""

    program: str
    how: str

    def sentence(self, where: str = "the host") -> str:
        """Say it, and of which hosts."""
        return f"which {self.program} runs on {where} is not told; {self.how} names it"

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"program": self.program, "how": self.how}


def guessed(before: Setup, after: Setup) -> Iterator[Guessed]:
    """Give the programs that are taken for granted on one side alone: that nothing changes then is no answer."""
    for program in ("QEMU", "kernel"):
        sides = [program.lower() in setup.assumed for setup in (before, after)]
        if sides[0] is not sides[1]:
            yield Guessed(program, f"{'--from' if sides[0] else '--to'} {program.lower()}=RELEASE")


def software(setup: Setup) -> tuple[object, ...]:
    """Return all of the software in which two sides can differ."""
    return setup.vmm, setup.kernel, setup.machine, setup.smp, setup.params, setup.globals


@dataclass(frozen=True, slots=True)
class Change:
    """A feature that the guest sees on one side and not on the other; None: not told.

    `party` decides on the side where the feature is missing, or puts it there on the other, by `rule`; where a person or libvirt asked
    for that, it is they. `why` says it, and `remedy` what helps where it is lost. Party and rule are None where no rule tells, and where
    it is not told. `cause` names the feature whose fate is the first cause: another one, where this one needs it.
    """

    feature: Feature
    before: bool | None
    after: bool | None
    party: str | None
    rule: str | None
    why: str
    remedy: str | None
    cause: str | None = None

    @property
    def change(self) -> str:
        """Lost, gained or not told."""
        if self.before is None or self.after is None:
            return NOT_TOLD_CHANGE
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
class Register:
    """A register of the guest's CPUID that holds something else in bits that are no feature: sizes, numbers, the last leaf of a range.

    `before` and `after` are the whole register, and the parties those that wrote it last on either side, None: nobody did.
    """

    word: CpuidWord
    before: int
    after: int
    before_by: str | None
    after_by: str | None

    def __str__(self) -> str:
        parties = dict.fromkeys(party for party in (self.before_by, self.after_by) if party is not None)
        by = f" ({', '.join(parties)})" if parties else ""
        return f"{self.word}: {self.before:08x} before, {self.after:08x} after{by}"

    def as_dict(self) -> dict[str, object]:
        """For JSON; registers in eight hexadecimal digits."""
        return {
            "place": str(self.word),
            "before": f"{self.before:08x}",
            "after": f"{self.after:08x}",
            "before_by": self.before_by,
            "after_by": self.after_by,
        }


@dataclass(frozen=True, slots=True)
class Drift:
    """A guest's CPU on two stacks. In the features of `changes` the two differ; `same` are as they were, `not_told` on neither side.

    `others` are registers that differ besides. `gone` and `new` are the VMM's warnings of one side alone. `depends` are the facts on which
    hangs what is not told, on one side or on both.
    """

    before: Side
    after: Side
    changes: tuple[Change, ...]
    same: int
    not_told: int
    gone: tuple[str, ...]
    new: tuple[str, ...]
    others: tuple[Register, ...] = ()
    depends: tuple[Fact, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether the guest starts on both sides, and nothing changes."""
        return not (self.changes or self.others or self.gone or self.new or self.before.refused or self.after.refused)

    def count(self, *kinds: str) -> int:
        """Count the features that are lost, gained or not told on one side, as `number` does; without a kind, all that differ."""
        return number(change.feature for change in self.changes if not kinds or change.change in kinds)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
            "counts": {"differ": self.count(), "same": self.same, "not_told": self.not_told},
            "warnings": {"gone": list(self.gone), "new": list(self.new)},
            "changes": [change.as_dict() for change in self.changes],
            "registers": [other.as_dict() for other in self.others],
        }


def drift(before: Side, after: Side) -> Drift:
    """Hold two guests of one host against each other, by every feature of CPUID and of the MSRs that either of them reads."""
    features = [*cpuid_features(), *_msr_features(before.path, after.path)]
    found, not_told, depends = list[Change](), list[Feature](), dict[Fact, None]()
    for feature in _suspects(features, before, after):
        sides = explained(feature, before.path, before.order), explained(feature, after.path, after.order)
        a, b = (side.visible for side in sides)
        facts = dict.fromkeys(fact for side in sides for fact in side.depends)
        depends.update(facts)
        if a is None and b is None:
            not_told.append(feature)
        elif a is None or b is None:
            why = f"depends on {listed(tuple(facts))}" if facts else next(side.stages[-1].why for side in sides if side.visible is None)
            found.append(Change(feature, a, b, None, None, why, None))
        elif a != b:
            found.append(_changed(feature, a, *sides))
    one, other = before.path.warnings, after.path.warnings
    gone, new = (_of_one_side(*sides) for sides in ((one, other), (other, one)))
    changed = [change.feature for change in found]
    same = number(features) - number([*changed, *not_told])
    open_ = number([*changed, *not_told]) - number(changed)
    return Drift(before, after, tuple(found), same, open_, gone, new, tuple(_others(features, before, after)), tuple(depends))


def _of_one_side(ours: Sequence[str], theirs: Sequence[str]) -> tuple[str, ...]:
    """Give the warnings that say something which the others do not, however these spell the place of a feature."""
    said = {_meant(line) for line in theirs}
    return tuple(line for line in ours if _meant(line) not in said)


def _meant(warning: str) -> str:
    """Give a warning with the place of its feature in one spelling, since QEMU has had two."""
    told, colon, place = warning.rpartition(": ")
    bit = parse_place(place) if colon else None
    return warning if bit is None else f"{told}: {bit}"


def _others(features: Sequence[Feature], *sides: Side) -> Iterator[Register]:
    """Give the registers in which something differs that is none of these features, where both sides tell it."""
    places = sorted({place for side in sides for place in side.path.kept.by_key()})
    words = [CpuidWord(*place, register) for place in places for register in REGISTERS]
    named = dict.fromkeys(words, 0)
    for feature in features:
        if isinstance(feature.place.word, CpuidWord) and feature.place.word in named:
            named[feature.place.word] |= feature.place.mask
    hidden = [open_bits(side.path, words) for side in sides]
    for word in words:
        one, other = (side.path.trace.steps[-1].after.get(word, 0) for side in sides)
        if (one ^ other) & ~named[word] and not any(found.get(word, 0) & ~named[word] for found in hidden):
            by = (next((step.party for step in reversed((*handed_on(side.path, word),))), None) for side in sides)
            yield Register(word, one, other, *by)


def refused_report(before: Side | str, after: Side | str) -> dict[str, object]:
    """Make the document where a program on either side refuses the CPU: its words stand in the place of that side."""
    sides = ({"refusal": side} if isinstance(side, str) else side.as_dict() for side in (before, after))
    document = dict(zip(("before", "after"), sides, strict=True))
    return {"schema": SCHEMA, **document, "counts": None, "warnings": {"gone": [], "new": []}, "changes": [], "registers": []}


def _msr_features(*paths: Path) -> Iterator[Feature]:
    """Give the features of the MSRs that a guest reads."""
    words = {word for path in paths for word in path.trace.steps[-1].after if isinstance(word, MsrWord)}
    for feature in all_features():
        if feature.bit is not None and feature.bit.word in words and (feature.linux_names or feature.qemu_names):
            yield feature


def _suspects(features: Sequence[Feature], *sides: Side) -> Iterator[Feature]:
    """Give the features whose bits are not the same on both sides, or are not told; where libvirt is in doubt, all of them."""
    words = dict.fromkeys(feature.place.word for feature in features)
    hidden = [open_bits(side.path, words) for side in sides]
    doubted = any(side.order is not None and side.order.doubted for side in sides)
    for feature in features:
        bit = feature.place
        first, second = (shows(side.path.trace.steps[-1].after, feature) for side in sides)
        if doubted or first != second or any(found.get(bit.word, 0) & bit.mask for found in hidden):
            yield feature


def _changed(feature: Feature, before: bool, one: Explanation, other: Explanation) -> Change:
    """Ask the side that lacks it why; where that is the hardware's lack, the other side makes it up, and says by which rule."""
    (lacking, when), (having, otherwise) = ((other, "now"), (one, "before")) if before else ((one, "before"), (other, "now"))
    remedy = lacking.remedy if before else None
    if told := _deciding(lacking):
        party, rule, why = told
        return Change(feature, before, not before, party, rule, f"{when}: {why}", remedy, lacking.chain[-1].feature)
    if told := _deciding(having):
        party, rule, why = told
        return Change(feature, before, not before, party, rule, f"{otherwise}: {why}", None, having.chain[-1].feature)
    return Change(feature, before, not before, None, None, f"{when}: {lacking.verdict}", None)


def _deciding(found: Explanation) -> tuple[str, str, str] | None:
    """Return who decided a feature's fate, by which rule, and why: who asked for it before the program that does as it is told.

    None where the hardware just has it or lacks it.
    """
    reasons = [reason for reason in found.chain if reason.rule is not NO_HARDWARE]
    if not reasons:
        return None
    asking = next((reason for reason in reasons[:2] if _asks(reason, reasons[0])), None)
    told = reasons[0] if asking is None else asking
    why = told.text if told is reasons[0] else f"{reasons[0].text}; {told.text}"
    return told.party, told.rule.id, why


def _asks(reason: Reason, first: Reason) -> bool:
    return reason.party in (DOMAIN, LIBVIRT) and reason.feature == first.feature
