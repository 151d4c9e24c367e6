"""What in a guest's CPUID will hurt: rules by topic, each a row with its detector, its consequence and what to do about it."""

from __future__ import annotations

from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.hazards import features, leaves, migration, security, topology, xsave
from vcpuid.hazards.rule import Hazard, HazardRule, Severity
from vcpuid.hazards.view import View
from vcpuid.path.pipeline import Path
from vcpuid.setup import Setup, Stack

__all__ = ["RULES", "Hazard", "HazardRule", "Severity", "View", "find", "of_path", "of_table"]

RULES = (*features.RULES, *xsave.RULES, *leaves.RULES, *topology.RULES, *security.RULES, *migration.RULES)


def of_path(path: Path) -> tuple[Hazard, ...]:
    """Find what will hurt the guest of a resolved path."""
    return find(View(path.tables[0], path.setup, path.host, path.made, path.made.msrs, path.tables[1:]))


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
    return tuple(sorted((hazard for hazard in found if hazard.subjects), key=lambda hazard: list(Severity).index(hazard.rule.severity)))
