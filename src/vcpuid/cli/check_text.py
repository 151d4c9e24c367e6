"""The answer of vcpuid check for people: the verdict, on what it stands, what is missing by cause, which -cpu to take instead, hazards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from vcpuid.cli.check_rows import WARNS
from vcpuid.cli.layout import Verbatim
from vcpuid.cli.short import Cut

if TYPE_CHECKING:
    from vcpuid.answers.order import Order
    from vcpuid.answers.verdict import Verdict
    from vcpuid.cpuid.names import Feature
    from vcpuid.hazards.rule import Hazard

_NAMES = 20
"""Names of a group that are printed unless all are asked for."""
_HAZARDS = 3
"""Hazards that are printed in full unless all are asked for."""

_AMENDED = {"version": "{}", "added": "{} is added", "left-out": "{} is left out"}
"""What is said of a proposal's changes, by kind; of names set right the guesses tell, beside the refusal."""


class CheckText:
    """Lines for people; `everything` says that nothing is to be left out, and `left` what was."""

    def __init__(self, everything: bool) -> None:
        self._everything, self.left = everything, False

    def names(self, names: Sequence[str]) -> str:
        """List names, each once, and count those that are too many."""
        each = list(dict.fromkeys(names))
        if self._everything or len(each) <= _NAMES + 2:
            return " ".join(each)
        self.left = True
        return f"{' '.join(each[:_NAMES])} and {len(each) - _NAMES} more"

    def group(self, title: str, names: Sequence[str], why: str, remedy: str = "", rule: str = "") -> list[str]:
        """Tell of features with one cause."""
        known = f" [{rule}]" if rule and self._everything else ""
        lines = [f"{title} ({len(dict.fromkeys(names))}): {self.names(names)}", f"    Cause: {why}{known}"]
        return [*lines, f"    Remedy: {remedy}"] if remedy else lines

    def verdict(self, answer: Verdict, basis: str, order: Order | None, breaks: int) -> Iterator[str]:
        """Say it all, but of the hazards only how many of them break the guest."""
        from vcpuid.answers.overruling import untried

        objection = None if order is None else order.objection
        if objection is not None:
            yield objection
        unchecked = "Without its check of the CPU: " if order is not None and order.unchecked else ""
        fails = f"; {breaks} hazard{'s' if breaks > 1 else ''} below break{'' if breaks > 1 else 's'} such a guest" if breaks else ""
        yield f"{unchecked}{answer}{fails}"
        yield basis
        if order is not None:
            yield f"libvirt {order.release}: {order.choice.text}"
        if answer.runs is not None and (doubt := untried(answer.seen)) is not None:
            yield doubt
        yield from self._warnings(answer)
        details = [*self._refused(order), *self._missing(answer), *self._overruled(answer), *self._not_told(answer)]
        if details:
            yield ""
            yield from details
        instead = [*_instead(answer)]
        if instead:
            yield ""
            yield from instead

    def _warnings(self, answer: Verdict) -> Iterator[str]:
        """Repeat what QEMU prints: of the features that it does not give only where all is asked for, since these are listed by cause."""
        from vcpuid.told.facts import whether

        shown = [warning for warning in answer.warnings if self._everything or not _of_feature(warning)]
        self.left |= len(shown) < len(answer.warnings)
        yield from (f"QEMU: warning: {line}" for warning in shown for line in warning.splitlines())
        yield from whether(WARNS, (found for found in answer.warnings_not_told if self._everything or not _of_feature(found.what)))

    def _refused(self, order: Order | None) -> Iterator[str]:
        """Tell by which rule libvirt refuses the domain, and what has the features so."""
        from vcpuid.answers.order import together

        found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
        for cause in () if order is None else order.blocking:
            key = (cause.ruling.rule.id, cause.reason, cause.said)
            found.setdefault(key, []).append((cause.ruling.feature, cause.remedy or ""))
        for (rule, reason, said), causes in found.items():
            names, remedies = [name for name, _ in causes], [remedy for _, remedy in causes if remedy]
            short = remedies if self._everything else remedies[:_HAZARDS]
            self.left |= len(short) < len(remedies)
            more = f" and so on for {len(remedies) - len(short)} more" if len(short) < len(remedies) else ""
            yield from self.group("Refused", names, reason if said == reason else f"{reason} ({said})", together(short) + more, rule)

    def _missing(self, answer: Verdict) -> Iterator[str]:
        """Tell what the guest does not get, by first cause."""
        causes: dict[tuple[str, str, str], list[str]] = {}
        for missing in answer.missing:
            if not missing.put_back:
                causes.setdefault((missing.cause.rule.id, missing.cause.text, missing.remedy or ""), []).append(missing.called)
        told: dict[str, None] = {}
        title = "Shown to the guest, and not there" if any(missing.forced for missing in answer.missing) else "Missing"
        for (rule, why, remedy), names in causes.items():
            once = [name for name in names if name not in told]
            told.update(dict.fromkeys(once))
            if once:
                yield from self.group(title, once, why, remedy, rule)

    def _overruled(self, answer: Verdict) -> Iterator[str]:
        """Tell what this KVM shows the guest against QEMU's table."""
        put_back = [missing.called for missing in answer.missing if missing.put_back]
        own = {missing.feature.name for missing in answer.missing if missing.put_back}
        unasked = [_called(feature) for feature in answer.put_back if feature.name not in own]
        if put_back:
            why = "KVM does not offer them, so QEMU warns and leaves them out; yet this machine's KVM shows them to the guest"
            yield from self.group("Seen by the guest all the same", put_back, why)
        if unasked and self._everything:
            why = "QEMU leaves them out; yet this machine's KVM shows them to the guest"
            yield from self.group("Seen by the guest, though not asked for", unasked, why)
        self.left |= bool(unasked) and not self._everything
        if answer.withheld:
            why = "QEMU gives them; yet this machine's KVM does not show them to the guest"
            yield from self.group("Not seen by the guest", [_called(feature) for feature in answer.withheld], why)

    def _not_told(self, answer: Verdict) -> Iterator[str]:
        """Tell in a group for each set of leaves and MSRs which features depend on them."""
        from vcpuid.told.facts import grouped, hidden, remedy

        for facts, names in grouped(answer.not_told).items():
            yield from self.group("Not told", names, f"this depends on {hidden(facts)}", remedy(facts))

    def hazards(self, found: Sequence[Hazard]) -> Iterator[str]:
        """Tell of each hazard what it is about, what happens, and what to do; of what nobody can judge once for all."""
        from vcpuid.told.facts import NotTold, grouped, hidden, listed, remedy

        told = list(_put_together(found))
        shown = told if self._everything else told[:_HAZARDS]
        for hazard in shown:
            known = f" [{hazard.rule.id}]" if self._everything else ""
            severity = hazard.rule.severity.value
            yield f"{f'Possible {severity}' if hazard.depends else severity.capitalize()}: {self.names(hazard.subjects)}{known}"
            if hazard.depends:
                yield f"    It depends on {listed(hazard.depends)}, which is not told"
            yield f"    {hazard.rule.consequence}"
            yield f"    Remedy: {hazard.remedy}"
        if len(shown) < len(told):
            self.left = True
            yield f"and {len(told) - len(shown)} more hazards"
        blind = [NotTold(hazard.rule.id, hazard.depends) for hazard in found if not hazard.subjects]
        for facts, ids in grouped(blind).items():
            yield f"Not judged ({len(ids)} kinds of hazard): {self.names(ids)}"
            yield f"    Cause: they depend on {hidden(facts)}"
            yield f"    Remedy: {remedy(facts)}"
        yield from no_hazards(found)

    def cut(self) -> Cut | None:
        """Say how what is told is cut to a screen, and how to see what was left out."""
        beside = "every name, QEMU's own warnings and the rules"
        return None if self._everything else Cut(rest=f"the rest, {beside}", more=beside if self.left else "")


