"""vcpuid check: whether a CPU runs on a host, and what in it will hurt."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from vcpuid.cli import choices
from vcpuid.cli.domain import AskedCpu, libvirt_option, no_domain, unrefused
from vcpuid.cli.output import Sheet, emit, format_option
from vcpuid.cli.recording import recorded, recording_option
from vcpuid.cli.setup import (
    Asked,
    has_no_effect,
    print_warnings,
    probe_for,
    read_host,
    remark_on_table,
    stack_options,
    trial_for,
    words_option,
)
from vcpuid.errors import KvmError

if TYPE_CHECKING:
    from vcpuid.answers.order import Blocking, Order
    from vcpuid.answers.verdict import Verdict
    from vcpuid.hazards.rule import Hazard
    from vcpuid.told.facts import Fact

COLUMNS = ["what", "rule", "about", "why", "remedy"]
TITLES = {"rule": "id", "remedy": "do"}


_AMENDED = {"version": "{}", "added": "{} is added", "left-out": "{} is left out"}
"""What is said of a proposal's changes, by kind; of names set right the guesses tell, beside the refusal."""

_WARNS = "QEMU warns"

_NOT_TRIED = (
    "whether it runs is not tried; on Linux's own KVM it would run with all that was asked, but this host's is another and was not asked: "
    "ask it with vcpuid check on that host"
)


@click.command(name="check")
@click.argument(
    "arguments",
    metavar="CPU|DOMAIN.xml [HOST] | --table TABLE [HOST] | --recording FILE [HOST]",
    nargs=-1,
    shell_complete=choices.cpus_then_hosts,
)
@click.option(
    "--table", "table_source", metavar="TABLE", shell_complete=choices.hosts, help="Look for hazards in this table, or snapshot of a guest."
)
@recording_option
@words_option
@libvirt_option
@click.option("--no-probe", is_flag=True, help="Do not try CPU on this machine's KVM: model what that makes of it.")
@stack_options()
@format_option
def command(
    arguments: tuple[str, ...], table_source: str | None, recording: str | None, manager: str | None, libvirt_release: str | None,
    no_probe: bool, asked: Asked, form: str,
) -> None:  # fmt: skip
    """Check whether CPU runs on HOST: what is missing, what helps.

    CPU is what QEMU's -cpu takes, or the file of a domain (.xml), which leads libvirt to one. Where HOST is this machine, its KVM is asked
    whether it takes what QEMU sets at start.

    Hazards are of three kinds: "breaks" (a guest that believes its CPUID fails), "risk" and "note". A TABLE without a HOST is checked for
    contradictions within it; of a recording, what its calls show wrong is told too. Exit status 0 where the CPU runs and nothing breaks,
    else 1, also where HOST does not tell enough to say, or its KVM is not Linux's own and cannot be asked.
    """
    from vcpuid import hazards
    from vcpuid.answers.ordered import judged
    from vcpuid.answers.verdict import verdict

    if recording is not None and table_source is not None:
        raise click.UsageError("--recording has the guest's table; --table gives another")
    wanted = 0 if table_source is not None or recording is not None else 1
    if not wanted <= len(arguments) <= wanted + 1:
        raise click.UsageError("give CPU and, if it is not this machine, HOST; or --table TABLE and, if it is to be compared, HOST")
    source = arguments[wanted] if len(arguments) > wanted else None
    if table_source is not None or recording is not None:
        no_domain()
        found = (
            _hazards_of_table(table_source, source, asked) if table_source is not None else _of_recording(recording or "", source, asked)
        )
        has_no_effect("a table is checked, and no -cpu is proposed", "--for")
        emit(_sheet(None, found, form), form)
    else:
        host = read_host(source)
        cpu, setup, order = AskedCpu.of(arguments[0], libvirt_release).ordered(host, asked)
        kvm = None if no_probe else trial_for(host, setup)
        answer = verdict(cpu, setup, probe=None if kvm is None else probe_for(host), kvm=kvm, by_libvirt=order is not None)
        found = () if answer.path is None or answer.refusal is not None else hazards.of_path(answer.path)
        if order is not None and answer.path is not None:
            order = judged(order, answer.path)
        objection = None if order is None or answer.refusal is not None else order.objection
        print_warnings(unrefused(answer.remarks, order, form))
        emit(_sheet(answer, found, form, manager, order), form)
        if not answer.runs or objection or (order is not None and order.depends):
            sys.exit(1)
    sys.exit(1 if any(hazard.breaks for hazard in found) else 0)


def _of_recording(recording: str, source: str | None, asked: Asked) -> tuple[Hazard, ...]:
    from vcpuid import hazards
    from vcpuid.answers.certainty import followed

    found = recorded(recording)
    if source is None and not found.tells_host:
        print_warnings([f"{found.recording.source}: it tells nothing of the host, and the table is checked by itself"])
        return hazards.of_recording(found.shown)
    cpu, setup = found.on(found.host(source), asked)
    try:
        path = followed(cpu, host=setup, vmm=found.vmm)
    except KvmError:  # a table that KVM refuses, which is among what is told
        return hazards.of_recording(found.shown)
    print_warnings(path.remarks)
    return hazards.of_recording(found.shown, path)


