"""The verdict on a -cpu: runs or not, what is missing by whose doing, and a proposal that runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import host, stack
from support.qemu_captures import qemu_host, qemu_rows
from vcpuid import Stack
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.path.pipeline import resolve
from vcpuid.qemu import models
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.expansion import expansion

SKYLAKE, MILAN, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3", "kvm-intel.sapphire_rapids-xfd@7.3"


def judge(cpu: str, name: str = SKYLAKE, **asked: str) -> Verdict:
    return verdict(cpu, host(name), stack(name, **asked))


def runs_cleanly(cpu: str, name: str, **asked: str) -> bool:
    return not resolve(f"{cpu},enforce", host=host(name), stack=stack(name, **asked)).warnings


def test_a_cpu_that_runs_is_its_own_proposal() -> None:
    answer = judge("Haswell-noTSX")
    assert (answer.runs, answer.refusal, answer.warnings, answer.missing) == (True, None, (), ())
    assert answer.proposal == "Haswell-noTSX"
    assert answer.nearest is None


def test_what_is_missing_comes_with_its_first_cause() -> None:
    answer = judge("Haswell")
    assert not answer.runs
    assert [(m.feature.name, m.cause.party, m.cause.rule.id) for m in answer.missing] == [
        ("hle", "silicon", "silicon.lacks"),
        ("rtm", "silicon", "silicon.lacks"),
    ]
    assert len(answer.warnings) == 2


@pytest.mark.parametrize(
    ("cpu", "feature", "rule"),
    [
        ("Skylake-Client-v3,-spec-ctrl,pdcm=on", "pdcm", "qemu.expand.no-pmu"),
        ("Skylake-Client-v3,-spec-ctrl,level=4,avx2=on", "avx2", "qemu.leaf.absent"),
        ("Skylake-Client-v3,-spec-ctrl,kvm=off,kvm-pv-eoi=on", "kvm-pv-eoi", "qemu.expand.kvm-off"),
    ],
)
def test_what_qemu_drops_without_a_word_is_missing_too(cpu: str, feature: str, rule: str) -> None:
    answer = judge(cpu)
    assert answer.warnings == ()
    assert answer.runs is False
    assert [(missing.feature.name, missing.cause.rule.id) for missing in answer.missing] == [(feature, rule)]
    assert answer.proposal is not None
    assert judge(answer.proposal).runs
    assert [(found.kind, found.what) for found in answer.amendments] == [("left-out", f"{feature}=on")]


def test_a_feature_that_is_given_after_all_is_not_missed() -> None:
    """Of two words the last counts; the paravirtual features move where Hyper-V has their place."""
    assert judge("Skylake-Client-v3,-spec-ctrl,pdcm=on,pdcm=off").runs
    assert judge("Skylake-Client-v3,-spec-ctrl,pdcm=on,pmu=on").missing == ()
    assert judge("Skylake-Client-v3,-spec-ctrl,hv-relaxed,kvm-pv-eoi=on").runs


def test_another_version_of_the_model_is_proposed_where_it_is_shorter_than_dropping_features() -> None:
    assert judge("Haswell").proposal == "Haswell-v2"
    assert judge("Skylake-Server").proposal == "Skylake-Server,-hle,-rtm,-pku"


def test_what_kvm_hides_is_told_from_what_the_hardware_lacks() -> None:
    """The processor has MONITOR's bit and est; KVM never offers them."""
    answer = judge("Haswell-noTSX,+monitor,+est,+sha-ni")
    causes = {m.feature.name: (m.cause.party, m.cause.rule.id) for m in answer.missing}
    assert causes["monitor"][0] == "kvm"
    assert causes["est"] == ("kvm", "kvm.caps.not-listed")
    assert causes["sha_ni"] == ("silicon", "silicon.lacks")
    assert answer.proposal == "Haswell-noTSX"