def _put_together(found: Sequence[Hazard]) -> Iterator[Hazard]:
    """Join what a rule may find by facts that are not told, the certain ones first; leave out what nobody can judge."""
    from vcpuid.told.facts import in_common

    groups: dict[tuple[str, bool], list[Hazard]] = {}
    for hazard in found:
        if hazard.subjects:
            groups.setdefault((hazard.rule.id, bool(hazard.depends)), []).append(hazard)
    for members in sorted(groups.values(), key=lambda members: bool(members[0].depends)):
        subjects = tuple(subject for hazard in members for subject in hazard.subjects)
        yield replace(members[0], subjects=subjects, depends=in_common([hazard.depends for hazard in members]))


def by_qemu(found: Iterable[Hazard]) -> list[Hazard]:
    """Spell the features that hazards are about as QEMU does: as all others that stand beside a -cpu."""
    from vcpuid.answers.remedy import by_short_name

    def spelled(subject: str) -> str:
        feature = None if " " in subject else by_short_name(subject)
        return subject if feature is None else _called(feature)

    return [replace(hazard, subjects=tuple(map(spelled, hazard.subjects))) for hazard in found]


def no_hazards(found: Sequence[Hazard]) -> list[str]:
    """Say that nothing hurts; where something may that is not told, that what is told has no hazard."""
    if any(not hazard.depends for hazard in found):
        return []
    return ["No hazards found in what is told; what is not told may hold those above."] if found else ["No hazards found."]