def _hazards_of_table(table_source: str, source: str | None, asked: Asked) -> tuple[Hazard, ...]:
    from vcpuid import hazards

    guest = read_host(table_source)
    remark_on_table(guest.snapshot, table_source)
    if source is None:
        has_no_effect("the table is checked by itself, on no host", "--smp", "--param", "--what-if", "--machine", "--global")
        return hazards.of_guest(guest.snapshot, stack=asked.stack(guest), source=table_source)
    has_no_effect("the table is given, and no QEMU makes it", "--smp", "--global")
    setup = asked.setup(read_host(source))
    print_warnings(setup.remarks)
    return hazards.of_guest(guest.snapshot, setup, source=table_source)


def _sheet(
    answer: Verdict | None, found: Sequence[Hazard], form: str, manager: str | None = None, order: Order | None = None
) -> Sheet:  # fmt: skip
    """Lay the answer out: programs get the verdict as the first row, people above the table."""
    from vcpuid.hazards.report import report
    from vcpuid.told.facts import whether

    hazards = _hazard_rows(found, one_each=form != "table")
    if answer is None:
        return Sheet(COLUMNS, hazards, report(found), titles=TITLES, lines=_lines(hazards), foot=_hazards_foot(found))
    rows = [
        *_refused_rows(order),
        *_missing_rows(answer),
        *_overruled_rows(answer),
        *_not_told_rows(answer, one_each=form != "table"),
        *hazards,
    ]
    if form != "table":
        told = _told(answer)
        if order is not None and (order.depends or order.refusal is not None):
            told = "depends" if order.depends else "refused"
        printed = (*answer.warnings, *whether(_WARNS, answer.warnings_not_told))
        objection = None if order is None else order.objection
        why = answer.refusal or objection or answer.not_known or "; ".join(printed) or (_NOT_TRIED if told == "not tried" else "")
        rows = [{"what": told, "rule": "verdict", "about": answer.cpu, "why": why, "remedy": answer.proposal or ""}, *rows]
    return Sheet(
        COLUMNS,
        rows,
        data=report(found, answer, manager, order),
        titles=TITLES,
        lines=_lines(rows),
        head=[*([] if order is None else order.head()), *_head(answer), ""],
        foot=[
            *([""] if rows else []),
            *_foot(answer),
            *(() if manager is None else written(answer, manager)),
            *(f"Taken for granted: {assumption}" for assumption in answer.assumes),
            *([] if answer.path is None or answer.refusal is not None else _hazards_foot(found)),
        ],
        styles={"what": "bold"},
    )


def _lines(rows: Sequence[dict[str, str]]) -> list[str]:
    return [" ".join(row[column] for column in COLUMNS[:3]) for row in rows]


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
    from vcpuid.answers.verdict import OWN_DOING

    asked = [missing.feature.name for missing in answer.missing if missing.put_back]
    unasked = [feature.name for feature in answer.put_back if feature.name not in asked]
    names = (
        (asked, "put back", "KVM does not offer it, so that QEMU warns and leaves it out; yet KVM puts it back, and the guest sees it", ""),
        (unasked, "put back", "QEMU leaves it out; yet KVM puts it back, and the guest sees it", ""),
        ([feature.name for feature in answer.withheld], "withheld", "QEMU gives it, and KVM does not show it to the guest", ""),
    )
    return [
        {"what": what, "rule": OWN_DOING.id, "about": "; ".join(features), "why": f"{why}: this KVM's own doing", "remedy": remedy}
        for features, what, why, remedy in names
        if features
    ]


def _hazard_rows(found: Sequence[Hazard], *, one_each: bool) -> list[dict[str, str]]:
    """Rows of hazards: for programs one each; for people one for what a rule finds and one for what it may, and one for the unjudged."""
    from vcpuid.told.facts import NotTold, grouped, listed

    rows = []
    for hazard in found if one_each else _put_together(found):
        why = f"depends on {listed(hazard.depends)}: {hazard.rule.consequence}" if hazard.depends else hazard.rule.consequence
        what = "not told" if hazard.depends else hazard.rule.severity.value
        about = hazard.subjects if one_each or not hazard.depends else _first(hazard.subjects)
        rows.append({"what": what, "rule": hazard.rule.id, "about": "; ".join(about), "why": why, "remedy": hazard.remedy})
    if not one_each:
        blind = [NotTold(hazard.rule.id, hazard.depends) for hazard in found if not hazard.subjects]
        rows += [_not_judged(ids, facts) for facts, ids in grouped(blind).items()]
    return rows