def test_a_kernel_parameter_is_named_as_the_cause() -> None:
    bare = replace(host(SKYLAKE), supported=None, cpuinfo={})
    answer = verdict("Haswell-noTSX", bare, Stack(kernel="6.12", params={"cmdline": "clearcpuid=avx2"}))
    (missing,) = answer.missing
    assert missing.feature.name == "avx2"
    assert missing.cause.party == "linux"
    assert answer.proposal == "Haswell-noTSX,-avx2"


@pytest.mark.parametrize(("nested", "refusal"), [(0, "Hyper-V enlightened VMCS (hv-evmcs) is not supported by kernel"), (1, None)])
def test_enlightened_vmcs_are_refused_where_nested_virtualization_would_be_off(nested: int, refusal: str | None) -> None:
    asked = Stack(kernel="6.12", qemu="10.0", params={"nested": nested}, what_if=True)
    assert verdict("host,hv-vapic,hv-evmcs", host(SKYLAKE), asked).refusal == refusal


def test_a_kvm_that_does_otherwise_than_its_rules_is_named_as_the_cause() -> None:
    snapshot = host(SKYLAKE)
    assert snapshot.supported is not None
    patched = CpuidTable(e._replace(ebx=e.ebx & ~(1 << 5)) if e.function == 7 else e for e in snapshot.supported)
    answer = verdict("Haswell-noTSX", replace(snapshot, supported=patched), Stack(kernel="6.12", params={"cmdline": "mitigations=off"}))
    (missing,) = answer.missing
    assert (missing.feature.name, missing.cause.party, missing.cause.rule.id) == ("avx2", "kvm", "observed.otherwise")
    assert missing.cause.text == "this machine's KVM does not offer it; stock Linux 6.12 would"
    assert missing.remedy == "run the guest on a host with stock Linux: no option of QEMU changes this"
    assert missing.explanation.chain[-1] == missing.cause, "explain and diagnose name it as well"
    assert missing.explanation.remedy == missing.remedy


def test_what_a_proposal_keeps_is_counted_and_meets_what_the_guest_lacks() -> None:
    answer = judge("Haswell")
    assert answer.keeping == f"keeps {len(answer.counts.asked) - 2} of the {len(answer.counts.asked)} features asked for"
    assert judge("Haswell-noTSX").keeping == f"keeps all {len(judge('Haswell-noTSX').counts.asked)} features asked for"
    assert judge("Haswell,foo=on").keeping is None


def test_a_dependency_is_named_as_the_cause() -> None:
    answer = judge("Haswell-noTSX,-vmx,+vmx-ept")
    (missing,) = (m for m in answer.missing if m.feature.name == "vmx-ept")
    assert missing.explanation.chain[0].feature == "vmx-ept"
    assert missing.explanation.chain[0].rule.id == "qemu.expand.dependency"
    assert missing.cause.feature in ("vmx", "vmx-secondary-ctls")


def test_a_forced_feature_is_missing_all_the_same() -> None:
    answer = judge("Haswell-noTSX,+rtm,x-force-features=on")
    assert not answer.runs
    assert [(m.feature.name, m.forced, m.cause.rule.id) for m in answer.missing] == [("rtm", True, "silicon.lacks")]
    assert answer.proposal == "Haswell-noTSX"


@pytest.mark.parametrize(
    ("cpu", "stack", "says"),
    [
        ("Haswel", {}, "unable to find CPU model 'Haswel'"),
        ("Haswell,nonsense=1", {}, "nonsense"),
        ("Haswell,enforce", {}, "Host doesn't support requested features"),
        ("Haswell", {"machine": "toaster"}, 'unsupported machine type: "toaster"'),
        ("Haswell", {"smp": "0"}, ""),
        ("", {}, "-cpu option cannot be empty"),
    ],
)
def test_a_refusal_is_a_verdict(cpu: str, stack: dict[str, str], says: str) -> None:
    answer = judge(cpu, **stack)
    assert not answer.runs
    assert answer.refusal is not None
    assert says in answer.refusal
    assert answer.path is None


