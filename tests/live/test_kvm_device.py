from __future__ import annotations

import errno
import fcntl
import mmap
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.errors import KvmError, UnavailableError
from vcpuid.kvm.vcpu import MAX_ENTRIES
from vcpuid.live import kvm_structs as structs
from vcpuid.live.kvm_device import Kvm
from vcpuid.live.kvm_structs import Regs, Segment

CAP_EXT_CPUID, CAP_SYS_HYPERV_CPUID, CAP_NOTHING = 7, 191, 100_000


def resources() -> tuple[int, int]:
    """Open descriptors, and mappings that belong to KVM or are shared memory as guests have it."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return len(os.listdir("/proc/self/fd")), sum("kvm" in line or "/dev/zero" in line for line in maps)


def test_a_missing_device_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"kvm: No such file or directory: load kvm_intel or kvm_amd") as error:
        Kvm(str(tmp_path / "kvm"))
    assert "\n" not in str(error.value)


def test_a_forbidden_device_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnavailableError, match=r"/dev/kvm: Permission denied: add yourself to the kvm group"):
        Kvm()


def test_another_file_is_no_device_and_leaks_nothing() -> None:
    before = resources()
    with pytest.raises(UnavailableError, match="is not KVM's device"):
        Kvm("/dev/null")
    assert resources() == before


@pytest.mark.kvm
@pytest.mark.parametrize(
    ("number", "answer", "message"),
    [(structs.GET_API_VERSION, 11, "speaks version 11 of KVM's interface, not 12"), (structs.CHECK_EXTENSION, 0, "not an x86 processor")],
)
def test_a_device_of_another_kind(number: int, answer: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, before = fcntl.ioctl, resources()
    monkeypatch.setattr(fcntl, "ioctl", lambda fd, request, *rest: answer if request == number else real(fd, request, *rest))
    with pytest.raises(UnavailableError, match=message):
        Kvm()
    assert resources() == before


@pytest.mark.kvm
def test_what_the_device_tells() -> None:
    with Kvm() as kvm:
        supported = kvm.supported_cpuid()
        assert supported.get(0) is not None
        assert supported.get(0x40000000) is not None
        assert kvm.supported_cpuid() == supported
        assert all(0 <= value < 1 << 64 for value in kvm.feature_msrs().values())
        assert kvm.check_extension(CAP_EXT_CPUID) == 1
        assert kvm.check_extension(CAP_NOTHING) == 0
        assert kvm.emulated_cpuid().get(0) is not None
        if kvm.check_extension(CAP_SYS_HYPERV_CPUID):
            assert kvm.hyperv_cpuid().get(0x40000000) is not None
        else:
            with pytest.raises(KvmError, match="KVM_GET_SUPPORTED_HV_CPUID"):
                kvm.hyperv_cpuid()


@pytest.mark.kvm
def test_registers_go_in_and_come_out() -> None:
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        regs = Regs(*range(1, 17), rip=0x1234, rflags=2)
        vcpu.set_regs(regs)
        assert vcpu.get_regs() == regs
        sregs = vcpu.get_sregs()
        data = Segment(base=0x10000, limit=0xFFFFFFFF, selector=0x10, type=3, present=1, s=1, g=1, db=1)
        vcpu.set_sregs(sregs._replace(ds=data, cr2=0xABCDEF000))
        assert vcpu.get_sregs().ds == data
        assert vcpu.get_sregs().cr2 == 0xABCDEF000
        assert vcpu.get_sregs()._replace(ds=sregs.ds, cr2=sregs.cr2) == sregs


@pytest.mark.kvm
def test_a_table_goes_in_and_comes_out_in_order() -> None:
    table = CpuidTable([Entry(0x123, 2, 1, 1, 2, 3, 4), Entry(0, 0, 0, 0x123, 0, 0, 0), Entry(0x123, 0, 1, 5, 6, 7, 8)])
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        assert vcpu.get_cpuid() == CpuidTable()
        vcpu.set_cpuid(table)
        assert vcpu.get_cpuid() == table
        assert (vcpu.tsc_khz() or 1) > 0


@pytest.mark.kvm
def test_as_many_entries_as_kvm_takes_and_one_more() -> None:
    entries = [Entry(0x1000 + n, 0, 0, n, 0, 0, 0) for n in range(MAX_ENTRIES + 1)]
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        vcpu.set_cpuid(CpuidTable(entries[:-1]))
        assert vcpu.get_cpuid() == CpuidTable(entries[:-1])
        with pytest.raises(KvmError, match="KVM_SET_CPUID2") as refusal:
            vcpu.set_cpuid(CpuidTable(entries))
        assert refusal.value.errno == errno.E2BIG
        assert vcpu.get_cpuid() == CpuidTable(entries[:-1])


def endless(code: bytes) -> tuple[int, float]:
    """Run code in real mode at 0x1000; the errno of KVM_RUN and the time it took."""
    with mmap.mmap(-1, 0x2000) as memory, Kvm() as kvm, kvm.create_vm() as vm:
        memory[0x1000 : 0x1000 + len(code)] = code
        vm.set_tss_address(0x7FFBD000)
        vm.add_memory(memory)
        with vm.create_vcpu() as vcpu:
            sregs = vcpu.get_sregs()
            vcpu.set_sregs(sregs._replace(cs=sregs.cs._replace(base=0, selector=0)))
            vcpu.set_regs(Regs(rip=0x1000))
            start = time.monotonic()
            with pytest.raises(KvmError) as refusal:
                vcpu.run(0.2)
            return refusal.value.errno, time.monotonic() - start


@pytest.mark.kvm
def test_a_guest_that_never_leaves_is_stopped() -> None:
    before, blocked, threads = resources(), signal.pthread_sigmask(signal.SIG_BLOCK, ()), threading.active_count()
    stopped, took = endless(b"\xeb\xfe")
    assert stopped == errno.ETIME
    assert 0.15 < took < 2
    assert resources() == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
    assert threading.active_count() == threads


@pytest.mark.kvm
def test_a_guest_is_stopped_outside_the_main_thread_too() -> None:
    results: list[tuple[int, float]] = []
    thread = threading.Thread(target=lambda: results.append(endless(b"\xeb\xfe")))
    thread.start()
    thread.join(5)
    assert [stopped for stopped, _ in results] == [errno.ETIME]


@pytest.mark.kvm
def test_other_signals_do_not_end_a_run() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        stopped, took = endless(b"\xeb\xfe")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert (stopped, seen) == (errno.ETIME, [signal.SIGALRM])
    assert took > 0.15


@pytest.mark.kvm
@pytest.mark.parametrize("failing", ["create_vm", "create_vcpu", "mmap", "set_cpuid", "set_sregs", "body"])
def test_nothing_leaks_on_any_path(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def machine() -> None:
        with mmap.mmap(-1, 0x2000) as memory, Kvm() as kvm:
            if failing == "create_vm":
                monkeypatch.setattr(structs, "CREATE_VM", structs.CREATE_VCPU)
            with kvm.create_vm() as vm:
                vm.add_memory(memory)
                if failing == "create_vcpu":
                    vm.create_vcpu(1 << 20)
                if failing == "mmap":
                    vm._run_size = 1 << 60
                with vm.create_vcpu() as vcpu:
                    if failing == "set_cpuid":
                        vcpu.set_cpuid(CpuidTable([Entry(1, 0, 0, 0, 0, 0, 0)] * 257))
                    if failing == "set_sregs":
                        vcpu.set_sregs(vcpu.get_sregs()._replace(cr4=1 << 63))
                    raise ValueError("body")

    before = resources()
    for _ in range(3):
        with pytest.raises((KvmError, ValueError, OSError)):
            machine()
        assert resources() == before


@pytest.mark.kvm
def test_closing_twice_is_harmless() -> None:
    before = resources()
    kvm = Kvm()
    vm = kvm.create_vm()
    vcpu = vm.create_vcpu()
    for handle in (kvm, vcpu, vm, vcpu, kvm, vm):
        handle.close()
    assert resources() == before
