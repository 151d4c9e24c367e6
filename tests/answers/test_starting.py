"""A KVM that is not Linux's own: what was not tried of it, what it refuses at start, and where it overrules QEMU's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from support.captures import host, stack
from support.kvms import SKYLAKE, Picky, odd
from vcpuid import Stack
from vcpuid.answers.explain import explain
from vcpuid.answers.survey import survey
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.cli.check_text import CheckText
from vcpuid.cpuid import CpuidTable, Registers, Snapshot
from vcpuid.cpuid.names import find
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.path.pipeline import resolve
from vcpuid.path.probing import Probe
from vcpuid.reasons import Basis

AVX512F, SMEP = 1 << 16, 1 << 7


@dataclass
class Reading:
    kept: CpuidTable
    seen: dict[tuple[int, int], Registers]


def overruling(table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> Reading:
    """A vCPU that adds avx512f to every table and takes smep away."""
    kept = CpuidTable(e._replace(ebx=(e.ebx | AVX512F) & ~SMEP) if (e.function, e.index) == (7, 0) else e for e in table)
    return Reading(kept, {leaf: kept.registers(*leaf) for leaf in leaves})


def failing(table: CpuidTable, leaves: Sequence[tuple[int, int]]) -> Reading:
    raise UnavailableError("this KVM does not run a 64-bit guest")


def ends(answer: Verdict) -> tuple[bool | None, str, Basis]:
    assert answer.start is not None
    return answer.runs, answer.start.outcome, answer.start.basis


def test_whether_a_cpu_starts_on_another_kvm_is_not_tried() -> None:
    assert ends(verdict("Haswell-noTSX,hv-vapic", odd(), stack(SKYLAKE))) == (None, "starts", Basis.NOT_TRIED)
    assert ends(verdict("Haswell-noTSX,hv-vapic", host(SKYLAKE), stack(SKYLAKE))) == (True, "starts", Basis.MODELLED)


def test_what_another_kvm_lacks_is_told_untried() -> None:
    answer = verdict("Haswell", odd(), stack(SKYLAKE))
    assert (answer.runs, [missing.feature.name for missing in answer.missing]) == (False, ["hle", "rtm"])


def test_a_host_that_did_not_run_so_has_linuxs_own_kvm() -> None:
    assert ends(verdict("Haswell-noTSX", odd(), Stack(kernel="6.12", what_if=True))) == (True, "starts", Basis.MODELLED)


def test_a_kvm_that_was_asked_is_observed() -> None:
    assert ends(verdict("Haswell-noTSX", odd(), stack(SKYLAKE), kvm=Picky())) == (True, "starts", Basis.OBSERVED)
    assert ends(verdict("Haswell-noTSX", odd(), stack(SKYLAKE), kvm=Picky(absent=True))) == (None, "starts", Basis.NOT_TRIED)


@pytest.mark.parametrize(
    ("cpu", "refused", "asked", "proposal"),
    [
        ("host,hv-vapic", (0x40000073,), "hv-vapic", "host"),
        ("host,hv-relaxed,hv-vapic,hv-evmcs", (0x40000073,), "hv-vapic", "host,hv-relaxed"),
        ("host,hv-passthrough", (0x40000073,), "hv-passthrough", "host"),
        ("host,hv-vapic,hv-time", (0x40000073, 0x40000021), "hv-time", "host"),
        ("host", (0x10A,), "arch-capabilities", "host,-arch-capabilities"),
        ("host", (0x174,), None, None),
    ],
)
def test_what_kvm_refuses_at_start_is_an_abort_and_left_out_of_the_proposal(
    cpu: str, refused: tuple[int, ...], asked: str | None, proposal: str | None
) -> None:
    answer = verdict(cpu, host(SKYLAKE), stack(SKYLAKE), kvm=Picky(*refused))
    assert ends(answer) == (False, "aborts", Basis.OBSERVED)
    assert answer.start is not None
    assert (answer.start.asked, answer.proposal) == (asked, proposal)
    assert answer.refusal is not None
    assert answer.refusal.startswith("error: failed to set MSR 0x")


def test_a_refusal_of_qemus_own_is_modelled() -> None:
    assert ends(verdict("Haswel", host(SKYLAKE), stack(SKYLAKE), kvm=Picky())) == (False, "refuses", Basis.MODELLED)


def test_what_kvm_puts_back_and_withholds_is_told_by_all() -> None:
    cpu = "Haswell-noTSX,+avx512f"
    bare = replace(host(SKYLAKE), supported=_without_avx512f(host(SKYLAKE)))
    answer = verdict(cpu, bare, stack(SKYLAKE), probe=overruling)
    (missing,) = answer.missing
    assert (missing.feature.name, missing.put_back, missing.explanation.visible) == ("avx512f", True, True)
    assert [feature.name for feature in answer.put_back] == ["avx512f"]
    assert [feature.name for feature in answer.withheld] == ["smep"]
    path = resolve(cpu, host=bare, stack=stack(SKYLAKE), probe=overruling)
    told = explain(find("avx512f"), path)
    assert (told.visible, told.put_back, told.withheld) == (True, True, False)
    assert "QEMU leaves it out, since KVM does not offer it, yet this machine's KVM adds it" in told.verdict
    assert explain(find("smep"), path).withheld
    assert [row["feature"] for row in survey(path).changes() if row["change"] == "put back"] == ["avx512f"]


def test_a_vcpu_that_does_not_run_leaves_the_answer_modelled() -> None:
    answer = verdict("Haswell", host(SKYLAKE), stack(SKYLAKE), probe=failing)
    assert [(missing.feature.name, missing.put_back) for missing in answer.missing] == [("hle", False), ("rtm", False)]


def test_a_path_over_another_kvm_says_what_of_it_is_not_tried() -> None:
    path = resolve("Haswell-noTSX", host=odd(), stack=stack(SKYLAKE))
    assert [step.party for step in path.trace.steps if step.basis is Basis.NOT_TRIED] == ["vcpu", "guest"]
    assert any("kvm_odd" in remark for remark in path.remarks)
    assert "Not tried: this host's KVM is not Linux's own" in explain(find("avx2"), path).verdict
    assert survey(path).as_dict()["basis"] == "not tried"


@pytest.mark.parametrize(("probe", "tried"), [(overruling, True), (failing, False), (None, False)])
def test_check_says_that_another_kvm_was_not_tried_only_where_it_was_not(probe: Probe | None, tried: bool) -> None:
    answer = verdict("Haswell-noTSX", odd(), stack(SKYLAKE), probe=probe, kvm=Picky())
    assert any(line.startswith("Not tried:") for line in CheckText(everything=True).verdict(answer, "", None, 0)) is not tried


def _without_avx512f(snapshot: Snapshot) -> CpuidTable:
    if snapshot.supported is None:
        raise KvmError(0, "no table")
    return CpuidTable(e._replace(ebx=e.ebx & ~AVX512F) if (e.function, e.index) == (7, 0) else e for e in snapshot.supported)
