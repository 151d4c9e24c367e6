"""A table of which only a dump is known tells as much as its lines do; one that was recorded, or that a party made, is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.captures import host, stack
from vcpuid import Setup, hazards, resolve
from vcpuid.answers.certainty import open_bits
from vcpuid.answers.explain import explain
from vcpuid.answers.survey import NOT_TOLD_CHANGE, cpuid_features, survey, words_of
from vcpuid.cpuid import CpuidTable, Entry, MsrWord, Snapshot
from vcpuid.cpuid.names import find
from vcpuid.cpuid.walk import walk
from vcpuid.hazards import RULES, Looks
from vcpuid.kvm import lookup
from vcpuid.path.pipeline import Path, guest_snapshot
from vcpuid.reasons import read_register
from vcpuid.told.completions import untold
from vcpuid.told.facts import TABLE
from vcpuid.vmm.recorded import Recorded

NAME = "kvm-intel.corei7_skylake_x@6.12"
FEATURES = cpuid_features()
WORDS = words_of(FEATURES)

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")


@cache
def setup() -> Setup:
    return Setup.of(replace(host(NAME), table=None, kept=None), stack(NAME))


@cache
def guest(cpu: str = "Haswell-noTSX") -> Snapshot:
    """A guest as vcpuid writes it: what its CPUID answers, and its table."""
    return guest_snapshot(resolve(cpu, host=setup()))


@cache
def read() -> CpuidTable:
    """What a program in that guest reads."""
    table = guest().kept
    assert table is not None
    return walk(lambda function, index: lookup(table, function, index))


def dump(kept: Callable[[Entry], bool] = lambda _: True) -> Snapshot:
    """That, or what is left of it."""
    return Snapshot(raw=CpuidTable(entry for entry in read() if kept(entry)))


def path(of: Snapshot) -> Path:
    return resolve("dump", host=setup(), vmm=Recorded.of((of,)))


def up_to_leaf_7(entry: Entry) -> bool:
    return entry.function <= 7


@pytest.mark.long
def test_a_leaf_that_a_cut_dump_lost_is_not_told() -> None:
    told = explain(find("lm"), path(dump(up_to_leaf_7)))
    assert told.visible is None
    assert {fact.of for fact in told.depends} == {TABLE}
    assert "of the table" in told.verdict
    assert told.remedy == "give the whole table (cpuid -1r or vcpuid collect in the guest, or a recording of KVM_SET_CPUID2)"
    assert [stage.value for stage in told.stages[:3]] == [True, True, True]


@pytest.mark.parametrize("feature", ["avx2", "fma", "lm"])
def test_a_whole_dump_tells_what_the_table_does(feature: str) -> None:
    for of in (dump(), guest(), Snapshot(table=guest().table)):
        told = explain(find(feature), path(of))
        assert (told.visible, told.depends) == (True, ())


def test_a_recorded_table_is_whole_wherever_it_stops() -> None:
    table = guest().table
    assert table is not None
    short = Snapshot(table=CpuidTable(entry for entry in table if entry.function <= 7))
    assert explain(find("lm"), path(short)).visible is False


def test_what_a_cut_dump_has_is_told() -> None:
    assert explain(find("avx2"), path(dump(up_to_leaf_7))).visible is True
    assert explain(find("avx512f"), path(dump(up_to_leaf_7))).visible is False


def test_entries_of_a_dump_answer_for_their_own_sub_leaf() -> None:
    """Without KVM's flag for that, sub-leaf 1 of leaf 7 would be answered with sub-leaf 0, and a guest see AVX-VNNI-INT16, say."""
    found = survey(path(dump()))
    truth = survey(resolve("Haswell-noTSX", host=setup()))
    assert {feature.name for feature in found.seen} == {feature.name for feature in truth.seen}


