"""Blame: who costs what is what leaving each one out would win."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import capture, host
from support.command import vcpuid
from support.fleets import HOSTS, census
from vcpuid import Stack
from vcpuid.cpuid import CpuidTable
from vcpuid.fleet import words
from vcpuid.fleet.blame import blame
from vcpuid.fleet.named import named_models
from vcpuid.fleet.software import settled
from vcpuid.fleet.words import worthwhile
from vcpuid.qemu.catalog import catalog
from vcpuid.releases import UPSTREAM, number

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@6.12"
STACK = Stack(qemu="10.0")


@pytest.mark.long
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


def test_a_win_is_the_smallest_set_whose_leaving_lets_a_better_model_run() -> None:
    fleet = census([SKYLAKE, SAPPHIRE, MILAN])
    found = blame(fleet, STACK)
    running = {model.name: model.features for model in named_models(fleet, STACK).models if model.runs and not model.deprecated}
    now = max(running.values())
    assert [win.features for win in found.wins] == sorted(win.features for win in found.wins)
    for win in found.wins:
        gone = {obstacle.group.example for obstacle in win.obstacles}
        rest = named_models(census([name for name in (SKYLAKE, SAPPHIRE, MILAN) if name not in gone]), STACK)
        assert next(model for model in rest.models if model.name == win.model).runs
        assert win.more == win.features - now > 0
        assert win.than is not None
        assert running[win.than] == now
        for stays in gone:  # none of them can stay
            fewer = [name for name in (SKYLAKE, SAPPHIRE, MILAN) if name not in gone or name == stays]
            assert next(model for model in named_models(census(fewer), STACK).models if model.name == win.model).runs is False
    assert [(win.hosts, win.level) for win in found.wins] == [(1, 3), (2, 4)]
    files = [str(capture(name)) for name in (SKYLAKE, SAPPHIRE, MILAN)]
    shown = vcpuid("fleet", "blame", *files, "--qemu", "10.0").stdout
    said = " ".join(shown.split())
    assert all(f"{win.more} features more than {win.than}, the best on all now, x86-64-v{win.level}" in said for win in found.wins)


@pytest.mark.parametrize(
    "names", [[SKYLAKE, SAPPHIRE, MILAN], ["kvm-amd.Broadwell-v4-amdvendor@6.12", "kvm-intel.corei5_arrandale_m520@6.12"]]
)
def test_no_set_of_as_few_hosts_wins_a_better_model_than_is_told(names: list[str]) -> None:
    found = blame(census(names), STACK)
    models = [model for model in named_models(census(names), STACK).models if not model.deprecated]
    for leaving in range(len(names)):
        best = max((model.features for model in models if len(names) - model.hosts <= leaving), default=0)
        told = max((win.features for win in found.wins if win.hosts <= leaving), default=0)
        now = max((model.features for model in models if model.runs), default=0)
        assert told == (best if best > now else 0)


def test_a_host_with_the_same_processor_shows_what_would_mend_it() -> None:
    """One has older microcode, by which it lacks SPEC_CTRL."""
    whole = host(SAPPHIRE)
    assert whole.supported is not None
    table = CpuidTable(e._replace(edx=e.edx & ~(1 << 26)) if (e.function, e.index) == (7, 0) else e for e in whole.supported)
    raw = CpuidTable(e._replace(edx=e.edx & ~(1 << 26)) if (e.function, e.index) == (7, 0) else e for e in whole.raw)
    older = replace(whole, supported=table, raw=raw, cpuinfo={"microcode": "0x2b000041"})
    newer = replace(whole, cpuinfo={"microcode": "0x2b000603"})
    found = blame(census([], [("older", older), ("newer", newer)]), STACK)
    by_name = {name: loss for loss in found.losses for name in loss.features}
    assert by_name["spec-ctrl"].who == "older"
    assert by_name["spec-ctrl"].mends[0] == "newer, with the same processor, gives it: microcode 0x2b000041 → 0x2b000603"


def test_a_newer_kernel_that_would_give_it_is_named() -> None:
    alone, other = "kvm-intel.arrow_lake@6.1", "kvm-intel.arrow_lake@7.3"
    found = blame(census([alone, other]), Stack(qemu="11.1"))
    by_name = {name: loss for loss in found.losses for name in loss.features}
    for feature, kernel in (("cmpccxadd", "6.2"), ("cet-ss", "6.18"), ("sha512", "6.13")):
        loss = by_name[feature]
        assert (loss.who, loss.party) == (alone, "kvm")
        twin, newer = loss.mends[:2]
        assert twin.startswith(f"{other}, with the same processor, gives it: kernel 6.1 → 7.3")
        first = next(release for release in UPSTREAM if number(release) >= number(kernel))
        assert newer == f"Linux {first}, whose KVM gives it"


def test_what_kvm_does_not_give_is_laid_to_it_where_the_processor_does_not_tell() -> None:
    """KVM's word of IA32_ARCH_CAPABILITIES is in the snapshot, and the hardware's, which only root reads, is not."""
    found = blame(census([SKYLAKE, SAPPHIRE]), Stack(qemu="10.0"))
    loss = next(loss for loss in found.losses if "rdctl-no" in loss.features)
    assert (loss.cause, loss.party, loss.why) == (None, "kvm", "whether the host's processor has it is not told")
    assert loss.who == SKYLAKE


def test_no_kernel_mends_a_processor_and_no_host_is_an_example_whose_kernel_is_not_told() -> None:
    whole = host(SAPPHIRE)
    assert whole.supported is not None

    def lacking(table: CpuidTable) -> CpuidTable:
        return CpuidTable(e._replace(ebx=e.ebx & ~(1 << 29)) if (e.function, e.index) == (7, 0) else e for e in table)  # sha-ni

    bare = replace(whole, raw=lacking(whole.raw), supported=lacking(whole.supported), cpuinfo={})
    stack = Stack(qemu="10.0")
    newer = blame(census([], [("bare", bare), ("newer", replace(whole, kernel="6.18"))]), stack)
    (loss,) = (loss for loss in newer.losses if loss.features == ("sha-ni",))
    assert loss.party == "silicon"
    assert loss.mends[0] == "newer, with the same processor, gives it: compare the settings of their firmware"
    silent = blame(census([], [("bare", bare), ("silent", replace(whole, kernel=None))]), stack)
    (loss,) = (loss for loss in silent.losses if loss.features == ("sha-ni",))
    assert not any("silent" in way for way in loss.mends)
    assert any(remark.startswith("silent: the kernel is not told") for remark in silent.remarks)
