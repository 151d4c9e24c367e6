"""The answer to a paste: the messages, the features they name, each feature's fate or what can be its cause, and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vcpuid.answers.explanation import Explanation
from vcpuid.answers.verdict import Verdict
from vcpuid.cpuid.names import Feature
from vcpuid.diagnosis import instructions
from vcpuid.diagnosis.causes import Cause
from vcpuid.diagnosis.messages import MessageForm
from vcpuid.diagnosis.recognise import Recognised
from vcpuid.diagnosis.vocabulary import MISSING, POSSIBLE, Named

SCHEMA = "vcpuid/diagnose/1"
"""The form of `Diagnosis.as_dict`."""


@dataclass(frozen=True)
class Finding:
    """A feature that a paste names, by the message nearest to the CPU that names it; `match` None where the paste is names alone.

    `cpu` is the -cpu of the guest that it is about, None where none is known. `explanation` is its fate on the host that was given. Where
    none was given, or the feature is unknown, `causes` are the rules that can clear it, as far as any is known.
    """

    named: Named
    match: Recognised | None
    cpu: str | None = None
    explanation: Explanation | None = None
    causes: tuple[Cause, ...] = ()

    @property
    def remedy(self) -> str | None:
        """What to do about it on the host that was given; None where the guest sees it, or nobody knows."""
        return None if self.explanation is None or self.explanation.visible else self.explanation.remedy

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        feature = self.named.feature
        return {
            "text": self.named.text, "feature": None if feature is None else feature.name,
            "bit": None if feature is None else str(feature.place), "state": self.named.state, "near": list(self.named.near),
            "message": None if self.match is None else self.match.message.id, "cpu": self.cpu, "remark": self.named.remark,
            "fate": None if self.explanation is None else _fate(self.explanation),
            "causes": [cause.as_dict() for cause in self.causes],
        }  # fmt: skip


@dataclass(frozen=True)
class PastedGuest:
    """A guest that a paste is about: the argument of its -cpu, None where nobody named one, and what `check` says of it on the host."""

    cpu: str | None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Diagnosis:
    """The answer to a paste.

    `matches` are its messages in the paste's order, `answers` those that are answered, one of a form, the first the one to look at first,
    `findings` the features that they name, in the same order. `instruction` is the one at which a program died. `guests` are those of
    the paste's -cpu, or of the caller's, for which a feature was found; where none was, the first, or one of which no -cpu is known.
    `near` are forms of messages that look like the paste where it has none. `remarks` are on what stands for what.
    """

    matches: tuple[Recognised, ...]
    answers: tuple[Recognised, ...]
    findings: tuple[Finding, ...]
    instruction: instructions.FaultingInstruction | None
    guests: tuple[PastedGuest, ...]
    near: tuple[MessageForm, ...]
    remarks: tuple[str, ...]

    @property
    def recognised(self) -> bool:
        """Whether anything in the paste was understood."""
        return bool(self.matches or self.findings or self.instruction)

    @property
    def cpu(self) -> str | None:
        """The -cpu argument of the first guest; None where nobody named one."""
        return self.guests[0].cpu

    @property
    def verdict(self) -> Verdict | None:
        """What `check` says of the first guest's -cpu on the host; None where it was not asked."""
        return self.guests[0].verdict

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that the paste says are missing or too many, without those of which it leaves open which they are."""
        return tuple(_definite(self.findings))

    @property
    def causes(self) -> tuple[Cause, ...]:
        """All rules that can have been the cause."""
        return tuple(cause for finding in self.findings for cause in finding.causes)

    @property
    def deepest(self) -> Recognised | None:
        """The message to look at first: of those that name features the one nearest to the CPU, of all where none does."""
        return self.answers[0] if self.answers else None

    @property
    def wrappers(self) -> tuple[Recognised, ...]:
        """The messages around those that are answered, a form once."""
        found = {match.message.id: match for match in reversed(self.matches)}
        for match in self.answers:
            found.pop(match.message.id, None)
        return tuple(reversed(found.values()))

    @property
    def proposals(self) -> tuple[tuple[PastedGuest, str], ...]:
        """The guests for which there is a -cpu that runs on the host and mends what the paste is about, each with it.

        A proposal leaves out what the host does not give: it helps where one of these features was named, not a guest that lacks one.
        """
        return tuple((guest, text) for guest in self.guests if (text := self._proposal(guest)) is not None)

    def _proposal(self, guest: PastedGuest) -> str | None:
        if guest.verdict is None or guest.verdict.proposal in (None, guest.cpu):
            return None
        own = [finding for finding in self.findings if finding.cpu == guest.cpu]
        lacking = {missing.feature for missing in guest.verdict.missing}
        return guest.verdict.proposal if lacking & set(_definite(own)) or not own else None

    @property
    def proposal(self) -> str | None:
        """The first of the `proposals`; None where there is none."""
        return next((text for _, text in self.proposals), None)

    @property
    def advice(self) -> tuple[tuple[str, ...], ...]:
        """What to do: ways of which one is enough, the surest first, each with all that it takes.

        They are what the deciding rules say, the -cpu that runs, and what the rows of the messages say.
        """
        if self._of_another():
            return ((_OTHER,),)
        ways = (tuple(dict.fromkeys(text for text in way if text)) for way in (self._giving(), self._starting(), self._generally()))
        return tuple(dict.fromkeys(way for way in ways if way))

    def _of_another(self) -> bool:
        """Whether the guests see on this host all that the paste misses, and QEMU would not say so: then it is not about them."""
        told = [one.explanation for one in self.findings if one.named.state == MISSING]
        return bool(told) and all(one is not None and one.visible and not one.put_back for one in told)

    def _giving(self) -> Iterator[str]:
        """What gives the features back: of several that need other things, each is named."""
        needs: dict[str, list[str]] = {}
        for finding in self.findings:
            if finding.remedy and finding.named.name not in needs.setdefault(finding.remedy, []):
                needs[finding.remedy].append(finding.named.name)
        for remedy, names in needs.items():
            yield remedy if len(needs) == 1 else f"{remedy}  (for {', '.join(names)})"

    def _starting(self) -> Iterator[str]:
        for guest, text in self.proposals:
            which = f" of -cpu {guest.cpu}" if len(self.guests) > 1 else ""
            keeping = guest.verdict.keeping if guest.verdict is not None else None
            more = f" and {keeping}" if keeping else ""
            yield f"start the guest{which} with -cpu {text}: it runs on this host without a warning{more}"

    def _generally(self) -> Iterator[str]:
        return (match.message.fix for match in self.answers)

    @property
    def remedies(self) -> tuple[str, ...]:
        """All of the advice, the surest first."""
        return tuple(dict.fromkeys(text for way in self.advice for text in way))

    def as_dict(self, manager: str | None = None) -> dict[str, object]:
        """For JSON; with a `manager`, the -cpu that runs is written in its words too."""
        deepest = self.deepest
        words = next((guest.verdict.written(manager) for guest, _ in self.proposals if guest.verdict), None) if manager else None
        return {
            "schema": SCHEMA,
            "recognised": self.recognised,
            "cpu": self.cpu,
            "matches": [match.as_dict() for match in self.matches],
            "deepest": None if deepest is None else deepest.message.id,
            "answers": [match.message.id for match in self.answers],
            "wrappers": [match.message.id for match in self.wrappers],
            "findings": [finding.as_dict() for finding in self.findings],
            "instruction": None if self.instruction is None else self.instruction.text,
            "guests": [{"cpu": guest.cpu, "proposal": self._proposal(guest)} for guest in self.guests],
            "proposal": self.proposal,
            "written": None if words is None else words.as_dict(),
            "remedies": list(self.remedies),
            "advice": [list(way) for way in self.advice],
            "near": [{"message": message.id, "example": message.example} for message in self.near],
            "remarks": list(self.remarks),
        }


_OTHER = (
    "give the host, the -cpu and the releases of the guest that failed (--host, --cpu, --kernel, --qemu): "
    "on this host the guest sees what the message misses"
)


def _definite(findings: Iterable[Finding]) -> Iterator[Feature]:
    return (one.named.feature for one in findings if one.named.feature is not None and one.named.state != POSSIBLE)


def _fate(told: Explanation) -> dict[str, object]:
    """What `explain` says of a feature, without its stages."""
    return {
        "visible": told.visible,
        "verdict": told.verdict,
        "depends": [fact.as_dict() for fact in told.depends],
        "chain": [reason.as_dict() for reason in told.chain],
        "remedy": told.remedy,
    }
