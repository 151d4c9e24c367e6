"""A setting that nobody gave is taken to be the usual one, and the answer says so where another would change it."""

from __future__ import annotations

import gzip

import pytest

import vcpuid
from support.captures import CAPTURES, host
from vcpuid import Setup, Snapshot, Stack
from vcpuid.answers.survey import survey
from vcpuid.answers.verdict import verdict
from vcpuid.formats import parse

NAME = "kvm-intel.corei7_skylake_x@6.12"


def bare(name: str = NAME, **more: object) -> Snapshot:
    """A machine of which nothing but its CPUID and MSRs is told."""
    whole = host(name)
    return Snapshot(raw=whole.raw, msrs=whole.msrs, **more)  # type: ignore[arg-type]


def taken(explanation: vcpuid.Explanation) -> list[str]:
    return [assumption.taken for assumption in explanation.assumes]


def test_vmx_rests_on_nested_until_that_is_told() -> None:
    stack = Stack(kernel="6.12")
    assert taken(vcpuid.explain("vmx", host=bare(), stack=stack)) == ["kvm_intel.nested=1"]
    assert not taken(vcpuid.explain("vmx", host=bare(), stack=Stack(kernel="6.12", params={"nested": 1})))
    assert not taken(vcpuid.explain("vmx", host=bare(params={"kvm_intel.nested": "Y"}), stack=stack))
    assert not taken(vcpuid.explain("avx2", host=bare(), stack=stack))


def test_what_the_host_s_own_kvm_answered_rests_on_nothing() -> None:
    assert not taken(vcpuid.explain("vmx", host=host(NAME)))


def test_a_kernel_that_nobody_named_is_an_assumption() -> None:
    raw = bare("kvm-intel.sapphire_rapids-dmr@7.3")
    assert "Linux 7.3" in taken(vcpuid.explain("amx_tile", host=raw)) or "Linux 7.3" in taken(vcpuid.explain("ibt", host=raw))
    assert not any(name.startswith("Linux") for name in taken(vcpuid.explain("ibt", host=raw, stack=Stack(kernel="7.3"))))


def test_tsx_rests_on_how_the_kernel_was_built() -> None:
    text = gzip.decompress((CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz").read_bytes()).decode()
    dump = parse(text, "cascade lake")[0]
    without = vcpuid.explain("rtm", "Cascadelake-Server", dump, Stack("6.12", "11.1", params={"msr.10a": 0xAB}))
    assert (without.visible, taken(without)) == (False, ["tsx=off"])
    assert vcpuid.explain("rtm", "Cascadelake-Server", dump, Stack("6.12", "11.1")).visible is None


def test_a_verdict_and_a_survey_name_theirs() -> None:
    setup = Setup.of(bare(), Stack(kernel="6.12"))
    assert [assumption.taken for assumption in verdict("kvm64,+vmx", setup).assumes] == ["kvm_intel.nested=1"]
    found = survey(vcpuid.resolve("host", host=setup)).assumes()
    assert "vmx" in next(names for assumption, names in found.items() if assumption.taken == "kvm_intel.nested=1")


@pytest.mark.parametrize("cpu", ["Haswell-noTSX", "EPYC-Milan"])
def test_a_refusal_is_no_assumption(cpu: str) -> None:
    assert all(assumption.otherwise for assumption in verdict(cpu, Setup.of(bare())).assumes)
