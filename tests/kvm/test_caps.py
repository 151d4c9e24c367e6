"""kvm_cpu_caps: what each kind and each row does to a bit, and which rule accounts for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vcpuid import kvm
from vcpuid.cpuid import CpuidWord, Snapshot
from vcpuid.cpuid.words import Register
from vcpuid.errors import InputError
from vcpuid.kvm import rules
from vcpuid.kvm.plan import plan_of
from vcpuid.linux.tables import tables
from vcpuid.reasons import Decision
from vcpuid.releases import KERNELS

Machine = Callable[[str], Snapshot]
Edit = Callable[..., Snapshot]

TURIN, MILAN = "kvm-amd.EPYC-Turin-v1@7.3", "kvm-amd.EPYC-Milan-v2@6.12"
SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-dmr@7.3"

EDX_1, ECX_1 = (1, 0, "edx"), (1, 0, "ecx")
EBX_7, ECX_7, EDX_7 = (7, 0, "ebx"), (7, 0, "ecx"), (7, 0, "edx")
SVM_EDX = (0x8000000A, 0, "edx")


def last(found: kvm.Caps, place: tuple[int, int, Register], bit: int) -> Decision | None:
    """The decision that a bit ended with; None where KVM kept it."""
    word = CpuidWord(*place)
    about = [d for d in found.decisions if d.word == word and d.mask >> bit & 1]
    return about[-1] if about else None


def why(found: kvm.Caps, place: tuple[int, int, Register], bit: int) -> str | None:
    decision = last(found, place, bit)
    return None if decision is None else decision.rule.id


@pytest.mark.parametrize("module", rules.ROWS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_row_names_features_that_some_kernel_has(kernel: str, module: str) -> None:
    plan = plan_of(kernel, module)
    assert len(plan.steps) == sum(row.in_force(kernel) for row in rules.ROWS[module])
    for row in rules.ROWS[module]:
        for term in row.when.replace("!", "").split():
            kind, _, name = term.partition(":")
            if kind == "host":
                assert any(name in tables(release).features for release in KERNELS if row.in_force(release)), term
            elif kind == "bug":
                assert any(name in tables(release).bugs for release in KERNELS if row.in_force(release)), term


SWITCHES = {
    "nested", "pmu", "tdp", "ept", "npt", "smaller_maxphyaddr", "unrestricted_guest", "pt_guest", "cet", "sgx", "pebs",
    "nrips", "lbrv", "vgif", "vnmi", "vls", "gmet", "tsc_scaling", "core_counters", "pmu_v2", "sev", "sev_es", "sev_snp",
}  # fmt: skip
VMX_CONTROLS = {"vmx.mpx", "vmx.invpcid", "vmx.desc", "vmx.xsaves", "vmx.rdtscp", "vmx.waitpkg", "vmx.no_hw_error_code"}


def test_rows_ask_for_switches_that_exist() -> None:
    terms = {term for rows in rules.ROWS.values() for row in rows for term in row.when.replace("!", "").split() if ":" not in term}
    assert terms <= SWITCHES | VMX_CONTROLS


@pytest.mark.parametrize("module", rules.ROWS)
def test_no_bit_has_two_kinds(module: str) -> None:
    for kernel in KERNELS:
        for word in plan_of(kernel, module).words:
            masks = [word.followed, word.forced, word.claimed, word.vendor, word.runtime, *(mask for mask, *_ in word.synthesized)]
            assert sum(masks) == word.known & sum(masks)
            assert not word.known & sum(mask for mask, _ in word.later)


def test_words_are_named_as_in_the_kernel(machine: Machine) -> None:
    host = machine(SKYLAKE)
    found = kvm.caps(host, "6.12")
    assert found.words["CPUID_7_0_EBX"] == host.supported.word(CpuidWord(*EBX_7))  # type: ignore[union-attr]
    assert found.has("AVX512F")
    assert not found.has("MPX")
    assert not found.has("NO_SUCH_FEATURE")


def test_a_feature_that_no_kernel_lists(machine: Machine) -> None:
    assert why(kvm.caps(machine(SKYLAKE), "6.12"), ECX_1, 8) == "kvm.caps.not-listed"  # TM2


def test_a_feature_that_a_newer_kernel_lists(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SAPPHIRE), {"7.1.eax": 1 << 31 | 1 << 7})
    assert why(kvm.caps(host, "6.1"), (7, 1, "eax"), 7) == "kvm.caps.not-before-6.6"  # CMPCCXADD
    assert why(kvm.caps(host, "6.12"), (7, 1, "eax"), 31) == "kvm.caps.not-before-7.0"  # MOVRS
    assert why(kvm.caps(host, "7.0"), (7, 1, "eax"), 31) is None


def test_a_feature_that_the_host_kernel_turned_off(machine: Machine) -> None:
    host = machine(SKYLAKE)
    found = kvm.caps(host, "6.12", {"cmdline": "clearcpuid=avx512f"})
    assert why(found, EBX_7, 16) == "kvm.caps.host-kernel"
    assert why(kvm.caps(host, "6.12"), EBX_7, 16) is None


def test_runtime_bits_are_never_advertised(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"1.0.ecx": lambda ecx: ecx | 1 << 27 | 1 << 3})
    for kernel in KERNELS:
        found = kvm.caps(host, kernel)
        assert [why(found, ECX_1, bit) for bit in (3, 27)] == ["kvm.caps.runtime"] * 2


def test_emulated_bits_do_not_ask_the_cpu(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"1.0.ecx": lambda ecx: ecx & ~(1 << 21), "7.0.ebx": lambda ebx: ebx & ~2})
    found = kvm.caps(host, "6.12")
    assert why(found, ECX_1, 21) == why(found, EBX_7, 1) == "kvm.caps.emulated"
    assert found.has("X2APIC")
    assert found.has("TSC_ADJUST")


def test_la57_does_not_ask_the_host_kernel(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"7.0.ecx": 1 << 16})
    for kernel in KERNELS:
        found = kvm.caps(host, kernel, {} if kernel == "5.10" else {"cmdline": "no5lvl"})
        assert not found.boot.has("LA57")
        assert found.has("LA57")


def test_tsa_is_claimed_by_some_kernels_and_asked_for_by_the_others(machine: Machine) -> None:
    host = machine(SKYLAKE)
    place = (0x80000021, 0, "ecx")
    claimed = [kernel for kernel in KERNELS if why(kvm.caps(host, kernel), place, 1) == "kvm.caps.claimed"]
    assert claimed == ["6.16", "6.17", "6.18", "6.19"]
    amd = kvm.caps(machine("kvm-amd.EPYC-Milan-v2@7.3"), "7.3")
    assert amd.has("TSA_SQ_NO") == amd.boot.has("TSA_SQ_NO")


@pytest.mark.parametrize(
    ("name", "params", "place", "bit", "rule"),
    [
        (SKYLAKE, {"nested": 0}, ECX_1, 5, "kvm.vmx.nested"),
        (SKYLAKE, {"kvm_intel.nested": "N"}, ECX_1, 5, "kvm.vmx.nested"),
        (SKYLAKE, {"enable_pmu": 0}, ECX_1, 15, "kvm.vmx.pdcm"),
        (SKYLAKE, {"pmu": 0}, ECX_1, 15, "kvm.vmx.pdcm"),
        (SKYLAKE, {"pebs_ept": 0}, EDX_1, 21, "kvm.vmx.pebs"),
        (SAPPHIRE, {"ept": 0}, ECX_7, 3, "kvm.caps.pku-shadow"),
        (SAPPHIRE, {"cmdline": "nopku"}, ECX_7, 3, "kvm.caps.pku-host"),
        (SAPPHIRE, {"pt_mode": 0}, EBX_7, 25, "kvm.vmx.pt"),
        (TURIN, {"nested": 0}, (0x80000001, 0, "ecx"), 2, "kvm.svm.nested"),
        (TURIN, {"npt": 0}, SVM_EDX, 0, "kvm.svm.npt"),
        (TURIN, {"vgif": 0}, SVM_EDX, 16, "kvm.svm.nested-part"),
        (TURIN, {"kvm_amd.vgif": "off"}, SVM_EDX, 16, "kvm.svm.nested-part"),
        (TURIN, {"npt": 0}, ECX_7, 3, "kvm.caps.pku-shadow"),
    ],
)
def test_parameters_hide_features(
    machine: Machine, edited: Edit, name: str, params: dict[str, Any], place: tuple[int, int, Register], bit: int, rule: str
) -> None:
    host = edited(machine(name), {"7.0.ebx": lambda ebx: ebx | 1 << 25, "7.0.ecx": lambda ecx: ecx | 1 << 3})
    found = kvm.caps(host, name.rpartition("@")[2], params)
    assert why(found, place, bit) == rule


def test_parameters_of_the_snapshot_count_and_those_given_come_first(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), params={"kvm_intel.nested": "N", "kvm_amd.nested": "Y", "kvm.enable_pmu": "Y"})
    assert not kvm.caps(host, "6.12").has("VMX")
    assert kvm.caps(host, "6.12", {"nested": True}).has("VMX")
    assert kvm.caps(host, "6.12", {"kvm_intel.nested": 1}).has("VMX")


@pytest.mark.parametrize("params", [{"nestde": 1}, {"kvm_intel.npt": 1}, {"nested": "perhaps"}, {"kvm_amd.": 1}])
def test_parameters_that_make_no_sense(machine: Machine, params: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(params))):
        kvm.caps(machine(SKYLAKE), "6.12", params)


def test_the_cause_is_named(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"7.0.ecx": 1 << 3})
    decision = last(kvm.caps(host, "6.12", {"cmdline": "nopku"}), ECX_7, 3)
    assert decision is not None
    assert (decision.rule.id, decision.cause) == ("kvm.caps.pku-host", tables("6.12").bits["OSPKE"])
    speculation = edited(machine(SKYLAKE), {"7.0.edx": 1 << 26 | 1 << 27 | 1 << 31})
    ibpb = last(kvm.caps(speculation, "6.12"), (0x80000008, 0, "ebx"), 12)
    assert ibpb is not None
    assert ibpb.cause == tables("6.12").bits["IBPB"]


def test_amd_controls_show_in_intels_place(machine: Machine, edited: Edit) -> None:
    host = edited(machine(MILAN), {"80000008.0.ebx": lambda ebx: ebx | 1 << 12 | 1 << 14 | 1 << 15 | 1 << 24})
    older = kvm.caps(host, "6.12")
    assert [why(older, EDX_7, bit) for bit in (26, 27, 31)] == ["kvm.caps.spec-ctrl", "kvm.caps.intel-stibp", "kvm.caps.intel-ssbd"]
    assert not kvm.caps(host, "6.18").has("SPEC_CTRL")
    whole = edited(host, {"80000008.0.ebx": lambda ebx: ebx | 1 << 30})
    assert why(kvm.caps(whole, "6.18"), EDX_7, 26) == "kvm.caps.spec-ctrl-amd"


def test_intels_controls_show_in_amds_place(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"7.0.edx": 1 << 26 | 1 << 27 | 1 << 31})
    found = kvm.caps(host, "6.12")
    rule_ids = [why(found, (0x80000008, 0, "ebx"), bit) for bit in (12, 14, 15, 24)]
    assert rule_ids == ["kvm.caps.amd-ibpb", "kvm.caps.amd-ibrs", "kvm.caps.amd-stibp", "kvm.caps.amd-ssbd"]


def test_the_other_vendors_features(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), {"1.0.ecx": lambda ecx: ecx | 1 << 5})
    assert why(kvm.caps(host, "7.3"), ECX_1, 5) == "kvm.caps.vendor"
    intel = edited(machine(SKYLAKE), {"80000001.0.ecx": lambda ecx: ecx | 1 << 2})
    assert why(kvm.caps(intel, "7.3"), (0x80000001, 0, "ecx"), 2) == "kvm.caps.vendor"


def vmx(host: Snapshot, edited: Edit, msr: int, clear: int, feature: dict[str, Any] | None = None) -> Snapshot:
    """A host whose VMX lacks a control."""
    flags = host.cpuinfo["vmx_flags"].replace("usr_wait_pause", "")
    return edited(host, feature, msrs={**host.msrs, msr: host.msrs[msr] & ~(1 << clear)}, cpuinfo={**host.cpuinfo, "vmx_flags": flags})


@pytest.mark.parametrize(
    ("msr", "control", "place", "bit", "rule"),
    [
        (0x48B, 44, EBX_7, 10, "kvm.vmx.invpcid"),
        (0x48B, 52, (0xD, 1, "eax"), 3, "kvm.vmx.xsaves"),
        (0x48B, 35, (0x80000001, 0, "edx"), 27, "kvm.vmx.rdtscp"),
        (0x48B, 35, ECX_7, 22, "kvm.vmx.rdtscp"),
        (0x48B, 58, ECX_7, 5, "kvm.vmx.waitpkg"),
        (0x484, 52, EDX_7, 20, "kvm.vmx.cet"),
        (0x480, 56, EDX_7, 20, "kvm.vmx.cet-error-code"),
    ],
)
def test_what_vmx_cannot_do(
    machine: Machine, edited: Edit, msr: int, control: int, place: tuple[int, int, Register], bit: int, rule: str
) -> None:
    features = {"7.0.ebx": lambda ebx: ebx | 1 << 10, "7.0.ecx": lambda ecx: ecx | 1 << 5 | 1 << 7 | 1 << 22}
    features["7.0.edx"] = lambda edx: edx | 1 << 20
    assert why(kvm.caps(edited(machine(SAPPHIRE), features), "7.3"), place, bit) is None
    assert why(kvm.caps(vmx(machine(SAPPHIRE), edited, msr, control, features), "7.3"), place, bit) == rule


def test_control_flow_enforcement_needs_the_whole_path(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SAPPHIRE), {"7.0.ecx": lambda ecx: ecx | 1 << 7, "7.0.edx": lambda edx: edx | 1 << 20})
    assert kvm.caps(host, "7.3").has("SHSTK")
    assert kvm.caps(host, "7.3").xss == 0x1800
    assert why(kvm.caps(host, "6.12"), ECX_7, 7) == "kvm.caps.not-before-6.18"
    assert why(kvm.caps(host, "7.3", {"cet": 0}), ECX_7, 7) == "kvm.vmx.cet"
    assert why(kvm.caps(host, "7.3", {"unrestricted_guest": 0}), EDX_7, 20) == "kvm.vmx.cet-guest"
    assert why(kvm.caps(host, "7.3", {"allow_smaller_maxphyaddr": 1}), EDX_7, 20) == "kvm.caps.cet-maxphyaddr"
    assert why(kvm.caps(host, "7.3", {"ept": 0}), ECX_7, 7) == "kvm.caps.shstk-shadow"
    half = edited(host, {"d.1.ecx": 1 << 11})
    assert why(kvm.caps(half, "7.3"), EDX_7, 20) == "kvm.caps.cet-xss"


def test_umip_is_emulated_where_the_cpu_has_none(machine: Machine) -> None:
    assert why(kvm.caps(machine(SKYLAKE), "6.12"), ECX_7, 2) == "kvm.vmx.umip"


PMU_V2 = {"80000001.0.ecx": lambda ecx: ecx | 1 << 23, "80000022.0.eax": 1, "80000022.0.ebx": 6}


@pytest.mark.parametrize(
    ("kernel", "params", "core", "second"),
    [
        ("6.1", {"pmu": 1}, None, "kvm.caps.not-before-6.6"),
        ("6.6", {"pmu": 1}, None, None),
        ("6.6", {"pmu": 1, "pmu_counters": 4}, "kvm.svm.perfctr-core", "kvm.svm.perfmon-v2"),
        ("6.12", {"pmu": 1}, None, None),
        ("7.3", {"pmu": 1}, None, None),
        ("7.3", {"pmu": 1, "pmu_counters": 4}, "kvm.svm.perfctr-core", "kvm.svm.perfmon-v2"),
        ("7.3", {"pmu": 0}, "kvm.svm.perfctr-core", None),
        ("7.3", {}, "kvm.svm.perfctr-core", None),
    ],
)
def test_amds_pmu(machine: Machine, edited: Edit, kernel: str, params: dict[str, int], core: str | None, second: str | None) -> None:
    found = kvm.caps(edited(machine(TURIN), PMU_V2), kernel, params)
    assert why(found, (0x80000001, 0, "ecx"), 23) == core
    assert why(found, (0x80000022, 0, "eax"), 0) == second


ENCRYPTION = {
    "8000001f.0.eax": 0x1F, "8000001f.0.ebx": 0x16F, "8000001f.0.ecx": 509, "8000001f.0.edx": 100,
    "8000000a.0.edx": lambda edx: edx | 0xCF, "8000000a.0.ebx": 0x8000, "80000008.0.eax": 0x3934,
}  # fmt: skip


def test_memory_encryption(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), ENCRYPTION)
    linux = {"msr.c0010010": 1 << 23, "msr.c0010015": 1}
    place = (0x8000001F, 0, "eax")
    for kernel in ("6.1", "6.12", "7.3"):
        found = kvm.caps(host, kernel, linux)
        assert found.boot.has("SEV_ES"), "the host kernel has to have it for the rest to mean anything"
        assert [why(found, place, bit) for bit in (1, 3)] == [None, None]
        assert why(kvm.caps(host, kernel, {**linux, "sev_es": 0}), place, 3) == "kvm.sev.off"
        assert why(kvm.caps(host, kernel, {**linux, "npt": 0}), place, 1) == "kvm.sev.off"
    assert why(kvm.caps(host, "7.3", {**linux, "sev_firmware": 0}), place, 1) == "kvm.sev.off"
    assert why(kvm.caps(host, "6.12", {**linux, "nrips": 0}), place, 1) == "kvm.sev.off"
    assert why(kvm.caps(host, "6.1", {**linux, "nrips": 0}), place, 1) is None


def test_amd_gets_no_bus_lock_traps_and_no_branch_tracking(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), {"7.0.ecx": lambda ecx: ecx | 1 << 24, "7.0.edx": lambda edx: edx | 1 << 20})
    found = kvm.caps(host, "7.3")
    assert why(found, ECX_7, 24) == "kvm.svm.bus-lock"
    assert why(found, EDX_7, 20) == "kvm.svm.ibt"


def test_answers_are_kept_by_host_and_parameters(machine: Machine) -> None:
    host = machine(SKYLAKE)
    assert kvm.caps(host, "6.12") is kvm.caps(host, "6.12.107")
    assert kvm.caps(host, "6.12") is not kvm.caps(host, "6.12", {"nested": 0})


SVM_FEATURES = {
    "nrips": 3, "tsc_scaling": 4, "vls": 15, "lbrv": 1, "vgif": 16, "gmet": 17, "vnmi": 25, "npt": 0,
}  # fmt: skip
PAUSE_FILTER, PAUSE_THRESHOLD = 10, 12


def whole_svm(host: Snapshot, edited: Edit) -> Snapshot:
    bits = sum(1 << bit for bit in (*SVM_FEATURES.values(), PAUSE_FILTER, PAUSE_THRESHOLD))
    return edited(host, {"8000000a.0.edx": bits})


def test_nested_amd_v_offers_what_kvm_uses_itself(machine: Machine, edited: Edit) -> None:
    host = whole_svm(machine(TURIN), edited)
    found = kvm.caps(host, "7.3")
    for bit in (*SVM_FEATURES.values(), PAUSE_FILTER, PAUSE_THRESHOLD):
        assert why(found, SVM_EDX, bit) is None
    off = kvm.caps(host, "7.3", {"nested": 0})
    assert off.words["CPUID_8000_000A_EDX"] == 0
    older = kvm.caps(host, "6.1")
    assert why(older, SVM_EDX, SVM_FEATURES["vnmi"]) == "kvm.caps.not-before-6.6"
    assert why(older, SVM_EDX, SVM_FEATURES["gmet"]) == "kvm.caps.not-before-7.2"


@pytest.mark.parametrize("parameter", SVM_FEATURES)
def test_a_parameter_of_kvm_amd_hides_its_feature(machine: Machine, edited: Edit, parameter: str) -> None:
    host = whole_svm(machine(TURIN), edited)
    rule = "kvm.svm.npt" if parameter == "npt" else "kvm.svm.nested-part"
    assert why(kvm.caps(host, "7.3", {parameter: 0}), SVM_EDX, SVM_FEATURES[parameter]) == rule


def test_virtual_switches_need_the_real_ones(machine: Machine, edited: Edit) -> None:
    host = whole_svm(machine(TURIN), edited)
    without_npt = kvm.caps(host, "7.3", {"npt": 0})
    assert [why(without_npt, SVM_EDX, SVM_FEATURES[name]) for name in ("vls", "gmet")] == ["kvm.svm.nested-part"] * 2
    assert why(kvm.caps(host, "7.3", {"vgif": 0}), SVM_EDX, SVM_FEATURES["vnmi"]) == "kvm.svm.nested-part"


def test_speculative_store_bypass_on_amd(machine: Machine, edited: Edit) -> None:
    place = (0x80000008, 0, "ebx")
    by_register = edited(machine("kvm-amd.EPYC-Rome-v4@6.12"), {"80000008.0.ebx": lambda ebx: ebx & ~(1 << 24 | 1 << 25)})
    found = kvm.caps(by_register, "6.12", {"msr.c0011020": 0})
    assert found.boot.has("LS_CFG_SSBD")
    assert why(found, place, 25) == "kvm.caps.virt-ssbd"
    by_control = edited(by_register, {"80000008.0.ebx": lambda ebx: ebx | 1 << 24})
    found = kvm.caps(by_control, "6.12")
    assert not found.boot.has("LS_CFG_SSBD")
    assert why(found, place, 25) == "kvm.svm.virt-ssbd"
    intel = edited(machine(SKYLAKE), {"7.0.edx": 1 << 31})
    assert why(kvm.caps(intel, "6.12"), place, 25) is None


def test_a_null_selector_clears_the_base(machine: Machine, edited: Edit) -> None:
    place = (0x80000021, 0, "eax")
    bare = {"80000021.0.eax": 0, "1.0.ecx": lambda ecx: ecx & ~(1 << 31)}
    zen2 = edited(machine("kvm-amd.EPYC-Rome-v4@6.12"), bare)
    assert why(kvm.caps(zen2, "6.12"), place, 6) == "kvm.caps.null-seg"
    zen1 = edited(machine("kvm-amd.EPYC-v4@6.12"), bare)
    assert why(kvm.caps(zen1, "6.12"), place, 6) is None


def test_a_full_flush_of_predictions_by_intels_ibpb(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"7.0.edx": 1 << 26})
    place = (0x80000008, 0, "ebx")
    assert why(kvm.caps(host, "6.18"), place, 30) == "kvm.caps.amd-ibpb-ret"
    assert why(kvm.caps(host, "6.12"), place, 30) is None
    enhanced = kvm.caps(edited(host, {"7.0.edx": 1 << 26 | 1 << 29}), "6.18", {"msr.10a": 1 << 1})
    assert "EIBRS_PBRSB" in enhanced.boot.bugs
    assert why(enhanced, place, 30) is None


def test_mpx_needs_vmx_and_the_host(machine: Machine, edited: Edit) -> None:
    mpx = {"7.0.ebx": lambda ebx: ebx | 1 << 14, "d.0.eax": lambda eax: eax | 0x18, "d.3.eax": 0x40, "d.4.eax": 0x40}
    host = edited(machine(SKYLAKE), mpx)
    assert why(kvm.caps(host, "6.12"), EBX_7, 14) == "kvm.vmx.mpx"
    able = edited(host, msrs={**host.msrs, 0x484: host.msrs[0x484] | 1 << 48})
    found = kvm.caps(able, "6.12")
    assert found.has("MPX") == found.boot.has("MPX")
    assert bool(found.xcr0 & 0x18) == found.boot.has("MPX")


def test_sgx_goes_whole(machine: Machine, edited: Edit) -> None:
    bits = {"7.0.ebx": lambda ebx: ebx | 4, "7.0.ecx": 1 << 30, "12.0.eax": 0x803, "12.0.edx": 0x381F}
    host = edited(machine(SKYLAKE), bits)
    found = kvm.caps(host, "6.12", {"sgx": 0, "msr.3a": 0x60005})
    assert found.boot.has("SGX_EDECCSSA")
    places: list[tuple[tuple[int, int, Register], int]] = [(EBX_7, 2), (ECX_7, 30), *(((0x12, 0, "eax"), bit) for bit in (0, 1, 11))]
    assert [why(found, *place) for place in places] == ["kvm.vmx.sgx"] * 5


def test_secure_nested_paging(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), ENCRYPTION)
    linux = {"msr.c0010010": 1 << 23 | 1 << 24, "msr.c0010015": 1}
    place = (0x8000001F, 0, "eax")
    found = kvm.caps(host, "6.12", linux)
    assert found.has("SEV_SNP") == found.boot.has("SEV_SNP")
    assert why(kvm.caps(host, "6.12", {**linux, "sev_snp": 0}), place, 4) == "kvm.sev.off"
    assert why(kvm.caps(host, "6.1", linux), place, 4) == "kvm.caps.not-before-6.12"


def test_immediate_msr_access_is_intels_alone(machine: Machine, edited: Edit) -> None:
    bits = {"7.0.eax": 1, "7.1.ecx": 1 << 5}
    assert kvm.caps(edited(machine(SAPPHIRE), bits), "7.3").has("MSR_IMM")
    assert why(kvm.caps(edited(machine(TURIN), bits), "7.3"), (7, 1, "ecx"), 5) == "kvm.svm.msr-imm"


def test_the_second_pmu_of_amd_needs_perf_to_drive_it(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), {**PMU_V2, "80000022.0.eax": 1, "80000001.0.ecx": lambda ecx: ecx | 1 << 23})
    assert kvm.caps(host, "7.3", {"pmu": 1}).has("PERFMON_V2")
    off = kvm.caps(host, "7.3", {"pmu": 1, "cmdline": "clearcpuid=perfmon_v2"})
    assert not off.boot.has("PERFMON_V2")
    assert why(off, (0x80000022, 0, "eax"), 0) == "kvm.svm.perfmon-v2"
    legacy = edited(host, {"80000001.0.ecx": lambda ecx: ecx & ~(1 << 23)})
    assert why(kvm.caps(legacy, "7.3", {"pmu": 1}), (0x80000022, 0, "eax"), 0) == "kvm.svm.perfmon-v2"


@pytest.mark.parametrize("nested", [0, 1])
@pytest.mark.parametrize(
    ("name", "register", "bit", "word"),
    [(SKYLAKE, "1.0.ecx", 5, (1, 0, "ecx")), (MILAN, "80000001.0.ecx", 2, (0x80000001, 0, "ecx"))],
)
def test_without_virtualization_in_the_processor_no_parameter_of_kvm_is_named(
    machine: Machine, edited: Edit, name: str, register: str, bit: int, word: tuple[int, int, Register], nested: int
) -> None:
    host = edited(machine(name), {register: lambda value: value & ~(1 << bit)}, cpuinfo={})
    for kernel in KERNELS:
        caps = kvm.caps(host, kernel, {"nested": nested})
        assert not caps.has("VMX")
        assert not caps.has("SVM")
        assert why(caps, word, bit) is None
