"""What in a guest's CPUID will hurt: rules by topic, each a row with its detector, its consequence and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from vcpuid.answers.certainty import hanging
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.hazards import features, leaves, migration, security, topology, xsave
from vcpuid.hazards.recording import of_calls
from vcpuid.hazards.rule import Hazard, HazardRule, Looks, Severity
from vcpuid.hazards.view import HostFacts, View
from vcpuid.kvm.alike import Alike, Same
from vcpuid.kvm.answers import Answers
from vcpuid.path.pipeline import Path, guest_view
from vcpuid.path.possible import possible, possible_tables, unnamed_table
from vcpuid.qemu.state import CpuState
from vcpuid.reasons import Basis
from vcpuid.setup import SHARED, Setup, Stack
from vcpuid.told.completions import nameless
from vcpuid.told.doubt import weighed
from vcpuid.told.facts import Fact
from vcpuid.vmm import Vmm
from vcpuid.vmm.observed import ShownGuest, observed
from vcpuid.vmm.recorded import Recorded

__all__ = ["RULES", "Hazard", "HazardRule", "Looks", "Severity", "View", "find", "of_guest", "of_path", "of_recording", "of_table"]

RULES = (*features.RULES, *xsave.RULES, *leaves.RULES, *topology.RULES, *security.RULES, *migration.RULES)


Finding = tuple[HazardRule, str]


def of_path(path: Path) -> tuple[Hazard, ...]:
    """Find what will hurt the guest of a resolved path, and what will or will not by facts that the host does not tell."""
    if blind := nameless(path.host):
        return _blind(_findings(_view(path)), blind, {Looks.TABLE, Looks.HOST})
    hanging_ = hanging(path.cpu, path.setup, path.vmm, lambda other: None if other is None else _found_on(other))
    return _judged(_findings(_view(path)), hanging_)


def _view(path: Path) -> View:
    seen = guest_view(path) if path.trace.step("vcpu").basis is Basis.OBSERVED else None
    return View(path.tables[0], path.setup, path.host, path.made, path.made.msrs, path.tables[1:], seen=seen)


_FOUND: Alike[dict[Finding, bool]] = Alike(SHARED)
_NO_HOST = Snapshot()


def _found_on(path: Path) -> dict[Finding, bool]:
    """Find what hurts on one of the hosts that one could be; those with the same CPU of QEMU share it if rules cannot tell them apart."""
    facts = HostFacts.of(path.setup, path.host)
    if facts is None or not isinstance(path.made.detail, CpuState):
        return _found(_view(path))
    nowhere = replace(path.setup, host=_NO_HOST, ran=None)
    key = (Same(path.made.detail), nowhere, facts.vendor, facts.bugs)

    def find_on(says: Answers) -> dict[Finding, bool]:
        made = path.made
        return _found(View(path.tables[0], nowhere, None, made, made.msrs, path.tables[1:], facts._replace(kvm=says)))

    return _FOUND.made(key, facts.kvm, find_on)


def of_table(table: CpuidTable, host: Snapshot | Setup | None = None, stack: Stack | None = None) -> tuple[Hazard, ...]:
    """Find what will hurt a guest with this table, which is whole, on `host` where one is given; its feature MSRs are not known.

    `stack` is the software, where `host` is no Setup, which holds it.

    Raises InputError for a host or a stack that makes no sense.
    """
    return _of_recorded(Recorded((table,)), host, stack)


def of_guest(
    guest: Snapshot, host: Snapshot | Setup | None = None, stack: Stack | None = None, source: str | None = None
) -> tuple[Hazard, ...]:
    """Do the same with the table of a guest's snapshot, which may be a dump that does not tell all of it.

    Raises InputError, with `source`, also for a snapshot that has no table.
    """
    return _of_recorded(Recorded.of((guest,), source), host, stack)


def of_recording(shown: ShownGuest, path: Path | None = None) -> tuple[Hazard, ...]:
    """Find what a guest's recording shows wrong, and what in its table will hurt: on the `path` that it takes, or by itself.

    Raises InputError where it shows no table.
    """
    table = _of_recorded(observed(shown), None, None) if path is None else of_path(path)
    return _sorted((*of_calls(shown), *table))


def _of_recorded(shown: Recorded, host: Snapshot | Setup | None, stack: Stack | None) -> tuple[Hazard, ...]:
    setup = host if isinstance(host, Setup) else Setup.of(Snapshot() if host is None else host, stack)
    if blind := unnamed_table(shown):
        view = View(shown.tables[0], setup, None if host is None or nameless(setup.host) else setup.host)
        return _blind(_findings(view), blind, set(Looks), certain=True)
    if host is None or not (blind := nameless(setup.host)):
        return _on_host(shown, setup, known=host is not None)
    alone = _on_host(shown, setup, known=False)
    of_host = [(hazard.rule, subject) for hazard in alone if hazard.rule.looks is Looks.HOST for subject in hazard.subjects]
    return _sorted((*(hazard for hazard in alone if hazard.rule.looks is not Looks.HOST), *_blind(of_host, blind, {Looks.HOST})))


def _on_host(shown: Recorded, setup: Setup, *, known: bool) -> tuple[Hazard, ...]:
    """Judge a table, of which a part may be all that is known, on the setup's host, or by itself where that is not `known`."""

    def found(given: Setup, vmm: Vmm) -> dict[Finding, bool]:
        assert isinstance(vmm, Recorded)
        return _found(View(vmm.tables[0], given, given.host if known else None))

    base = found(setup, shown)
    others = possible(setup, shown) if known else possible_tables(setup, shown)
    return _judged(base, weighed(base, others.tried(found)))


def _found(view: View) -> dict[Finding, bool]:
    return dict.fromkeys(_findings(view), True)


def _findings(view: View) -> list[Finding]:
    return [(hazard.rule, subject) for hazard in find(view) for subject in hazard.subjects]


def _judged(found: Iterable[Finding], hanging_: Mapping[Finding, tuple[Fact, ...]]) -> tuple[Hazard, ...]:
    """Put findings together by rule, and by the facts on which they hang; those that hang need not have been found."""
    findings: dict[tuple[HazardRule, tuple[Fact, ...]], list[str]] = {}
    for rule, subject in dict.fromkeys((*found, *hanging_)):
        findings.setdefault((rule, hanging_.get((rule, subject), ())), []).append(subject)
    return _sorted(Hazard(rule, tuple(subjects), facts) for (rule, facts), subjects in findings.items())


def _blind(found: Sequence[Finding], facts: tuple[Fact, ...], looking: Collection[Looks], certain: bool = False) -> tuple[Hazard, ...]:
    """Judge a table or a host without leaves 0 or 1: all rules that look there are open, those too that found nothing.

    What was found is `certain` where those leaves could not take it back.
    """
    hazards = []
    for rule in RULES:
        subjects = tuple(subject for of, subject in found if of is rule)
        open_ = rule.looks in looking and not (certain and subjects)
        if subjects or (open_ and rule.looks is not Looks.ASKED):
            hazards.append(Hazard(rule, subjects, facts if open_ else ()))
    return _sorted(hazards)


def find(view: View) -> tuple[Hazard, ...]:
    """Try every rule; the worst come first, else in the order of the rules."""
    found = ((rule, tuple(dict.fromkeys(rule.detect(view)))) for rule in RULES)
    return _sorted(Hazard(rule, subjects) for rule, subjects in found if subjects)


def _sorted(found: Iterable[Hazard]) -> tuple[Hazard, ...]:
    return tuple(sorted(found, key=lambda hazard: (hazard.rule.severity.rank, bool(hazard.depends))))