@pytest.mark.long
def test_without_leaf_1_and_the_first_extended_leaf_a_guest_may_ask_for_none_of_those() -> None:
    told = answers(dump(lambda entry: entry[:2] not in {(1, 0), (0x80000000, 0)}))
    assert {told[name] for name in ("lm", "nx", "syscall", "lahf_lm")} == {None}


@pytest.mark.parametrize("gone", [0, 1])
def test_without_leaf_0_or_1_a_table_tells_its_own_leaves_alone(gone: int) -> None:
    of = dump(lambda entry: entry.function not in (gone, 7))
    told = explain(find("avx2"), path(of))
    assert told.visible is None
    assert [str(fact) for fact in told.depends] == [f"CPUID[eax={gone:02X}h] of the table"]
    assert told.stages[2].value is True
    rdtscp = explain(find("rdtscp"), path(of))
    assert next(stage for stage in rdtscp.stages if stage.party == "vmm").value is True


def test_a_survey_of_a_cut_table_says_what_it_does_not_tell() -> None:
    found = survey(path(dump(up_to_leaf_7)))
    names = {row["feature"] for row in found.changes() if row["change"] == NOT_TOLD_CHANGE}
    assert {"lm", "nx", "xsaveopt"} <= names
    assert "avx2" not in names
    assert "avx-vnni-int16" not in {feature.name for feature in found.seen}


def answers(of: Snapshot) -> dict[str, bool | None]:
    followed = path(of)
    hidden, seen = open_bits(followed, WORDS), followed.trace.steps[-1].after
    return {
        feature.name: None if hidden.get(word, 0) & mask else bool(read_register(seen, word) & mask)
        for feature in FEATURES
        for word, mask in [(feature.place.word, feature.place.mask)]
        if word in WORDS
    }


@pytest.mark.long
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_what_a_dump_loses_makes_no_answer_another(data: st.DataObject) -> None:
    places = [entry[:2] for entry in read()]
    lost = data.draw(
        st.one_of(st.integers(1, len(places) - 1).map(lambda kept: set(places[kept:])), st.sets(st.sampled_from(places), max_size=4))
    )
    truth = answers(dump())
    part = answers(dump(lambda entry: entry[:2] not in lost))
    assert not [name for name, value in part.items() if value is not None and truth[name] is not None and value is not truth[name]]


def test_without_leaf_1_and_the_hypervisors_first_leaf_what_is_behind_that_is_not_told() -> None:
    told = answers(dump(lambda entry: entry[:2] not in {(1, 0), (0x40000000, 0)}))
    assert {told[name] for name in ("kvmclock", "kvm-pv-eoi", "kvmclock-stable-bit")} == {None}
    known = answers(dump(lambda entry: entry[:2] != (1, 0)))
    assert known["kvmclock"] == answers(dump())["kvmclock"]


def open_rules(found: tuple[hazards.Hazard, ...]) -> set[str]:
    return {hazard.rule.id for hazard in found if hazard.depends}


def test_hazards_of_a_cut_table_hang_on_what_it_lacks() -> None:
    whole = hazards.of_guest(dump(), setup())
    part = hazards.of_guest(dump(up_to_leaf_7), setup())
    assert not open_rules(whole)
    assert {hazard.rule.id for hazard in part if not hazard.depends} <= {hazard.rule.id for hazard in whole}
    assert {"xsave.no-state", "level.own-leaf", "xsave.sizes"} <= open_rules(part)
    assert not any(hazard.breaks for hazard in part)
    state = next(hazard for hazard in part if hazard.rule.id == "xsave.no-state" and hazard.depends)
    assert {fact.of for fact in state.depends} == {TABLE}
    assert state.remedy.startswith("give the whole table")
    assert state.remedy.endswith(f"; if so: {state.rule.fix}")


def test_hazards_of_a_recorded_table_are_certain() -> None:
    assert not open_rules(hazards.of_guest(guest(), setup()))


