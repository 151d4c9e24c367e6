"""Hosts have QEMUs of their own, where their snapshots tell of them: a baseline is worked on each by its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import command
from support.captures import host
from support.fleets import HOSTS, census
from vcpuid import Setup, Stack
from vcpuid.answers.verdict import unadvised
from vcpuid.cpuid import Snapshot
from vcpuid.fleet.baseline import Baseline, baseline
from vcpuid.fleet.blame import blame
from vcpuid.fleet.changes import changed
from vcpuid.fleet.classes import HostClass
from vcpuid.fleet.members import Census
from vcpuid.fleet.moves import between, circles, move
from vcpuid.fleet.named import named_models
from vcpuid.fleet.software import chosen, eldest, qemus
from vcpuid.qemu.catalog import catalog
from vcpuid.releases import QEMUS

FLEET = "tests/golden/fleet"
SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"


def with_qemu(name: str, release: str | None) -> Snapshot:
    return replace(host(name), qemu=release)


def fleet(*members: tuple[str, str | None]) -> Census:
    return census([], [(f"{name} {release}", with_qemu(name, release)) for name, release in members])


def proven(found: Baseline) -> None:
    """Hold it against each member by the path itself, with its own QEMU."""
    assert found.cpu is not None
    assert found.runs
    for setup in found.setups:
        told = unadvised(f"{found.cpu},enforce", setup)
        assert told.runs, (str(setup.vmm), told)


def test_a_baseline_is_worked_on_each_host_by_its_own_qemu() -> None:
    found = baseline(fleet((SKYLAKE, "10.0.3"), (SAPPHIRE, "8.2.2")))
    assert sorted(setup.vmm.tables for setup in found.setups) == ["10.0", "8.2"]
    assert {setup.machine for setup in found.setups} == {"pc-q35-8.2"}
    assert qemus(found.setups) == "8.2 and 10.0"
    assert any("pc-q35-8.2" in remark for remark in found.remarks)
    proven(found)
    assert found.alike
    assert found.shared is not None
    assert {*found.shared.plus, *found.shared.minus} <= catalog("8.2").flags.keys()
    assert found.as_dict()["vmm"] == eldest(found.setups).vmm.as_dict()


def test_one_that_is_named_is_that_of_all() -> None:
    found = baseline(fleet((SKYLAKE, "10.0.3"), (SAPPHIRE, "8.2.2")), Stack(qemu="9.0"))
    assert {(str(setup.vmm), setup.machine) for setup in found.setups} == {("9.0", "q35")}


def test_where_all_have_the_same_one_the_machine_type_is_the_one_asked_for() -> None:
    found = baseline(fleet((SKYLAKE, "9.1.0"), (SAPPHIRE, "9.1.2")))
    assert {(setup.vmm.tables, setup.machine) for setup in found.setups} == {("9.1", "q35")}
    assert found.remarks == ()


def test_a_host_that_does_not_tell_has_the_newest() -> None:
    found = baseline(fleet((SKYLAKE, None), (SAPPHIRE, QEMUS[-1])))
    assert {setup.vmm.tables for setup in found.setups} == {QEMUS[-1]}


@pytest.mark.long
@given(members=st.lists(st.tuples(st.sampled_from(HOSTS), st.sampled_from(QEMUS)), min_size=2, max_size=3, unique=True))
@settings(max_examples=15, deadline=None)
def test_whatever_the_qemus_it_runs_on_each_as_proven(members: list[tuple[str, str]]) -> None:
    found = baseline(fleet(*members))
    if found.cpu is None:
        assert found.refused
    elif found.runs:
        proven(found)


def test_a_class_is_known_by_its_qemu_s_series_where_it_is_told() -> None:
    ids = {release: HostClass.of(with_qemu(SKYLAKE, release)).id for release in (None, "8.2.2", "8.2.10", "10.0.3")}
    assert ids["8.2.2"] == ids["8.2.10"]
    assert len(set(ids.values())) == 3
    one, other = (HostClass.of(with_qemu(SKYLAKE, release)) for release in ("8.2.2", "10.0.3"))
    assert list(changed(one, other)) == ["QEMU 8.2 → 10.0"]


def test_what_moves_between_qemus_is_asked_of_the_older_one_s_machine_type() -> None:
    one, other = (HostClass.of(with_qemu(SKYLAKE, release)) for release in ("8.2.2", "10.0.3"))
    found = between(lambda here, there: move("Skylake-Server-v4", here, there), one, other, None)
    assert found.outcome == "yes", found
    assert any("pc-q35-8.2" in remark for remark in found.remarks)
    parted = circles("Skylake-Server-v4", fleet((SKYLAKE, "8.2.2"), (SKYLAKE, "10.0.3")))
    assert [circle.hosts for circle in parted.circles] == [2]


@pytest.mark.parametrize("pair", [("5.2", QEMUS[-1]), (QEMUS[-1], "5.2")])
def test_models_are_the_oldest_one_s_and_what_it_does_not_know_is_laid_to_it(pair: tuple[str, str]) -> None:
    members = fleet((SAPPHIRE, pair[0]), (SAPPHIRE, pair[1]))
    names = {model.name for model in named_models(members).models}
    assert names <= catalog("5.2").models.keys()
    found = blame(members)
    of_old = [loss for loss in found.losses if "5.2" in loss.who and "fzrm" in loss.features]
    assert [loss.party for loss in of_old] == ["qemu"]
    assert f"QEMU 5.2 → {QEMUS[-1]}" in of_old[0].mends[0]


def test_a_snapshot_s_own_qemu_is_that_of_a_question_about_one_host() -> None:
    assert str(Setup.of(with_qemu(SKYLAKE, "8.2.2")).vmm) == "8.2.2"
    assert str(Setup.of(with_qemu(SKYLAKE, "8.2.2"), Stack(qemu="10.0")).vmm) == "10.0"


def test_of_a_qemu_that_no_host_tells_every_verb_says_that_it_is_the_newest_known() -> None:
    """A -cpu for a QEMU that nobody named may not start in the one that the reader has."""
    untold = "QEMU 11.1 (the newest known; the hosts do not tell theirs, --qemu names another), q35"
    a, b = "node1", "node3"
    for verb, *more in (("baseline",), ("models",), ("blame",), ("migrate",), ("migrate", a, b)):
        asked = command.vcpuid("fleet", verb, FLEET, *more).stdout.splitlines()[1]
        named = command.vcpuid("fleet", verb, FLEET, *more, "--qemu", "11.1").stdout.splitlines()[1]
        assert untold in asked
        assert named == asked.replace(untold, "QEMU 11.1, q35")


def test_a_qemu_that_some_hosts_tell_is_parted_from_the_newest() -> None:
    told, not_told = Setup.of(replace(host(SKYLAKE), qemu="8.2")), Setup.of(host(SKYLAKE))
    assert chosen([told, told]) == "8.2"
    assert chosen([told, not_told]).startswith("8.2 and 11.1 (11.1, the newest known, on hosts that do not tell theirs; ")
    assert chosen([not_told]) == "11.1 (the newest known; the host does not tell its own, --qemu names another)"


def test_an_upgrade_to_what_is_taken_for_granted_before_is_no_answer() -> None:
    """Snapshots that tell no QEMU have the newest on both sides, and nothing would change."""
    status, out, error = command.vcpuid("fleet", "drift", FLEET, "--to", "qemu=11.1", "--cpu", "qemu64")
    assert (status, out, error.count("\n")) == (3, "", 1)
    assert "before and after are the same, QEMU 11.1, q35, Linux 6.12 and 7.3: " in error
    assert "--from qemu=RELEASE" in error
    _, out, _ = command.vcpuid("fleet", "drift", FLEET, "--from", "qemu=7.2", "--to", "qemu=11.1", "--cpu", "qemu64")
    before, after, cpu = out.splitlines()[1:4]
    assert before.startswith("before: QEMU 7.2, q35, Linux ")
    assert after.startswith("after:  QEMU 11.1, q35, Linux ")
    assert cpu == "-cpu qemu64"
