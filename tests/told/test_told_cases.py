"""Answers that were once surer than their input, one test a mechanism."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

import vcpuid
from support.captures import MITIGATIONS_OFF, capture, host
from vcpuid import Setup, Stack, read, resolve
from vcpuid.answers.compare import NOT_TOLD, by_feature, sides
from vcpuid.answers.explain import explain
from vcpuid.answers.flags import flags_inside, told
from vcpuid.answers.verdict import verdict
from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.cpuid.names import find_all
from vcpuid.errors import NotToldError, QemuError, VcpuidError
from vcpuid.qemu.models import ModelInfo, models

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")


def asked(name: str) -> Snapshot:
    """A captured machine with what its KVM answered, and no table for a guest."""
    return replace(host(name), table=None, kept=None, set_result=None)


def modelled(name: str) -> Snapshot:
    return replace(asked(name), supported=None, emulated=None, hyperv=None)


def without(whole: Snapshot, lost: Callable[[Entry], bool] = lambda _: False, *, msrs: bool = True) -> Snapshot:
    raw = CpuidTable(entry for entry in whole.raw if not lost(entry))
    return replace(whole, raw=raw, msrs=whole.msrs if msrs else MsrTable())


def setup(snapshot: Snapshot, kernel: str | None = None, **more: object) -> Setup:
    return Setup.of(snapshot, Stack(kernel, params=MITIGATIONS_OFF, **more))  # type: ignore[arg-type]


def model(name: str, of: Setup) -> ModelInfo:
    return next(found for found in models(of) if found.name == name)


def open_names(not_told: Iterable[object]) -> set[str]:
    return {found.what for found in not_told}  # type: ignore[attr-defined]


def test_a_model_whose_features_hang_on_two_missing_leaves_together_does_not_run_for_certain() -> None:
    part = without(modelled("kvm-intel.corei7_skylake_x@6.12"), lambda entry: entry.function >= 0x80000000)
    found = model("athlon-v1", setup(part))
    assert found.not_told  # 3dnow and others
    assert verdict("athlon-v1", setup(part)).runs is None
    assert model("athlon-v1", setup(host("kvm-intel.corei7_skylake_x@6.12"))).usable is False
    assert found.usable is None


@pytest.mark.long
def test_models_leave_open_what_a_leaf_and_a_bit_of_an_msr_decide_together() -> None:
    whole = modelled("kvm-intel.core2_penryn_t9600@6.12")  # without EPT KVM offers 1 GB pages, whatever the processor has
    part = without(whole, lambda entry: entry.function == 0x80000000, msrs=False)
    assert "pdpe1gb" not in model("Dhyana-v1", setup(whole)).unavailable_features
    assert "pdpe1gb" in open_names(verdict("Dhyana-v1", setup(part)).not_told)
    found = model("Dhyana-v1", setup(part, "6.1"))
    assert "pdpe1gb" in found.not_told
    found = model("Dhyana-v1", setup(part))
    assert "pdpe1gb" in found.not_told


def test_flags_inside_of_a_host_without_leaf_0_are_not_told() -> None:
    whole = modelled("kvm-amd.EPYC-Rome-v4@6.1")
    part = without(whole, lambda entry: entry.function == 0)
    shown, _ = flags_inside(resolve("Haswell", host=setup(whole)), Stack())
    found, _ = flags_inside(resolve("Haswell", host=setup(part)), Stack())
    lost = set(shown.info.flags) - set(found.info.flags) - open_names(found.not_told)
    assert not lost or "every flag" in open_names(found.not_told)


def test_the_flags_of_a_host_that_tells_only_what_its_kvm_supports_are_not_told() -> None:
    part = without(asked("kvm-amd.Dhyana-v2@6.1"), lambda _: True)
    found = told(setup(part))
    assert found.not_told
    assert "itlb_multihit" not in found.info.bugs


def test_the_flags_of_a_host_without_leaf_1_are_not_told_though_its_kvm_answered() -> None:
    whole = asked("kvm-amd.Denverton-v3-amdvendor@6.12")
    found, truth = told(setup(without(whole, lambda entry: entry.function == 1))), told(setup(whole))
    assert set(truth.info.flags) - set(found.info.flags) <= open_names(found.not_told) or "every flag" in open_names(found.not_told)
    missed = set(truth.info.bugs) - set(found.info.bugs) - {name.removeprefix("bugs: ") for name in open_names(found.not_told)}
    assert not missed or "every flag" in open_names(found.not_told)


@pytest.mark.parametrize("smp", ["-1"])
def test_a_negative_smp_is_refused(smp: str) -> None:
    with pytest.raises(VcpuidError):
        resolve("host", host=setup(modelled("kvm-intel.corei7_skylake_x@6.12"), smp=smp))


def test_a_property_of_a_cpu_with_thousands_of_digits_is_refused() -> None:
    with pytest.raises(VcpuidError):
        resolve(f"host,phys-bits={'9' * 5000}", host=setup(modelled("kvm-intel.corei7_skylake_x@6.12")))


def test_a_size_with_thousands_of_digits_is_refused() -> None:
    more = {"globals": (f"q35-pcihost.pci-hole64-size={'9' * 5000}",)}
    with pytest.raises(VcpuidError):
        resolve("host", host=setup(modelled("kvm-intel.corei7_skylake_x@6.12"), **more))


def test_a_leaf_that_is_there_counts_though_its_range_s_first_is_missing() -> None:
    part = without(modelled("kvm-intel.corei7_skylake_x@6.12"), lambda entry: entry.function == 0)
    found = explain(find_all("avx2")[0], resolve("host", host=setup(part)))
    assert (found.stages[0].value, found.visible) == (True, None)


def test_a_host_without_leaf_1_is_not_said_to_lack_vmx() -> None:
    part = without(modelled("kvm-intel.corei7_skylake_x@6.12"), lambda entry: entry.function == 1)
    assert not any("neither VMX nor SVM" in remark for remark in resolve("host", host=setup(part)).remarks)


def test_no_party_is_blamed_for_what_is_not_told() -> None:
    part = without(modelled("kvm-intel.sapphire_rapids-rnd14@6.12"), lambda entry: entry.function > 7)
    found = by_feature(sides(setup(part), cpu="Haswell"))
    assert {difference.party for difference in found if difference.why.startswith("depends on")} <= {NOT_TOLD}
    assert next(difference.party for difference in found if difference.what == "osxsave") == NOT_TOLD


def test_a_refusal_that_hangs_on_what_is_not_told_is_none() -> None:
    dump = read(capture("cascade-lake-without-msrs", "reports"))
    cpu, stack = "Cascadelake-Server-noTSX,enforce", Stack("6.12", "10.0")
    with pytest.raises(NotToldError, match=r"rdctl-no \(MSR\(10Ah\) \[bit 0\]\).* --param msr\.10a=VALUE"):
        vcpuid.explain("avx2", cpu, dump, stack)
    assert vcpuid.explain("avx2", cpu, dump, replace(stack, params={"msr.10a": 0xAB})).visible
    with pytest.raises(QemuError):  # no MSR gives it LA57
        vcpuid.explain("avx2", f"{cpu},+la57", dump, stack)
