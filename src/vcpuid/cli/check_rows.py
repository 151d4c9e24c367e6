"""The answer of vcpuid check for programs, row by row: the verdict first, then what is behind it, then the hazards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vcpuid.errors import RefusedError

if TYPE_CHECKING:
    from vcpuid.answers.order import Blocking, Order
    from vcpuid.answers.verdict import Verdict
    from vcpuid.errors import VcpuidError
    from vcpuid.hazards.rule import Hazard

COLUMNS = ["what", "rule", "about", "why", "remedy"]

WARNS = "QEMU warns"

NOT_TRIED = (
    "not tried: this host's KVM is not stock Linux's, and only that is known to start it; run vcpuid check on that host to try it there"
)


def rows(answer: Verdict, found: Sequence[Hazard], order: Order | None) -> list[dict[str, str]]:
    """Give the rows of a verdict and of the hazards that were found."""
    from vcpuid.told.facts import whether

    printed = (*answer.warnings, *whether(WARNS, answer.warnings_not_told))
    objection = None if order is None else order.objection
    told = word(answer, order)
    why = answer.refusal or objection or answer.not_known or "; ".join(printed) or (NOT_TRIED if told == "not tried" else "")
    return [
        {"what": told, "rule": "verdict", "about": answer.cpu, "why": why, "remedy": answer.proposal or ""},
        *_refused_rows(order),
        *_missing_rows(answer),
        *_overruled_rows(answer),
        *_not_told_rows(answer),
        *hazard_rows(found),
    ]


def unread(cpu: str, error: VcpuidError) -> dict[str, str]:
    """Give the row of a host of which there is no answer."""
    return {"what": failed(error), "rule": "verdict", "about": cpu, "why": str(error), "remedy": ""}


def failed(error: VcpuidError) -> str:
    """Name in a word what stands in place of a verdict: who was asked refuses, or could not be."""
    return "refused" if error.exit_status == RefusedError.exit_status else "error"


def word(answer: Verdict, order: Order | None = None) -> str:
    """Name the verdict in a word."""
    if order is not None and (order.depends or order.refusal is not None):
        return "depends" if order.depends else "refused"
    if answer.runs is None:
        return "unknown" if answer.not_known else "depends" if answer.not_told else "not tried"
    if answer.runs or answer.refusal is None:
        return "runs" if answer.runs else "lacks"
    return "aborts" if answer.start is not None and answer.start.outcome == "aborts" else "refused"


def hazard_rows(found: Sequence[Hazard]) -> list[dict[str, str]]:
    """Give a row for each hazard, and for each that may be there."""
    from vcpuid.told.facts import listed

    return [
        {
            "what": "not told" if hazard.depends else hazard.rule.severity.value,
            "rule": hazard.rule.id,
            "about": "; ".join(hazard.subjects),
            "why": f"depends on {listed(hazard.depends)}: {hazard.rule.consequence}" if hazard.depends else hazard.rule.consequence,
            "remedy": hazard.remedy,
        }
        for hazard in found
    ]


def _refused_rows(order: Order | None) -> list[dict[str, str]]:
    """One row for each rule by which libvirt refuses the domain, and each party that has the features so."""
    from vcpuid.answers.order import together

    found: dict[tuple[str, str, str], list[Blocking]] = {}
    for cause in () if order is None else order.blocking:
        found.setdefault((cause.ruling.rule.id, cause.reason, cause.said), []).append(cause)
    return [
        {
            "what": "refused",
            "rule": rule,
            "about": "; ".join(cause.ruling.feature for cause in causes),
            "why": reason if said == reason else f"{reason} ({said})",
            "remedy": together([cause.remedy for cause in causes if cause.remedy]),
        }
        for (rule, reason, said), causes in found.items()
    ]


def _missing_rows(answer: Verdict) -> list[dict[str, str]]:
    """One row for each first cause, with all features that it takes; those that KVM puts back are told apart."""
    causes: dict[tuple[str, str, str], list[str]] = {}
    for missing in answer.missing:
        if missing.put_back:
            continue
        cause = missing.cause
        of = "" if cause.feature == missing.feature.name else f"{cause.feature}: "
        causes.setdefault((cause.rule.id, of + cause.text, missing.remedy or ""), []).append(missing.feature.name)
    what = "forced" if any(missing.forced for missing in answer.missing) else "missing"
    return [
        {"what": what, "rule": rule, "about": "; ".join(names), "why": why, "remedy": remedy}
        for (rule, why, remedy), names in causes.items()
    ]


def _overruled_rows(answer: Verdict) -> list[dict[str, str]]:
    """Rows of what this KVM shows the guest against QEMU's table: put back though asked for in vain, put there unasked, and withheld."""
    from vcpuid.answers.fate import OWN_DOING

    asked = [missing.feature.name for missing in answer.missing if missing.put_back]
    unasked = [feature.name for feature in answer.put_back if feature.name not in asked]
    names = (
        (
            asked,
            "put back",
            "KVM does not offer it, so that QEMU warns and leaves it out; yet this KVM adds it, and the guest sees it",
            "",
        ),
        (unasked, "put back", "QEMU leaves it out; yet this KVM adds it, and the guest sees it", ""),
        ([feature.name for feature in answer.withheld], "withheld", "QEMU gives it; yet this KVM does not show it to the guest", ""),
    )
    return [
        {"what": what, "rule": OWN_DOING.id, "about": "; ".join(features), "why": why, "remedy": remedy}
        for features, what, why, remedy in names
        if features
    ]


def _not_told_rows(answer: Verdict) -> list[dict[str, str]]:
    """Give a row for each set of facts, with all features that depend on them."""
    from vcpuid.told.facts import by_facts, listed, remedy

    return [
        {
            "what": "not told",
            "rule": "host.not-told",
            "about": "; ".join(names),
            "why": f"depends on {listed(facts)}",
            "remedy": remedy(facts),
        }
        for facts, names in by_facts(answer.not_told).items()
    ]