def test_with_enforce_what_is_missing_is_told_as_well() -> None:
    answer = judge("Haswell,enforce")
    assert [m.feature.name for m in answer.missing] == ["hle", "rtm"]
    assert answer.proposal == "Haswell-v2,enforce"


def test_an_unknown_model_is_answered_with_names_that_look_alike_and_no_other_model() -> None:
    answer = judge("Haswel")
    assert (answer.proposal, answer.nearest, answer.counts.asked) == (None, None, ())
    assert "Haswell" in answer.meant[0].meant


def test_the_named_model_is_the_one_that_keeps_the_most_of_what_was_asked() -> None:
    """Counted anew, by the properties of each model that runs here: none of the host's maker has more of them."""
    answer = judge("Skylake-Server", qemu="11.1")
    assert answer.counts.lacks == ("hle", "rtm", "pku")
    assert answer.nearest is not None

    def keeps(name: str) -> int:
        has = expansion(name, host(SKYLAKE), "11.1", kernel="6.12")
        return sum(has.get(feature) is True for feature in answer.counts.asked)

    here = [model.name for model in models(host(SKYLAKE), "11.1", kernel="6.12") if model.usable and not model.deprecated]
    maker = {name for name, model in catalog("11.1").models.items() if model.vendor == "GenuineIntel"}
    best = max(keeps(name) for name in here if name in maker)
    assert keeps(answer.nearest) == answer.counts.nearest_keeps == best
    assert answer.counts.proposal_keeps == len(answer.counts.asked) - 3


def test_features_are_counted_once_by_qemus_names() -> None:
    """QEMU 7.2 warns of the state that pku needs besides pku itself."""
    answer = judge("Skylake-Server", qemu="7.2")
    assert {"pku", "xcr0_pkru"} <= {missing.feature.name for missing in answer.missing}
    assert answer.counts.lacks.count("pku") == 1
    assert {missing.called for missing in answer.missing if missing.feature.name == "xcr0_pkru"} == {"pku"}
    assert len(set(answer.counts.asked)) == len(answer.counts.asked)
    assert judge("Penryn,+sse4_2", qemu="7.2").counts.asked.count("sse4.2") == 1


def test_avx10s_version_counts_though_it_is_no_bit() -> None:
    answer = judge("host,avx10-version=2", SAPPHIRE, qemu="11.1")
    assert not answer.runs
    assert answer.proposal == "host"


def test_a_property_that_makes_qemu_warn_is_left_out_of_the_proposal() -> None:
    answer = judge("Haswell-noTSX,phys-bits=52")
    assert answer.runs
    assert answer.warnings == ("Host physical bits (40) does not match phys-bits property (52)",)
    assert answer.proposal == "Haswell-noTSX"


def test_where_nothing_runs_without_a_warning_it_says_so() -> None:
    """QEMU gives threads on AMD cmp-legacy, which this host does not have: no -cpu helps."""
    answer = judge("host", MILAN, smp="4,threads=2", qemu="11.1")
    assert not answer.runs
    assert (answer.proposal, answer.nearest) == (None, None)


def test_a_component_without_a_name_is_dropped_with_the_feature_that_uses_it() -> None:
    """QEMU 7.2 warns of bits of XCR0 that have no names: here of the tiles' state, of a processor that has AMX without it."""
    tiles = host(SAPPHIRE)
    raw = CpuidTable(e._replace(eax=e.eax & ~(3 << 17)) if e[:2] == (0xD, 0) else e for e in tiles.raw)
    answer = verdict("host", replace(tiles, raw=raw), Stack(kernel="7.3", qemu="7.2"))
    assert judge("host", SAPPHIRE, qemu="7.2").runs
    assert {m.feature.name for m in answer.missing} == {"xcr0_tileconfig", "xcr0_tiledata"}
    assert answer.proposal == "host,-amx-tile"


def test_everything_is_fit_for_json() -> None:
    told = json.loads(json.dumps(judge("Skylake-Server").as_dict()))
    assert told["missing"][0]["cause"]["rule"] == "silicon.lacks"
    assert told["proposal"] == "Skylake-Server,-hle,-rtm,-pku"


