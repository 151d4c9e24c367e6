"""An upgrade of a fleet: what it changes on each class is what it changes on that host alone."""

from __future__ import annotations

import pytest

from support.captures import host
from support.fleets import census
from vcpuid import Setup, Stack
from vcpuid.answers.drift import Side, drift
from vcpuid.fleet.baseline import baseline
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.upgrade import upgrade

BEFORE, AFTER = Stack(kernel="6.1", qemu="7.2"), Stack(kernel="7.3", qemu="11.1")
SKYLAKE, MILAN, GENOA = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.EPYC-Genoa-v1@7.3"


@pytest.mark.parametrize("cpu", ["host", "qemu64"])
def test_each_hosts_changes_are_its_own(cpu: str) -> None:
    names = [MILAN, GENOA]
    found = upgrade(cpu, census(names), BEFORE, AFTER)
    assert found.refused == ()
    for name in names:
        facts = HostClass.of(host(name)).facts
        alone = drift(*(Side.of(cpu, Setup.of(facts, stack)) for stack in (BEFORE, AFTER)))
        told = {
            (shift.change, feature)
            for shift in found.shifts
            for group in shift.groups
            if group.example == name
            for feature in shift.features
        }
        assert told == {(change.change, change.feature.name) for change in alone.changes}


def test_a_baseline_of_today_stands_the_same_stack() -> None:
    fleet = census([SKYLAKE, MILAN])
    today = Stack(qemu="10.0")
    cpu = baseline(fleet, today).cpu
    assert cpu is not None
    found = upgrade(cpu, fleet, today, today)
    assert (found.runs, found.shifts, found.refused, found.differs, found.same) == (True, (), (), (), 2)


def test_a_release_that_does_not_know_the_model_refuses_it() -> None:
    found = upgrade("EPYC-Genoa-v2", census([MILAN]), Stack(qemu="11.1"), Stack(qemu="7.2"))
    assert [(refusal.when, refusal.group.example) for refusal in found.refused] == [("after", MILAN)]
    assert found.runs is False
