"""What in a guest's CPUID will hurt: rules by topic, each a row with its detector, its consequence and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

from vcpuid.answers.certainty import hanging
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.hazards import features, leaves, migration, security, topology, xsave
from vcpuid.hazards.rule import Hazard, HazardRule, Severity
from vcpuid.hazards.view import View
from vcpuid.path.pipeline import Path
from vcpuid.setup import Setup, Stack
from vcpuid.told.facts import Fact

__all__ = ["RULES", "Hazard", "HazardRule", "Severity", "View", "find", "of_path", "of_table"]

RULES = (*features.RULES, *xsave.RULES, *leaves.RULES, *topology.RULES, *security.RULES, *migration.RULES)


def of_path(path: Path) -> tuple[Hazard, ...]:
    """Find what will hurt the guest of a resolved path, and what will or will not by facts that the host does not tell."""
    certain = [finding for hazard in _of(path) for finding in _findings(hazard)]
    hanging_ = hanging(path.cpu, path.setup, path.vmm, _found)
    findings: dict[tuple[HazardRule, tuple[Fact, ...]], list[str]] = {}
    for rule, subject in dict.fromkeys((*certain, *hanging_)):
        findings.setdefault((rule, hanging_.get((rule, subject), ())), []).append(subject)
    return _sorted(Hazard(rule, tuple(subjects), facts) for (rule, facts), subjects in findings.items())


def _of(path: Path) -> tuple[Hazard, ...]:
    return find(View(path.tables[0], path.setup, path.host, path.made, path.made.msrs, path.tables[1:]))


def _found(path: Path | None) -> dict[tuple[HazardRule, str], bool] | None:
    return None if path is None else {finding: True for hazard in _of(path) for finding in _findings(hazard)}


def _findings(hazard: Hazard) -> list[tuple[HazardRule, str]]:
    return [(hazard.rule, subject) for subject in hazard.subjects]


def of_table(table: CpuidTable, host: Snapshot | Setup | None = None, stack: Stack | None = None) -> tuple[Hazard, ...]:
    """Find what will hurt a guest with this table, on `host` where one is given; of the guest's feature MSRs nothing is known.

    `stack` is the software, where `host` is no Setup, which holds it.

    Raises InputError for a host or a stack that makes no sense.
    """
    setup = host if isinstance(host, Setup) else Setup.of(Snapshot() if host is None else host, stack)
    return find(View(table, setup, None if host is None else setup.host))


def find(view: View) -> tuple[Hazard, ...]:
    """Try every rule; the worst come first, else in the order of the rules."""
    found = (Hazard(rule, tuple(dict.fromkeys(rule.detect(view)))) for rule in RULES)
    return _sorted(hazard for hazard in found if hazard.subjects)


def _sorted(found: Iterable[Hazard]) -> tuple[Hazard, ...]:
    return tuple(sorted(found, key=lambda hazard: (list(Severity).index(hazard.rule.severity), bool(hazard.depends))))
