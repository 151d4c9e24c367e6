"""What a running vCPU keeps, read out of the kernel by a BPF iterator, is what KVM_GET_CPUID2 gives."""

from __future__ import annotations

import os

import pytest

from vcpuid.cpuid import CpuidTable
from vcpuid.errors import UnavailableError
from vcpuid.live.kvm_device import Kvm
from vcpuid.live.processes import vcpu_files
from vcpuid.live.tiny_guest import read_cpuid
from vcpuid.trace.first_entry import FirstEntries
from vcpuid.trace.tables import KernelTables
from vcpuid.trace.vcpus import VcpuTable, vcpu_tables

pytestmark = pytest.mark.kvm


def read(*pids: int) -> list[VcpuTable]:
    try:
        return vcpu_tables(pids)
    except UnavailableError as lack:
        pytest.skip(str(lack))


def test_the_tables_are_what_kvm_gives() -> None:
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu(3) as third, vm.create_vcpu(1) as first, kvm.create_vm() as other:
        supported = kvm.supported_cpuid()
        with other.create_vcpu(0) as apart, other.create_vcpu(2) as empty:
            del empty
            first.set_cpuid(supported)
            third.set_cpuid(CpuidTable([*supported][:9]))
            apart.set_cpuid(CpuidTable([*supported][:1]))
            kept = {1: first.get_cpuid(), 3: third.get_cpuid(), 0: apart.get_cpuid(), 2: CpuidTable()}
            told = read(os.getpid())  # afterwards: what follows the guest's registers, KVM may put there only when it is asked
    assert {found.number: found.table for found in told} == kept
    vms = {found.number: found.vm for found in told}
    assert vms[1] == vms[3] != vms[0] == vms[2]


def test_a_guest_that_is_gone_before_anybody_looks_has_left_its_table() -> None:
    """As it was when the guest was entered, but for what follows the guest's registers."""
    with Kvm() as kvm:
        supported = kvm.supported_cpuid()
    try:
        watching = FirstEntries(os.getpid())
    except UnavailableError as lack:
        pytest.skip(str(lack))
    with watching, KernelTables(os.getpid()) as tables:
        reading = read_cpuid(supported, [(0, 0), (1, 0)])
        assert vcpu_files(os.getpid()) == {}
        (found,) = watching.take()
        assert watching.take() == []
        tables.learn(set())
        others = FirstEntries(os.getppid())
        with others:
            read_cpuid(supported, [(0, 0)])
            assert others.take() == []
    assert (found.pid, found.number) == (os.getpid(), 0)
    assert [entry for entry in found.table if entry.function != 0xD] == [entry for entry in reading.kept if entry.function != 0xD]
    assert tables.candidates(os.getpid()) == [(0, found.table)]


def test_a_process_without_vcpus_has_no_tables() -> None:
    assert vcpu_files(os.getpid()) == {}
    assert vcpu_tables([os.getpid()]) == []


def test_a_process_that_is_gone_has_none() -> None:
    with pytest.raises(ProcessLookupError):
        vcpu_files(4_194_304)
    assert vcpu_tables([4_194_304]) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to become somebody else")
def test_who_may_not_is_told_so() -> None:
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresuid(65534, 65534, 65534)
        try:
            vcpu_files(1)
        except UnavailableError as error:
            os._exit(4 if "process 1: its files are not to be seen: it is another user's" in str(error) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