def _put_together(found: Sequence[Hazard]) -> Iterator[Hazard]:
    """Join what a rule may find by facts that are not told; leave out what nobody can judge."""
    from vcpuid.told.facts import in_common

    groups: dict[tuple[str, bool], list[Hazard]] = {}
    for hazard in found:
        if hazard.subjects:
            groups.setdefault((hazard.rule.id, bool(hazard.depends)), []).append(hazard)
    for members in groups.values():
        subjects = tuple(subject for hazard in members for subject in hazard.subjects)
        yield replace(members[0], subjects=subjects, depends=in_common([hazard.depends for hazard in members]))


_MOST = 12
"""As many of the things that a rule may find are named to people."""


def _first(subjects: Sequence[str]) -> Sequence[str]:
    return subjects if len(subjects) <= _MOST else (*subjects[:_MOST], f"{len(subjects) - _MOST} more")


def _not_judged(ids: Sequence[str], facts: tuple[Fact, ...]) -> dict[str, str]:
    from vcpuid.told.facts import listed, remedy

    why = f"depends on {listed(facts)}: nobody can tell whether there is any of these"
    return {"what": "not told", "rule": "hazards.not-judged", "about": "; ".join(ids), "why": why, "remedy": remedy(facts)}


def _not_told_rows(answer: Verdict, *, one_each: bool) -> list[dict[str, str]]:
    """For programs a row for each set of facts, for people one for each set of leaves and MSRs, with all features that depend on them."""
    from vcpuid.told.facts import by_facts, grouped, listed, remedy

    return [
        {
            "what": "not told",
            "rule": "host.not-told",
            "about": "; ".join(names),
            "why": f"depends on {listed(facts)}",
            "remedy": remedy(facts),
        }
        for facts, names in (by_facts if one_each else grouped)(answer.not_told).items()
    ]


def _told(answer: Verdict) -> str:
    """Name the verdict in a word."""
    if answer.runs is None:
        return "unknown" if answer.not_known else "depends" if answer.not_told else "not tried"
    if answer.runs or answer.refusal is None:
        return "runs" if answer.runs else "lacks"
    return "aborts" if answer.start is not None and answer.start.outcome == "aborts" else "refused"


def _head(answer: Verdict) -> list[str]:
    if answer.not_known is not None:
        return [f"-cpu {answer.cpu}: {answer.not_known}"]
    if answer.runs is None and not answer.not_told:
        return [f"-cpu {answer.cpu}: {_NOT_TRIED}"]
    if answer.runs is None:
        from vcpuid.told.facts import hidden, in_common

        facts = in_common([found.depends for found in answer.not_told])
        whole = f"-cpu {answer.cpu}: whether it runs with all that was asked depends on {hidden(facts)}"
        return [whole, *_warnings(answer)]
    if answer.refusal is not None and answer.start is not None and answer.start.outcome == "aborts":
        return [f"QEMU aborts with -cpu {answer.cpu}: this KVM refuses what QEMU sets at start: {answer.refusal}"]
    if answer.refusal is not None:
        return [f"QEMU does not start with -cpu {answer.cpu}: {answer.refusal}", *map(str, answer.meant)]
    if answer.runs:
        told = "runs with all that was asked"
    elif any(missing.forced for missing in answer.missing):
        told = "tells the guest of features that this host does not give"
    else:
        told = "runs without some of what was asked"
    return [f"-cpu {answer.cpu} {told}", *_warnings(answer)]


def _warnings(answer: Verdict) -> list[str]:
    """Tell what QEMU prints besides the features that it does not give: these are rows of the table."""
    from vcpuid.told.facts import whether

    certain = (f"QEMU warns: {warning}" for warning in answer.warnings if not _of_feature(warning))
    return [*certain, *whether(_WARNS, (found for found in answer.warnings_not_told if not _of_feature(found.what)))]


def _of_feature(warning: str) -> bool:
    return "requested feature: CPUID" in warning or "requested feature: MSR" in warning


def _foot(answer: Verdict) -> list[str]:
    if answer.proposal == answer.cpu or answer.runs is None:
        return []
    lines = [f"Runs without a warning: -cpu {answer.proposal}" if answer.proposal else "No -cpu of this model runs without a warning."]
    lines += [
        f"    {_AMENDED[amendment.kind].format(amendment.what)}: {amendment.why}"
        for amendment in answer.amendments
        if amendment.kind in _AMENDED
    ]
    if answer.nearest is not None:
        lines.append(f"The nearest model that runs as it is: -cpu {answer.nearest}")
    return lines


def written(answer: Verdict, manager: str) -> list[str]:
    """Lay out the -cpu that runs in a manager's words: nothing where none runs."""
    words = answer.written(manager)
    if words is None:
        return []
    return [f"For {manager}:", *(f"    {line}".rstrip() for line in words.lines), *(f"({remark})" for remark in words.remarks)]


def _hazards_foot(found: Sequence[Hazard]) -> list[str]:
    """Say that nothing hurts; where something may that is not told, that what is told has no hazard."""
    if any(not hazard.depends for hazard in found):
        return []
    return ["No hazards found in what is told; what is not told may hold those above."] if found else ["No hazards found."]
