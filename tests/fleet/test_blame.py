"""Blame: who costs what is what leaving each one out would win."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from support.fleets import HOSTS, census
from vcpuid import Stack
from vcpuid.fleet import words
from vcpuid.fleet.baseline import settled, worthwhile
from vcpuid.fleet.blame import blame
from vcpuid.qemu.catalog import catalog

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@6.12"
STACK = Stack(qemu="10.0")


@given(names=st.lists(st.sampled_from(HOSTS), min_size=2, max_size=5, unique=True))
@settings(max_examples=15, deadline=None)
def test_what_a_class_alone_costs_is_what_leaving_it_out_wins(names: list[str]) -> None:
    fleet = census(names)
    setups, tables = settled(fleet, STACK), catalog("10.0")
    offered = [worthwhile(words.offered(setup)) for setup in setups]
    common = words.meet(offered)
    found = blame(fleet, STACK)
    for at, group in enumerate(fleet.groups):
        alone = {name for loss in found.losses if loss.culprits == (group,) for name in loss.features}
        rest = offered[:at] + offered[at + 1 :]
        assert alone == (set(words.names(words.without(words.meet(rest), common), tables)) if rest else set())


def test_each_lost_feature_is_told_once_with_its_cause() -> None:
    found = blame(census([SKYLAKE, SAPPHIRE, MILAN]), STACK)
    features = [name for loss in found.losses for name in loss.features]
    assert len(set(features)) == len(features)
    by_name = {name: loss for loss in found.losses for name in loss.features}
    assert by_name["avx512f"].who == MILAN
    assert (by_name["avx512f"].party, by_name["avx512f"].hosts) == ("silicon", 1)
    assert by_name["amx-tile"].hosts == 2
    assert found.losses == tuple(sorted(found.losses, key=lambda loss: loss.hosts))
    assert found.shared < found.offered


def test_equal_hosts_cost_nothing() -> None:
    found = blame(census([SKYLAKE]), STACK)
    assert found.losses == ()
    assert found.shared == found.offered
