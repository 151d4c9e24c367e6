"""Bits that the guest's kernel turns on: nobody took them, and what its kernel needs for it may be missing."""

from __future__ import annotations

from support import captures
from vcpuid.answers.explain import explain
from vcpuid.answers.explanation import Explanation
from vcpuid.cpuid.names import find
from vcpuid.diagnosis.causes import possible
from vcpuid.path.pipeline import resolve
from vcpuid.setup import Stack

HOST, QEMU = captures.host("kvm-intel.corei7_skylake_x@6.12"), Stack(qemu="10.0")


def told(feature: str, cpu: str) -> Explanation:
    return explain(find(feature), resolve(cpu, host=HOST, stack=QEMU))


def test_osxsave_follows_the_guests_cr4_and_no_party_is_blamed() -> None:
    found = told("osxsave", "host")
    assert found.visible is False
    assert [reason.rule.id for reason in found.chain] == ["kvm.vcpu.osxsave"]
    assert "took it away" not in found.verdict
    assert found.remedy is not None
    assert "noxsave" in found.remedy


def test_without_xsave_osxsave_is_off_for_the_reason_that_xsave_is() -> None:
    found, xsave = told("osxsave", "host,-xsave"), told("xsave", "host,-xsave")
    assert found.chain[1:] == xsave.chain
    assert found.remedy == xsave.remedy
    assert found.verdict.endswith(xsave.verdict)


def test_ospke_is_off_where_the_processor_has_no_pku() -> None:
    assert [reason.rule.id for reason in told("ospke", "host").chain] == ["kvm.vcpu.ospke", "silicon.lacks"]


def test_causes_name_the_guests_registers_and_options_of_a_kernel() -> None:
    assert possible(find("osxsave"))[0].rule.id == "kvm.vcpu.osxsave"
    for feature, option in (("pcid", "nopcid"), ("fsgsbase", "nofsgsbase"), ("xsave", "noxsave"), ("smap", "clearcpuid"), ("pku", "nopku")):
        assert any(option in cause.text + (cause.rule.remedy or "") for cause in possible(find(feature))), feature


def test_the_rule_that_clears_least_comes_first() -> None:
    rules = [cause.rule.id for cause in possible(find("pcid"))]
    assert rules.index("linux.option.nopcid") < rules.index("linux.option.clearcpuid") < rules.index("kvm.caps.host-kernel")
