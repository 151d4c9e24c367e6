"""The whole path: what resolve joins, what explain reads off it, and the law that decisions hold across all parties."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vcpuid
from support import captures
from support.captures import MACHINES, MITIGATIONS_OFF, host
from vcpuid import Setup, Stack, cpuid, resolve
from vcpuid.answers.explain import explain
from vcpuid.answers.patched import differences
from vcpuid.answers.survey import survey
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Snapshot
from vcpuid.cpuid.names import all_features, find
from vcpuid.errors import InputError, QemuError
from vcpuid.formats.lines import format_snapshot, parse_snapshot
from vcpuid.path.pipeline import Path as CpuPath
from vcpuid.path.pipeline import guest_snapshot, guest_view
from vcpuid.reasons import Basis, replay

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"


def path(cpu: str, name: str = SKYLAKE, *, observed: bool = True, **stack: str) -> CpuPath:
    snapshot = host(name) if observed else replace(host(name), supported=None)
    return resolve(cpu, host=snapshot, stack=captures.stack(name, params=MITIGATIONS_OFF, **stack))


def fate(feature: str, resolved: CpuPath) -> list[bool | None]:
    return [stage.value for stage in explain(find(feature), resolved).stages]


def test_the_public_face_is_what_it_says() -> None:
    assert sorted(vcpuid.__all__) == vcpuid.__all__
    assert set(vcpuid.__all__) >= {"read", "explain", "resolve", "cpuid", "linux", "kvm", "qemu", "Snapshot", "VcpuidError"}
    assert all(hasattr(vcpuid, name) for name in vcpuid.__all__)


def test_parties_come_in_order() -> None:
    assert [step.party for step in path("host").trace.steps] == ["silicon", "linux", "kvm", "qemu", "vcpu", "guest"]


def test_a_model_that_lacks_the_feature_takes_it_away() -> None:
    told = explain(find("avx512f"), path("Haswell"))
    assert [stage.value for stage in told.stages] == [True, True, True, False, False, False]
    assert told.visible is False
    assert told.chain[0].party == "qemu"
    assert "QEMU took it away" in told.verdict


def test_a_feature_that_the_hardware_lacks_is_filtered_and_says_so() -> None:
    told = explain(find("avx512_vnni"), path("Cascadelake-Server"))
    assert told.stages[0].value is False
    assert told.visible is False
    assert "the host's CPU does not have it" in told.verdict
    assert any(reason.rule.id.startswith("qemu.") for stage in told.stages for reason in stage.reasons)


def test_kvm_emulates_x2apic() -> None:
    told = explain(find("tsc_deadline_timer"), path("host", MILAN))
    assert told.stages[0].value is False
    assert told.visible is True
    assert told.chain[0].rule.id == "kvm.caps.emulated"


def test_a_dependency_is_followed_to_its_cause() -> None:
    told = explain(find("vmx-ept"), path("host,-vmx"))
    assert told.visible is False
    assert [(reason.party, reason.feature) for reason in told.chain][-1] == ("qemu", "vmx")
    assert len(told.chain) >= 2


def test_a_runtime_bit_follows_cr4() -> None:
    assert fate("osxsave", path("host"))[-2:] == [False, False]


def test_what_linux_alone_keeps_reaches_no_guest() -> None:
    told = explain(find("X86_FEATURE_REP_GOOD"), path("host"))
    assert told.stages[1].value is True
    assert [stage.value for stage in told.stages[2:]] == [None] * 4
    assert told.verdict.startswith("The guest's /proc/cpuinfo shows rep_good (")


def test_an_msr_feature_is_told_from_kvm_on() -> None:
    values = fate("vmx-ept", path("host,+vmx"))
    assert values[:2] == [None, None]
    assert values[2] is values[3] is values[-1] is True


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_the_decisions_replay_from_each_party_to_the_next(name: str) -> None:
    for cpu in ("host", "qemu64,+avx2"):
        resolved = path(cpu, name)
        for step in resolved.trace.steps:
            target = step.after if step.modelled is None else step.modelled
            if step.party == "silicon":
                continue
            words = replay(step.before, step.decisions)
            relevant = [w for w in words.keys() | target.keys() if w in target or (step.whole and isinstance(w, CpuidWord))]
            assert {w: words.get(w, 0) for w in relevant} == {w: target.get(w, 0) for w in relevant}, step.party


@pytest.mark.parametrize("name", [SKYLAKE, MILAN])
def test_observed_and_modelled_kvm_stand_side_by_side(name: str) -> None:
    step = path("host", name).trace.step("kvm")
    assert step.basis is Basis.OBSERVED
    assert step.modelled == step.after
    assert path("host", name, observed=False).trace.step("kvm").basis is Basis.MODELLED


def test_an_observation_wins_over_the_model_and_is_shown_as_different() -> None:
    snapshot = host(SKYLAKE)
    assert snapshot.supported is not None
    patched = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 16)) if e.function == 7 else e for e in snapshot.supported)
    resolved = resolve("host", host=replace(snapshot, supported=patched), stack=Stack(kernel="6.12", params=MITIGATIONS_OFF))
    told = explain(find("avx512f"), resolved)
    assert told.stages[2].value is False
    assert told.stages[2].modelled is True
    assert told.stages[2].disagrees
    assert told.visible is False
    found = differences(replace(snapshot, supported=patched), resolved.setup)
    assert [(str(d.bit), d.feature, d.machine, d.model) for d in found] == [("CPUID[eax=07h,ecx=00h].EBX [bit 16]", "avx512f", False, True)]


def test_a_machine_with_a_stock_kernel_does_not_differ_from_the_model() -> None:
    assert differences(host(MILAN), Setup.of(host(MILAN), Stack(params=MITIGATIONS_OFF))) == []


def test_a_host_without_raw_leaves_silicon_and_linux_unknown() -> None:
    snapshot = host(SKYLAKE)
    resolved = resolve("host", host=Snapshot(supported=snapshot.supported, msrs=snapshot.msrs), stack=Stack(kernel="6.12"))
    assert fate("avx2", resolved) == [None, None, True, True, True, True]


def test_an_observation_holds_for_the_kernel_that_made_it_alone() -> None:
    assert path("host").trace.step("kvm").basis is Basis.OBSERVED
    newer = resolve("host", host=host(SKYLAKE), stack=Stack(kernel="7.3", params=MITIGATIONS_OFF)).trace
    assert newer.step("kvm").basis is newer.step("linux").basis is Basis.MODELLED
    what_if = Stack(kernel="6.12", params={"cmdline": "clearcpuid=avx"}, what_if=True)
    told = explain(find("avx2"), resolve("host", host=host(SKYLAKE), stack=what_if))
    assert [stage.value for stage in told.stages] == [True, False, False, False, False, False]
    assert [(reason.party, reason.feature) for reason in told.chain][-1] == ("linux", "avx")


def test_explain_says_why_proc_cpuinfo_does_not_name_a_feature() -> None:
    told = explain(find("spec_ctrl"), path("host"))
    assert told.hidden is not None
    assert "gives this bit no name in /proc/cpuinfo" in told.hidden
    assert explain(find("avx2"), path("host")).hidden is None


def test_a_guest_is_a_snapshot_and_a_host_again() -> None:
    outer = path("host,+vmx")
    guest = guest_snapshot(outer)
    assert parse_snapshot(format_snapshot(guest)) == guest
    assert guest.msrs[0x10A] == outer.trace.step("guest").after[cpuid.MsrWord(0x10A)]
    assert guest.msrs[0x48B] >> 32 == outer.trace.step("guest").after[cpuid.MsrWord(0x48B)]
    inner = resolve("host", host=guest, stack=Stack(kernel="6.12"))
    assert explain(find("avx512f"), inner).visible


def test_remarks_say_where_a_kvm_is_not_linuxs_own_or_cannot_be() -> None:
    patched = replace(host(SKYLAKE), params={"kvm.ignore_msrs": "N", "kvm_other.nested": "1"})
    assert any("kvm_other" in remark for remark in resolve("host", host=patched, stack=Stack(kernel="6.12")).remarks)
    bare = Snapshot(raw=CpuidTable(e._replace(ecx=e.ecx & ~(1 << 5)) if e.function == 1 else e for e in host(SKYLAKE).raw))
    assert any("neither VMX nor SVM" in remark for remark in resolve("host", host=bare, stack=Stack(kernel="6.12")).remarks)
    assert not resolve("host", host=host(SKYLAKE), stack=Stack(kernel="6.12")).remarks


def test_a_release_without_tables_is_remarked_upon() -> None:
    remarks = resolve("host", host=host(SKYLAKE), stack=Stack(kernel="6.13.2", qemu="10.3")).remarks
    assert [remark for remark in remarks if "6.13" in remark and "6.12" in remark]
    assert [remark for remark in remarks if "10.3" in remark and "10.2" in remark]


def test_a_host_with_nothing_is_refused() -> None:
    with pytest.raises(InputError):
        resolve("host", host=Snapshot())


def test_qemu_refuses_in_its_own_words() -> None:
    with pytest.raises(QemuError, match=r"Property .Haswell-x86_64-cpu\.nonsense. not found"):
        path("Haswell,nonsense=on")


def test_the_survey_agrees_with_explain() -> None:
    resolved = path("Haswell")
    found = survey(resolved)
    seen = set(found.seen)
    for side, sees in ((found.lost, False), (found.gained, True)):
        for party, explanations in side.items():
            for told in explanations:
                assert (told.feature in seen) is sees
                assert told.visible is sees
                assert told.stages[0].value is not sees
                assert party in {"linux", "kvm", "qemu", "vcpu", "guest"}
    assert "avx512f" in {told.feature.name for told in found.lost["qemu"]}


def test_a_verdict_does_not_speak_of_hardware_that_nobody_told_of() -> None:
    untold = replace(host(SKYLAKE), raw=CpuidTable())
    resolved = resolve("host", host=untold)
    assert explain(find("avx2"), resolved).verdict.startswith("The guest sees avx2: KVM has it and every layer keeps it.")
    assert "The host does not tell what its hardware has." in explain(find("sgx"), resolved).verdict
    assert explain(find("avx2"), path("host")).verdict == "The guest sees avx2: the host's CPU has it and every layer keeps it."


def test_kvms_own_leaves_keep_their_rule_on_a_host_that_is_a_guest() -> None:
    given = host(SKYLAKE)
    nested = replace(given, supported=None, raw=CpuidTable((*given.raw, Entry(0x40000001, 0, 0, 0x0100001F, 0, 0, 0))))
    kvm_step = resolve("host", host=nested).trace.step("kvm")
    rules = [decision.rule.id for decision in kvm_step.about(find("kvm-steal-time").place)]
    assert rules == ["kvm.leaf.anew", "kvm.leaf.paravirt"]


@pytest.mark.long
def test_every_feature_can_be_explained() -> None:
    resolved = path("Skylake-Server-v4")
    for feature in all_features():
        told = explain(feature, resolved)
        assert told.verdict.endswith(".")
        assert told.as_dict()["feature"] == feature.name
        assert all("{cause}" not in reason.text for stage in told.stages for reason in stage.reasons)


@pytest.mark.parametrize("name", [SKYLAKE, MILAN])
def test_a_step_tells_of_a_bit_every_decision_that_touched_it_in_order(name: str) -> None:
    found = 0
    for step in path("host", name, observed=False).trace.steps:
        for feature in all_features():
            mask, word = feature.place.mask, feature.place.word
            about = step.about(feature.place)
            assert about == tuple(made for made in step.decisions if made.word == word and made.mask & mask)
            found += len(about)
    assert found > 100


def test_the_guests_view_is_the_kept_table_where_nothing_is_missing() -> None:
    resolved = path("Haswell")
    view = guest_view(resolved)
    for (function, index), entry in resolved.kept.by_key().items():
        assert view.registers(function, index) == entry.registers


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["host", "max", "qemu64", "Haswell", "EPYC", "Skylake-Server-v4"]),
    st.lists(
        st.tuples(st.sampled_from("+-"), st.sampled_from(["avx2", "xsave", "avx", "sse4.2", "pcid", "rtm", "x2apic", "svm"])), max_size=4
    ),
    st.sampled_from(["7.2", "10.0", "11.1"]),
    st.sampled_from([SKYLAKE, MILAN]),
)
def test_a_bit_that_the_guest_gained_or_lost_has_a_reason(cpu: str, flags: list[tuple[str, str]], qemu: str, name: str) -> None:
    """Every named bit that differs between one party and the next is named by a decision of that party, for any -cpu."""
    resolved = path(",".join([cpu, *(sign + flag for sign, flag in flags)]), name, qemu=qemu)
    steps = resolved.trace.steps
    for before, step in pairwise(steps[1:]):
        if step.party in ("kvm", "guest") or step.basis is Basis.OBSERVED:
            continue
        for word, value in step.after.items():
            if isinstance(word, cpuid.CpuidWord):
                changed = value ^ before.after.get(word, 0)
                named = 0
                for decision in step.decisions:
                    if decision.word == word:
                        named |= decision.mask
                assert not changed & ~named, f"{step.party} {word}"
