"""The whole -cpu for Windows is one that starts: what QEMU or the KVM at hand does not give is left out of it and named."""

from __future__ import annotations

from dataclasses import replace

from support.captures import host, stack
from support.kvms import SKYLAKE, Picky, odd
from vcpuid.answers.windows import enlightened
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.path.pipeline import guest_view, resolve
from vcpuid.qemu.startup import RunningKvm
from vcpuid.reasons import Basis
from vcpuid.software.hyperv import offered, recommended_but_missing


def asked(cpu: str, snapshot: Snapshot, kvm: RunningKvm | None = None, qemu: str = "10.0") -> tuple[str | None, dict[str, str], Basis]:
    path = resolve(cpu, host=snapshot, stack=stack(SKYLAKE, qemu=qemu))
    found = enlightened(path, recommended_but_missing(guest_view(path)), kvm)
    assert found.start is not None
    return found.cpu, {amendment.what: amendment.why for amendment in found.left_out}, found.start.basis


def flags(cpu: str | None, snapshot: Snapshot) -> frozenset[str]:
    assert cpu is not None
    return offered(guest_view(resolve(cpu, host=snapshot, stack=stack(SKYLAKE, qemu="10.0"))))


def test_with_what_is_proposed_nothing_recommended_is_missing() -> None:
    cpu, left_out, basis = asked("Haswell-noTSX,hv-relaxed", host(SKYLAKE))
    assert cpu is not None
    assert cpu.startswith("Haswell-noTSX,hv-relaxed,hv-vapic,hv-time,")
    assert (left_out, basis) == ({}, Basis.MODELLED)
    assert recommended_but_missing(guest_view(resolve(cpu, host=host(SKYLAKE), stack=stack(SKYLAKE, qemu="10.0")))) == ()


def test_what_this_kvm_refuses_to_set_is_left_out_with_all_that_needs_it() -> None:
    cpu, left_out, basis = asked("host", odd(), Picky(0x40000073))
    assert basis is Basis.OBSERVED
    assert set(left_out) == {"hv-vapic"}
    assert "0x40000073" in left_out["hv-vapic"]
    given = flags(cpu, odd())
    assert "hv-vapic" not in given
    assert {"hv-relaxed", "hv-time", "hv-stimer"} <= given


def test_without_a_kvm_to_ask_it_is_not_tried() -> None:
    cpu, _, basis = asked("host", odd())
    assert basis is Basis.NOT_TRIED
    assert "hv-vapic" in flags(cpu, odd())


def test_a_kvm_without_hyperv_has_none_whatever_is_asked() -> None:
    none = replace(host(SKYLAKE), hyperv=CpuidTable())
    path = resolve("host,hv-relaxed", host=none, stack=stack(SKYLAKE, qemu="10.0"))
    found = enlightened(path, recommended_but_missing(guest_view(path)), None)
    assert (found.none_here, found.cpu) == (True, None)