def _of_feature(warning: str) -> bool:
    return "requested feature: CPUID" in warning or "requested feature: MSR" in warning


def _called(feature: Feature) -> str:
    """Spell a feature that nobody asked for as QEMU does."""
    return feature.qemu_names[0].name if feature.qemu_names else feature.name


def _instead(answer: Verdict) -> Iterator[str]:
    """Say which -cpu to take instead, in what else it differs, and which named model keeps the most."""
    from vcpuid.answers.nearest import LONG_MODE, possible
    from vcpuid.qemu.unknown import lacking, spelled

    if answer.proposal == answer.cpu or answer.runs is None:
        return
    if answer.proposal is not None:
        yield f"Recommended, keeps the most: -cpu {answer.proposal}"
        named = ["is a named model as it is"] if answer.proposal == answer.nearest and "," not in answer.proposal else []
        if said := [*([answer.keeping] if answer.keeping else []), *named]:
            yield f"    It {', and '.join(said)}"
    elif answer.refusal is None or lacking(answer.cpu, answer.setup.vmm.tables) is None:
        yield "No -cpu of this model starts here without warnings."
    for amendment in answer.amendments:
        if amendment.kind in _AMENDED:
            yield f"    {_AMENDED[amendment.kind].format(spelled(amendment.what))}: {amendment.why}"
    counts = answer.counts
    counted = counts.nearest_keeps is not None
    if answer.nearest is not None and answer.nearest != answer.proposal and (counts.asked or not counted):
        kept = f" (keeps {counts.nearest_keeps} of the {len(counts.asked)} features asked for)" if counted else ""
        yield f"Named model that runs without warnings: {answer.nearest}{kept}"
    elif answer.nearest is None and LONG_MODE in counts.asked and (counts.proposal_keeps or 0) < len(counts.asked):
        might = possible(answer.cpu, answer.setup)
        found = "none that is 64-bit" if might is None else f"not told; {might} if the host has all that it does not tell"
        yield f"Named model that runs without warnings: {found}"


def written(answer: Verdict, manager: str) -> list[str]:
    """Lay out the -cpu that runs in a manager's words: nothing where none runs."""
    words = answer.written(manager)
    if words is None:
        return []
    pasted = (Verbatim(f"    {line}".rstrip()) for line in words.lines)
    return [f"For {manager}:", *pasted, *(f"({remark})" for remark in words.remarks)]


def summary(found: Iterable[Hazard]) -> str:
    """Say in a sentence how many hazards there are."""
    from vcpuid.hazards.rule import Severity

    certain = [hazard for hazard in found if not hazard.depends]
    if not certain:
        return ""
    counted = ((severity, sum(len(hazard.subjects) for hazard in certain if hazard.rule.severity is severity)) for severity in Severity)
    words = {Severity.BREAKS: "{} that break a guest", Severity.RISK: "{} that are a risk", Severity.NOTE: "{} worth knowing"}
    return "Hazards in this table: " + ", ".join(words[severity].format(number) for severity, number in counted if number)
