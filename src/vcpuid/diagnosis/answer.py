"""What a paste says, put together: the messages, the features they name, and each feature's fate or what can be its cause."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vcpuid.answers.certainty import followed
from vcpuid.answers.explain import Explanation, explain
from vcpuid.answers.proposal import lenient
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.cpuid import Snapshot
from vcpuid.cpuid.names import Feature, find
from vcpuid.diagnosis import instructions, msrs
from vcpuid.diagnosis.causes import Cause, possible
from vcpuid.diagnosis.messages import MessageForm, messages
from vcpuid.diagnosis.recognise import Recognised, recognise
from vcpuid.diagnosis.vocabulary import EXTRA, MISSING, POSSIBLE, VOCABULARIES, Named, features_in, named
from vcpuid.errors import NotToldError, RefusedError
from vcpuid.numbers import U64, hexadecimal
from vcpuid.path.pipeline import Path
from vcpuid.setup import Setup, Stack, joined

SCHEMA = "vcpuid/diagnose/1"
"""The form of `Diagnosis.as_dict`."""

_CPU = re.compile(r"""(?:^|\s)-cpu\s+(['"]?)([\w.+-][\w.,+=:/-]{0,4000})\1(?=\s|$)""")


@dataclass(frozen=True)
class Finding:
    """A feature that a paste names, by the message nearest to the CPU that names it; `match` None where the paste is names alone.

    `explanation` is its fate on the host that was given. Where none was given, or the feature is unknown, `causes` are the rules that can
    clear it, as far as any is known.
    """

    named: Named
    match: Recognised | None
    explanation: Explanation | None = None
    causes: tuple[Cause, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        feature = self.named.feature
        return {
            "text": self.named.text, "feature": None if feature is None else feature.name,
            "bit": None if feature is None else str(feature.place), "state": self.named.state, "near": list(self.named.near),
            "message": None if self.match is None else self.match.message.id,
            "fate": None if self.explanation is None else _fate(self.explanation),
            "causes": [cause.as_dict() for cause in self.causes],
        }  # fmt: skip


@dataclass(frozen=True)
class Diagnosis:
    """The answer to a paste.

    `matches` are its messages in the paste's order, `findings` the features that they name, those of the message nearest to the CPU first.
    `instruction` is the one at which a program died. `cpu` is the -cpu argument that the answer is about, from the caller or the paste,
    None where nobody named one; `verdict` is what `check` says of it on the host. `near` are forms of messages that look like the paste
    where it has none. `remarks` are on what stands for what.
    """

    matches: tuple[Recognised, ...]
    findings: tuple[Finding, ...]
    instruction: instructions.FaultingInstruction | None
    cpu: str | None
    verdict: Verdict | None
    near: tuple[MessageForm, ...]
    remarks: tuple[str, ...]

    @property
    def recognised(self) -> bool:
        """Whether anything in the paste was understood."""
        return bool(self.matches or self.findings or self.instruction)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features that the paste says are missing or too many, without those of which it leaves open which they are."""
        return tuple(one.named.feature for one in self.findings if one.named.feature is not None and one.named.state != POSSIBLE)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """All rules that can have been the cause."""
        return tuple(cause for finding in self.findings for cause in finding.causes)

    @property
    def deepest(self) -> Recognised | None:
        """The message to look at: of those that name features the one nearest to the CPU, of all where none does; None without any."""
        naming = {finding.match for finding in self.findings if finding.match is not None}
        return max(naming or self.matches, key=lambda match: (match.message.depth, -match.start), default=None)

    @property
    def wrappers(self) -> tuple[Recognised, ...]:
        """The messages around the deepest one that name nothing of their own, a form once."""
        deepest = self.deepest
        naming = {finding.match.message.id for finding in self.findings if finding.match is not None}
        found = {match.message.id: match for match in reversed(self.matches) if match.message.id not in naming}
        return tuple(match for match in reversed(found.values()) if deepest is not None and match.message is not deepest.message)

    @property
    def proposal(self) -> str | None:
        """The -cpu that runs on the host; None where none was looked for, or where it would not mend what the paste is about.

        A proposal leaves out what the host does not give: it helps where one of these features was named, not a guest that lacks one.
        """
        if self.verdict is None or self.verdict.proposal in (None, self.cpu):
            return None
        lacking = {missing.feature for missing in self.verdict.missing}
        return self.verdict.proposal if lacking & set(self.features) or not self.findings else None

    @property
    def remedies(self) -> tuple[str, ...]:
        """What to do, the surest first: what the deciding rules say, the -cpu that runs, what the message's row says."""
        return tuple(dict.fromkeys(text for text in self._remedies() if text))

    def _remedies(self) -> Iterator[str | None]:
        for finding in self.findings:
            if finding.explanation is not None and not finding.explanation.visible:
                yield finding.explanation.remedy
        if self.proposal is not None:
            yield f"start the guest with -cpu {self.proposal}: it runs on this host without a warning"
        if self.deepest is not None:
            yield self.deepest.message.fix

    def as_dict(self, manager: str | None = None) -> dict[str, object]:
        """For JSON; with a `manager`, the -cpu that runs is written in its words too."""
        deepest = self.deepest
        words = None if manager is None or self.verdict is None else self.verdict.written(manager)
        return {
            "schema": SCHEMA,
            "recognised": self.recognised,
            "cpu": self.cpu,
            "matches": [match.as_dict() for match in self.matches],
            "deepest": None if deepest is None else deepest.message.id,
            "wrappers": [match.message.id for match in self.wrappers],
            "findings": [finding.as_dict() for finding in self.findings],
            "instruction": None if self.instruction is None else self.instruction.text,
            "proposal": self.proposal,
            "written": None if words is None else words.as_dict(),
            "remedies": list(self.remedies),
            "near": [{"message": message.id, "example": message.example} for message in self.near],
            "remarks": list(self.remarks),
        }


def _fate(told: Explanation) -> dict[str, object]:
    """What `explain` says of a feature, without its stages."""
    return {
        "visible": told.visible,
        "verdict": told.verdict,
        "depends": [fact.as_dict() for fact in told.depends],
        "chain": [reason.as_dict() for reason in told.chain],
        "remedy": told.remedy,
    }


def diagnose(text: str, host: Snapshot | Setup | None = None, cpu: str | None = None, stack: Stack | None = None) -> Diagnosis:
    """Tell what a paste says of features, who took them, and what to do.

    `text` is an error, a log, a list of features, as people paste it; `host` the machine it comes from, `cpu` the -cpu argument of the
    guest, for which one that stands in the paste is taken, else "host". Without a host each feature has the rules that can clear it.
    Raises InputError for a paste of over 1 MiB, a wrong `cpu`, release or parameter.
    """
    matches = recognise(text)
    code = instructions.faulting(text)
    instruction = None if code is None else instructions.decode(code)
    found = list(_named(text, matches, instruction))
    if cpu is None and (given := _CPU.search(text)) is not None:
        cpu = given[2]
    if host is None:
        findings = tuple(Finding(one, match, causes=() if one.feature is None else possible(one.feature)) for one, match in found)
        return Diagnosis(matches, findings, instruction, cpu, None, _near(text) if not findings and not matches else (), ())
    setup = joined(host, stack)
    found = [*_refused(matches, setup.host), *found]
    path, said = _path(cpu or "host", setup)
    findings = tuple(_finding(one, match, path) for one, match in found)
    judged = verdict(cpu, setup) if cpu is not None and found else None
    near = _near(text) if not findings and not matches else ()
    return Diagnosis(matches, findings, instruction, cpu, judged, near, (*setup.remarks, *said))


def features(text: str) -> tuple[Feature, ...]:
    """Return the features that a text names, each once: one in any spelling, a list of them, the messages in a log.

    Raises InputError where it names none, or where a word of a list is no feature; names that look alike are told.
    """
    found = [one for one, _ in _named(text, recognise(text), None)]
    known = tuple(dict.fromkeys(one.feature for one in found if one.feature is not None))
    return known or (find(text),)


def _finding(one: Named, match: Recognised | None, path: Path | None) -> Finding:
    if path is None or one.feature is None:
        return Finding(one, match, causes=() if one.feature is None else possible(one.feature))
    return Finding(one, match, explain(one.feature, path))


def _path(cpu: str, setup: Setup) -> tuple[Path | None, tuple[str, ...]]:
    """Resolve a CPU as QEMU would start it if it did not mind what is missing; without a path, why there is none."""
    try:
        return followed(lenient(cpu), host=setup), ()
    except (RefusedError, NotToldError) as error:
        return None, (f"-cpu {cpu}: {error}",)


def _named(
    text: str, matches: tuple[Recognised, ...], instruction: instructions.FaultingInstruction | None
) -> Iterator[tuple[Named, Recognised | None]]:
    """Give each feature that a paste names once, those of the messages nearest to the CPU first; without messages, those of a list."""
    seen: set[tuple[str, bool]] = set()
    if instruction is not None:
        for feature in instruction.features:
            seen.add((feature.name, False))
            yield Named(instruction.text, feature), None
    for match in sorted(matches, key=lambda match: (-match.message.depth, match.start)):
        for one in _of(match):
            key = (one.name, one.state == EXTRA)
            if key not in seen:
                seen.add(key)
                yield one, match
    if not matches and instruction is None:
        yield from ((one, None) for one in features_in(text))


def _of(match: Recognised) -> Iterator[Named]:
    yield from VOCABULARIES[match.message.vocabulary](match.groups)
    for text in match.message.features:
        yield from named(text, MISSING if len(match.message.features) == 1 else POSSIBLE)


def _refused(matches: tuple[Recognised, ...], host: Snapshot) -> Iterator[tuple[Named, Recognised]]:
    """Find which bits of an MSR's value this host's KVM refuses."""
    for match in matches:
        if match.message.vocabulary == "msr" and match.groups.get("value") and match.groups.get("msr"):
            msr, value = hexadecimal(match.groups["msr"]), hexadecimal(match.groups["value"], U64)
            if msr is not None and value is not None:
                yield from ((Named(f"MSR 0x{msr:x}", feature), match) for feature in msrs.refused(msr, value, host) or ())


def _near(text: str) -> tuple[MessageForm, ...]:
    """Find the forms of messages that share most words with a text; none where hardly any are shared."""
    words = _words(text[:20_000])
    scored = [(len(words & shared) / len(shared), message) for message in messages() if len(shared := _words(message.example)) > 2]
    best = sorted((pair for pair in scored if pair[0] >= 0.4), key=lambda pair: -pair[0])
    return tuple(message for _, message in best[:3])


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,30}", text.lower()))