def test_hazards_of_a_table_hang_on_what_its_host_does_not_tell() -> None:
    bare = replace(host(NAME), supported=None, emulated=None, hyperv=None, table=None, kept=None)
    lacking = replace(bare, raw=CpuidTable(entry for entry in bare.raw if entry.function != 7))
    found = hazards.of_guest(guest(), Setup.of(lacking, stack(NAME)))
    assert not any(hazard.breaks for hazard in found)
    assert any(hazard.rule.id == "feature.no-hardware" and "avx2" in hazard.subjects for hazard in found if hazard.depends)


@pytest.mark.parametrize("gone", [0, 1])
def test_without_leaf_0_or_1_of_the_host_what_looks_there_is_open(gone: int) -> None:
    bare = replace(host(NAME), supported=None, emulated=None, hyperv=None, table=None, kept=None)
    blind = Setup.of(replace(bare, raw=CpuidTable(entry for entry in bare.raw if entry.function != gone)), stack(NAME))
    of_host = {rule.id for rule in RULES if rule.looks is Looks.HOST}
    assert open_rules(hazards.of_guest(guest(), blind)) == of_host
    found = hazards.of_path(resolve("host,migratable=off,x-force-features=on", host=blind))
    assert open_rules(found) == {rule.id for rule in RULES if rule.looks is not Looks.ASKED}
    assert {hazard.rule.id for hazard in found if not hazard.depends} == {"migration.host-model", "migration.off", "migration.forced"}
    assert all(hazard.remedy.startswith("give a whole dump of its CPUID") for hazard in found if hazard.depends)


@pytest.mark.parametrize("gone", [0, 1])
def test_without_leaf_0_or_1_of_the_table_all_that_is_not_found_is_open(gone: int) -> None:
    found = hazards.of_guest(dump(lambda entry: entry.function != gone))
    named = {hazard.rule.id for hazard in found if not hazard.depends}
    assert open_rules(found) == {rule.id for rule in RULES if rule.looks is not Looks.ASKED} - named


def test_what_a_table_lacks_is_told_beside_what_its_host_lacks() -> None:
    bare = replace(host(NAME), supported=None, emulated=None, hyperv=None, table=None, kept=None)
    blind = Setup.of(replace(bare, raw=CpuidTable(entry for entry in bare.raw if entry.function)), stack(NAME))
    found = hazards.of_guest(dump(up_to_leaf_7), blind)
    assert {fact.of for hazard in found if hazard.rule.looks is not Looks.HOST for fact in hazard.depends} == {TABLE}
    assert not any(hazard.breaks for hazard in found)
    followed = resolve("recorded", host=blind, vmm=Recorded.of((guest(),)))
    assert followed.said == followed.remarks
    told = explain(find("avx2"), followed)
    assert next(stage for stage in told.stages if stage.party == "vmm").value is True


def test_no_processor_of_amd_s_is_asked_for_intel_s_msr() -> None:
    guest_ = CpuidTable(entry for entry in host("kvm-amd.EPYC-Milan-v2@7.3").raw if entry.function != 7)
    bare = CpuidTable(entry._replace(ecx=entry.ecx & ~(1 << 31)) if entry.function == 1 else entry for entry in guest_)
    asked = [any(fact.place == MsrWord(0x10A) for fact in untold(Setup.of(Snapshot(raw=raw)))) for raw in (guest_, bare)]
    assert asked == [True, False]


class Untouched:
    """A host that no rule may look at."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"looks at the host's {name}")


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule.looks is not Looks.HOST], ids=lambda rule: rule.id)
@pytest.mark.parametrize("cpu", ["host", "Haswell-v2,-avx", "EPYC,+topoext"])
def test_a_rule_that_looks_at_the_host_says_so(rule: hazards.HazardRule, cpu: str) -> None:
    made = resolve(cpu, host=setup())
    view = hazards.View(made.tables[0], made.setup, Untouched(), made.made, made.made.msrs)  # type: ignore[arg-type]
    list(rule.detect(view))
