"""What QEMU sets in a vCPU before its guest runs, and how it ends where KVM does not take it."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from support.captures import host, stack
from vcpuid.cpuid import CpuidTable
from vcpuid.errors import KvmError
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import resolve
from vcpuid.qemu.startup import Halt, Startup, start, startup
from vcpuid.qemu.state import CpuState

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"
LISTED = frozenset({0x10A, 0x8B, 0xC0000081, 0xC0000103, 0x345, 0x491, 0x6E0, 0x40000105, 0x400000B0})


class Vcpu:
    """A vCPU that refuses what it is told to."""

    def __init__(self, capability: int = 0, msr: int = 0, table: bool = False, checks: int = 0x9000100) -> None:
        self.capability, self.msr, self.table, self.checks = capability, msr, table, checks
        self.set_to = -1

    def enable(self, capability: int, argument: int | None) -> None:
        if capability == self.capability:
            raise KvmError(errno.EINVAL, "KVM_ENABLE_CAP: Invalid argument")

    def set_cpuid(self, table: CpuidTable) -> None:
        if self.table:
            raise KvmError(errno.EINVAL, "KVM_SET_CPUID2: Invalid argument")

    def machine_checks(self) -> int:
        return self.checks

    def set_machine_checks(self, wanted: int) -> None:
        self.set_to = wanted

    def set_msrs(self, values: Sequence[tuple[int, int]]) -> int:
        return next((i for i, (msr, _) in enumerate(values) if msr == self.msr), len(values))


class Kvm:
    listed = LISTED

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu

    @contextmanager
    def vcpu(self) -> Iterator[Vcpu]:
        yield self._vcpu


def wanted(cpu: str, name: str = SKYLAKE, qemu: str = "7.2") -> Startup:
    path = resolve(cpu, host=host(name), stack=stack(name, qemu=qemu))
    assert isinstance(path.made.detail, CpuState)
    return startup(path.made.detail, path.tables[0], kvm_says(path.setup), LISTED)


def msrs(cpu: str, name: str = SKYLAKE, qemu: str = "7.2") -> dict[int, int]:
    return {write.msr: write.value for part in wanted(cpu, name, qemu).msrs for write in part}


def test_a_cpu_that_kvm_takes_starts() -> None:
    assert start(wanted("host,hv-vapic,hv-time"), Kvm(Vcpu())) is None


@pytest.mark.parametrize(
    ("cpu", "refused", "value", "asked"),
    [
        ("host", 0x10A, None, "arch-capabilities"),
        ("host,hv-relaxed,hv-vapic", 0x40000073, 0, "hv-vapic"),
        ("host,hv-time", 0x40000021, 0, "hv-time"),
        ("host,hv-vpindex,hv-synic", 0x40000080, 0, "hv-synic"),
        ("host,hv-passthrough", 0x40000106, 0, "hv-passthrough"),
        ("host", 0x174, 0, None),
        ("host,+vmx", 0x480, None, "vmx"),
    ],
)
def test_an_msr_that_kvm_refuses_is_an_abort(cpu: str, refused: int, value: int | None, asked: str | None) -> None:
    halt = start(wanted(cpu), Kvm(Vcpu(msr=refused)))
    value = msrs(cpu)[refused] if value is None else value
    assert halt == Halt(True, f"error: failed to set MSR 0x{refused:x} to 0x{value:x}", asked)


def test_a_capability_that_kvm_refuses_is_a_refusal() -> None:
    halt = start(wanted("host,hv-vpindex,hv-synic"), Kvm(Vcpu(capability=148)))
    assert halt is not None
    assert (halt.aborts, halt.asked) == (False, "hv-synic")
    assert halt.message.startswith("failed to turn on HyperV SynIC in KVM: Invalid argument\n")


def test_a_table_that_kvm_refuses_is_a_refusal() -> None:
    told = "kvm_init_vcpu: kvm_arch_init_vcpu failed (0): Invalid argument"
    assert start(wanted("host"), Kvm(Vcpu(table=True))) == Halt(False, told, None)


def test_a_kvm_without_local_machine_checks_is_a_refusal() -> None:
    told = "kvm: LMCE not supported\nkvm_init_vcpu: kvm_arch_init_vcpu failed (0): Operation not supported"
    assert start(wanted("host,lmce=on"), Kvm(Vcpu(checks=0x1000100, msr=0x4D0))) == Halt(False, told, "lmce")


def test_other_machine_checks_that_kvm_lacks_are_left_out() -> None:
    vcpu = Vcpu(checks=0x100)
    assert start(wanted("host"), Kvm(vcpu)) is None
    assert vcpu.set_to == 0x10A


def test_msrs_of_enlightenments_are_set_where_they_are_asked_for() -> None:
    plain, asked = msrs("host"), msrs("host,hv-vapic,hv-time,hv-vpindex,hv-synic")
    assert {msr for msr in asked.keys() - plain.keys() if msr < 0x40000100} == {
        0x40000000, 0x40000001, 0x40000002, 0x40000021, 0x40000073, *range(0x40000080, 0x40000084), *range(0x40000090, 0x400000A0),
    }  # fmt: skip


def test_msrs_that_kvm_lists_are_set_whatever_is_asked_for() -> None:
    assert set(range(0x40000100, 0x40000106)) | set(range(0x400000B0, 0x400000B8)) <= msrs("486").keys()


def test_vmx_msrs_are_set_with_vmx_alone() -> None:
    assert 0x48D in msrs("host")
    assert 0x48D not in msrs("host,-vmx")
    assert msrs("host")[0x48E] & 0xFFFFFFFF & ~0x0401E172 == 0


@pytest.mark.parametrize(("cpu", "name", "value"), [("qemu64", MILAN, 0x1000065), ("Skylake-Server", SKYLAKE, 1 << 32)])
def test_the_microcode_is_a_fixed_one(cpu: str, name: str, value: int) -> None:
    assert msrs(cpu, name)[0x8B] == value


def test_counters_follow_leaf_0xa() -> None:
    assert 0x186 in msrs("host")
    assert 0x186 not in msrs("host,pmu=off")


def test_newer_releases_set_the_clock_where_the_guest_has_it() -> None:
    assert 0x12 in msrs("486,-kvmclock", qemu="7.2")
    assert 0x12 not in msrs("486,-kvmclock", qemu="11.1")
