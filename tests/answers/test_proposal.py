"""The -cpu that is proposed is the nearest one that runs: it serves as the one asked for would, and makes no guest less safe."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.captures import MACHINES, host, stack
from vcpuid import Setup, Stack
from vcpuid.answers.fitting import Proposal
from vcpuid.answers.proposal import _GUARDS, propose
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.linux import cpuinfo
from vcpuid.path.pipeline import guest_snapshot, resolve
from vcpuid.qemu.catalog import catalog

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-rnd06@6.12", "kvm-amd.EPYC-Milan-v2@7.3"


def judge(cpu: str, name: str = SKYLAKE, qemu: str = "10.0") -> Verdict:
    return verdict(cpu, host(name), stack(name, qemu=qemu))


def told(answer: Verdict) -> dict[str, str]:
    return {change.what: change.why for change in answer.amendments}


@cache
def setup(name: str, qemu: str) -> Setup:
    return Setup.of(host(name), stack(name, qemu=qemu))


def bugs(cpu: str, asked: Setup) -> set[str]:
    """What /proc/cpuinfo lists in the guest."""
    guest = guest_snapshot(resolve(cpu, host=asked))
    return set(cpuinfo(Setup.of(guest, Stack(kernel=asked.kernel.asked))).bugs)


def test_the_version_stays_where_another_would_make_the_guest_list_more_bugs() -> None:
    answer = judge("Cascadelake-Server-noTSX", SAPPHIRE)
    assert answer.proposal == "Cascadelake-Server-noTSX,-mds-no"
    assert answer.amendments == ()
    more = bugs("Cascadelake-Server,-hle,-rtm", setup(SAPPHIRE, "10.0")) - bugs(answer.proposal, setup(SAPPHIRE, "10.0"))
    assert more == {"cpu_meltdown", "l1tf"}


def test_another_version_comes_with_its_reason() -> None:
    assert told(judge("Haswell")) == {"Haswell-v2": "it is Haswell without hle and rtm"}
    answer = judge("Icelake-Server", SAPPHIRE)
    assert answer.proposal == "Icelake-Server-v3,-mds-no,-taa-no"
    assert told(answer) == {"Icelake-Server-v3": "with Icelake-Server the guest's Linux would list more bugs: cpu_meltdown and l1tf"}


def test_what_enlightenments_need_is_added_before_any_is_dropped() -> None:
    answer = judge("host,hv-vpindex,hv-synic,hv-stimer,hv-relaxed,hv-vapic")
    assert answer.proposal == "host,hv-vpindex,hv-synic,hv-stimer,hv-relaxed,hv-vapic,hv-time"
    assert told(answer) == {"hv-time": "hv-stimer needs it"}
    assert judge("host,hv-stimer-direct,hv_time=off").proposal == "host,hv-stimer-direct,hv-stimer,hv-time,hv-synic,hv-vpindex"


def test_an_enlightenment_that_this_kvm_lacks_goes_and_takes_no_other_along() -> None:
    answer = verdict("host,hv-relaxed,hv-evmcs,hv-vapic,pmu=maybe", host(MILAN), stack(MILAN, qemu="10.0"))
    assert answer.proposal == "host,hv-relaxed,hv-vapic"
    assert told(answer) == {
        "hv-evmcs": "Hyper-V enlightened VMCS (hv-evmcs) is not supported by kernel",
        "pmu=maybe": "can't apply global host-x86_64-cpu.pmu=maybe: Parameter 'pmu' expects 'on' or 'off'",
    }


def test_what_others_call_a_feature_is_set_right() -> None:
    answer = judge("Haswell-v4,+ept,+vmx", qemu="7.2")
    assert answer.proposal == "Haswell-v2,+vmx-ept,+vmx"
    assert [(guess.said, guess.meant) for guess in answer.meant] == [("ept", ("vmx-ept",))]
    assert told(answer) == {"+vmx-ept": "QEMU calls it vmx-ept", "Haswell-v2": "it is Haswell-v4 without spec-ctrl"}


def test_proxmox_s_types_are_proposed_as_what_it_gives_qemu() -> None:
    answer = judge("x86-64-v2-AES,hv-relaxed")
    assert answer.runs is True
    assert answer.cpu == answer.proposal
    assert answer.proposal == "qemu64,+aes,+popcnt,+pni,+sse4.1,+sse4.2,+ssse3,hv-relaxed"
    assert answer.nearest is None
    penryn = judge("x86-64-v2-AES", "kvm-intel.core2_penryn_t9600@6.12")
    assert penryn.proposal == "qemu64,+pni,+sse4.1,+ssse3"
    assert set(told(penryn)) >= {"+aes", "+popcnt", "+sse4.2"}


def test_vendor_and_properties_stay_in_the_proposal_and_with_the_nearest() -> None:
    answer = judge("EPYC-Genoa,vendor=GenuineIntel,hv-relaxed")
    assert answer.proposal is not None
    assert answer.proposal.startswith("EPYC-Genoa,vendor=GenuineIntel,hv-relaxed,-")
    assert answer.nearest is not None
    assert answer.nearest.endswith(",vendor=GenuineIntel,hv-relaxed")


def test_what_qemu_warns_of_is_the_reason_for_which_a_setting_goes() -> None:
    assert told(judge("Haswell-noTSX,phys-bits=52")) == {"phys-bits=52": "Host physical bits (40) does not match phys-bits property (52)"}
    assert told(judge("host", "kvm-amd.Dhyana-v2@7.3", "11.1")) == {"pmu=off": "host doesn't support requested feature: vPMU"}


def test_what_is_not_known_here_is_no_refusal() -> None:
    answer = judge("DiamondRapids", "kvm-amd.EPYC-Genoa-v1@6.12", "10.3")
    assert (answer.runs, answer.refusal, answer.proposal, answer.nearest, answer.meant) == (None, None, None, None, ())
    assert answer.not_known is not None
    assert answer.not_known.startswith("not known here: whether QEMU 10.3 has the CPU model DiamondRapids")


MODELS = {release: sorted({model.base for model in catalog(release).models.values()}) for release in ("7.2", "10.0", "11.1")}
SETTINGS = ["+avx2", "+rtm", "-avx", "+invtsc", "+pcid", "+vmx", "+ept", "hv-stimer", "hv-evmcs", "phys-bits=46", "vendor=AuthenticAMD"]


def proposals(base: str, chosen: list[str], name: str, release: str) -> dict[str, Proposal]:
    """What is proposed for each version of a model."""
    versions = [model.name for model in catalog(release).models.values() if model.base == base and not model.deprecated]
    found = {version: propose(",".join([version, *chosen]), setup(name, release)) for version in versions}
    return {version: proposal for version, proposal in found.items() if proposal is not None}


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)).flatmap(lambda release: st.tuples(st.just(release), st.sampled_from(MODELS[release]))),
    st.lists(st.sampled_from(SETTINGS), max_size=3, unique=True),
    st.sampled_from(MACHINES),
)
@example(("10.0", "Cascadelake-Server"), [], SAPPHIRE)
@example(("11.1", "SapphireRapids"), ["hv-stimer"], SKYLAKE)
def test_no_proposal_lists_more_bugs_than_another_of_the_same_model(asked: tuple[str, str], chosen: list[str], name: str) -> None:
    release, base = asked
    found = proposals(base, chosen, name, release)
    listed = {version: len(bugs(proposal.cpu, setup(name, release))) for version, proposal in found.items()}
    assert len(set(listed.values())) <= 1, listed


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["host", "Haswell", "EPYC-Milan", "Skylake-Server-v2", "x86-64-v3"]),
    st.lists(st.sampled_from(SETTINGS), max_size=4, unique=True),
    st.sampled_from([SKYLAKE, SAPPHIRE, MILAN]),
)
def test_every_setting_is_kept_or_told_to_be_left_out(model: str, chosen: list[str], name: str) -> None:
    proposal = propose(",".join([model, *chosen]), setup(name, "10.0"))
    if proposal is None:
        return
    spelled = {"+ept": "+vmx-ept"}
    gone = {change.what for change in proposal.amendments if change.kind == "left-out"}
    for setting in chosen:
        assert (spelled.get(setting, setting) in proposal.settings) is (spelled.get(setting, setting) not in gone), proposal


@pytest.mark.parametrize("flags", [40])
def test_many_settings_take_no_longer_than_their_number(flags: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each setting is tried a few times, not each set of them."""
    from vcpuid.answers.attempt import Attempt

    tried = []
    tell = Attempt.tell
    monkeypatch.setattr(Attempt, "tell", lambda self, cpu: tried.append(cpu) or tell(self, cpu))
    names = list(catalog("10.0").flags)[:flags]
    assert propose(",".join(["Haswell", *(f"+{name}" for name in names), "phys-bits=52", "nonsense=1"]), setup(SKYLAKE, "10.0")) is not None
    assert len(tried) < 10 * flags


def test_what_guards_a_guest_has_names_of_qemu_s() -> None:
    known = {name for release in MODELS for name in catalog(release).flags}
    assert known >= _GUARDS


def test_nothing_is_added_that_is_not_needed() -> None:
    for cpu in ("Haswell,hv-synic,x-hv-synic-kvm-only=on", "Haswell,hv-passthrough,hv-stimer"):
        assert not any(amendment.kind == "added" for amendment in judge(cpu).amendments)
