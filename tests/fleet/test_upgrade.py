"""An upgrade of a fleet: what it changes on each class is what it changes on that host alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.captures import host
from support.fleets import census
from vcpuid import InputError, Setup, Stack
from vcpuid.answers.drift import Side, drift
from vcpuid.fleet.baseline import baseline
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.upgrade import upgrade
from vcpuid.releases import KERNELS

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


def test_registers_that_are_no_feature_are_among_what_changes() -> None:
    """QEMU 11.1 tells other caches and widths than 7.2; each host's are those that it has alone."""
    names = [SKYLAKE, MILAN]
    found = upgrade("host", census(names), BEFORE, AFTER)
    assert {"caches", "address bits"} & {one.what for one in found.registers}
    assert found.same == 0
    assert not found.settled
    for name in names:
        facts = HostClass.of(host(name)).facts
        alone = drift(*(Side.of("host", Setup.of(facts, stack)) for stack in (BEFORE, AFTER)))
        told = {register for one in found.registers for register in one.registers if name in {group.example for group in one.groups}}
        assert told == {*alone.others}


@pytest.mark.parametrize("side", ["--from", "--to"])
@pytest.mark.parametrize("program", ["kernel", "QEMU"])
def test_software_that_a_host_does_not_tell_is_not_the_same_on_both_sides(program: str, side: str) -> None:
    """What stands for it may be the very release that is asked about, on one class of two as well as on all."""
    told = replace(host(SKYLAKE), kernel="6.12.1", qemu="10.0.2")
    untold = replace(host(MILAN), **{"kernel" if program == "kernel" else "qemu": None})
    name = "kernel" if program == "kernel" else "qemu"
    newest = Stack(**{name: KERNELS[-1] if program == "kernel" else "11.1"})
    sides = (Stack(), newest) if side == "--from" else (newest, Stack())
    found = upgrade("qemu64", census([], [("told", told), ("untold", untold)]), *sides)
    silent = {unknown.group.example: unknown.software for unknown in found.not_told}
    assert [(one.program, one.how) for one in silent["untold"]] == [(program, f"{side} {name}=RELEASE")]
    assert silent.get("told", ()) == ()
    assert not found.settled
    with pytest.raises(InputError, match=f"which {program} runs on the hosts is not told; {side} {name}=RELEASE"):
        upgrade("qemu64", census([], [("untold", replace(untold, qemu=None))]), *sides)
    same = replace(told, kernel=KERNELS[-1], qemu="11.1")
    with pytest.raises(InputError, match=f"which {program} runs on untold is not told; {side} {name}=RELEASE"):
        upgrade("qemu64", census([], [("a", same), ("untold", untold)]), *sides)