@pytest.mark.long
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([*sorted(catalog("11.1").models), "host", "max", "EPYC", "Skylake-Server"]),
    st.lists(st.sampled_from(["+avx2", "+rtm", "-avx", "+invtsc", "+sha-ni", "phys-bits=46", "+pcid", "pmu=on"]), max_size=3, unique=True),
    st.sampled_from([SKYLAKE, MILAN, SAPPHIRE]),
    st.sampled_from(["7.2", "10.0", "11.1"]),
)
def test_every_proposal_runs_without_a_warning(cpu: str, settings: list[str], name: str, release: str) -> None:
    answer = judge(",".join([cpu, *settings]), name, qemu=release)
    for proposed in (answer.proposal, answer.nearest):
        if proposed is not None:
            assert runs_cleanly(proposed, name, qemu=release)
    if answer.runs and not answer.warnings:
        assert runs_cleanly(answer.cpu, name, qemu=release)
    assert answer.runs == (answer.refusal is None and not answer.missing) or "avx10" in " ".join(answer.warnings)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["host", "Haswell", "EPYC", "Haswel", "", "base"]),
    st.lists(
        st.one_of(st.text("+-=,xrtmavx2", max_size=6), st.sampled_from(["+", "-", "=", "vendor=x", "enforce", "check=off", "+hle"])),
        max_size=4,
    ),
)
def test_any_cpu_gets_a_verdict(model: str, settings: list[str]) -> None:
    answer = judge(",".join([model, *settings]))
    assert answer.runs or answer.refusal is not None or answer.missing or answer.warnings
    assert answer.proposal is None or runs_cleanly(answer.proposal, SKYLAKE)


def test_settings_end_warnings_that_dropping_features_does_not() -> None:
    assert judge("host", "kvm-amd.Dhyana-v2@7.3", qemu="11.1").proposal == "host,pmu=off"
    proposal = judge("DiamondRapids", "kvm-intel.tigerlake-rnd19@6.12", qemu="11.1").proposal
    assert proposal is not None
    assert proposal.startswith("DiamondRapids,avx10-version=0,-")


# What these settings need of KVM is no part of a host's snapshot: a TSC's frequency, machine checks, capabilities for Hyper-V.
OF_KVM = ("tsc-frequency", "lmce", "hv-passthrough", "hv-evmcs", "hv-enforce-cpuid", "check=off")


def as_played(snapshot: Snapshot) -> Snapshot:
    """The KVM that those runs were played granted AMX's states where its SUP lines had them, whatever the processor has."""
    granted = snapshot.supported.registers(0xD).eax if snapshot.supported is not None else 0
    raw = (e._replace(eax=e.eax & (granted | ~(3 << 17))) if e[:2] == (0xD, 0) else e for e in snapshot.raw)
    return replace(snapshot, raw=CpuidTable(raw))


@pytest.mark.long
def test_verdicts_are_those_of_real_qemus() -> None:
    """Runs or not, refused or not, as QEMU's own output shows on the captured runs; every proposal for them runs."""
    judged = 0
    for row in qemu_rows("sets")[::7]:
        if any(text in row["cpu"] for text in OF_KVM):
            continue
        lacks = [w for w in row["stderr"] if any(text in w for text in ("requested feature: ", "depends on other", "conflicts with"))]
        refused, lacking = not row["vcpus"], any(not w.endswith("vPMU") for w in lacks)
        snapshot = as_played(qemu_host(row["host"]))
        asked = Stack(kernel=row["host"].partition("@")[2], qemu=row["qemu"], machine=row["machine"], smp=row["smp"])
        answer = verdict(row["cpu"], snapshot, asked)
        assert (answer.refusal is not None, answer.runs) == (refused, not refused and not lacking), row["cpu"]
        if answer.proposal is not None:
            again = verdict(answer.proposal, snapshot, asked)
            assert (again.runs, again.warnings) == (True, ()), answer.proposal
        judged += 1
    assert judged > 100
