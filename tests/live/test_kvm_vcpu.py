"""The rules of vcpuid.kvm.vcpu, held to the KVM that runs here: what it is given differs from machine to machine, the rules do not."""

from __future__ import annotations

import errno
import fcntl
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import KvmError
from vcpuid.kvm.vcpu import set_again, set_cpuid
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.live import tiny_guest as guest
from vcpuid.live.kvm_device import Kvm, Vcpu

pytestmark = [pytest.mark.kvm, pytest.mark.conformance("live vCPU")]

ENABLE_CAP, SET_XCRS = 0x4068AEA3, 0x4188AEA7
CAP_DISABLE_EXITS, EXIT_HLT = 143, 2
KERNEL = platform.release()


@pytest.fixture(scope="module")
def host() -> Snapshot:
    with Kvm() as kvm:
        return Snapshot(supported=kvm.supported_cpuid())


@pytest.fixture
def supported(host: Snapshot) -> CpuidTable:
    assert host.supported is not None
    return host.supported


@pytest.fixture
def vcpu() -> Iterator[Vcpu]:
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        yield vcpu


def test_a_fresh_vcpu_rules_its_bits(vcpu: Vcpu, supported: CpuidTable, host: Snapshot) -> None:
    vcpu.set_cpuid(supported)
    kept = vcpu.get_cpuid()
    assert set_cpuid(kept, host=host, kernel=KERNEL).decisions == ()


@pytest.mark.parametrize("cr4", [0, 1 << 18, 1 << 18 | 1 << 22])
@pytest.mark.parametrize("apic", [True, False])
def test_cr4_and_the_apic(vcpu: Vcpu, supported: CpuidTable, host: Snapshot, cr4: int, apic: bool) -> None:
    vcpu.set_cpuid(supported)
    sregs = vcpu.get_sregs()
    try:
        vcpu.set_sregs(sregs._replace(cr4=cr4, apic_base=sregs.apic_base if apic else sregs.apic_base & ~(1 << 11)))
    except KvmError as refusal:
        pytest.skip(f"this KVM does not have CR4 {cr4:#x}: {refusal}")
    kept = vcpu.get_cpuid()
    if cr4 & 1 << 22 and not kept.registers(7).ecx & 1 << 3:
        pytest.skip("this KVM gives no PKU")
    assert set_cpuid(kept, kernel=KERNEL, cr4=cr4, apic=apic).decisions == ()
    other = set_cpuid(kept, kernel=KERNEL, cr4=0 if cr4 else 1 << 18, apic=not apic)
    assert other.table != kept


@pytest.mark.parametrize("xcr0", [1, 3, 7, 0xE7, 0x207, 0x2E7])
def test_the_xsave_area_grows_with_xcr0(vcpu: Vcpu, supported: CpuidTable, host: Snapshot, xcr0: int) -> None:
    vcpu.set_cpuid(supported)
    try:
        fcntl.ioctl(vcpu._descriptor, SET_XCRS, bytearray(struct.pack("<IIIIQ", 1, 0, 0, 0, xcr0) + bytes(368)))
    except OSError as refusal:
        pytest.skip(f"this KVM does not have XCR0 {xcr0:#x}: {refusal}")
    assert set_cpuid(vcpu.get_cpuid(), host=host, kernel=KERNEL, state=VcpuState(xcr0=xcr0)).decisions == ()


def test_pv_unhalt_goes_where_hlt_does_not_exit(supported: CpuidTable) -> None:
    features = supported.get(0x40000001)
    assert features is not None
    with Kvm() as kvm, kvm.create_vm() as vm:
        try:
            fcntl.ioctl(vm._descriptor, ENABLE_CAP, bytearray(struct.pack("<IIQ", CAP_DISABLE_EXITS, 0, EXIT_HLT) + bytes(88)))
        except OSError as refusal:
            pytest.skip(f"this KVM always exits on HLT: {refusal}")
        with vm.create_vcpu() as vcpu:
            vcpu.set_cpuid(supported)
            kept = vcpu.get_cpuid()
    expected = set_cpuid(supported, kernel=KERNEL, state=VcpuState(hlt_in_guest=True)).table
    assert kept.get(0x40000001) == expected.get(0x40000001)


def test_a_table_set_again_after_the_guest_ran(supported: CpuidTable, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    get = Vcpu.get_cpuid

    def again(vcpu: Vcpu) -> CpuidTable:
        kept = get(vcpu)
        for table in (kept, CpuidTable(entry._replace(eax=entry.eax ^ 1) if entry.function == 0x80000002 else entry for entry in kept)):
            try:
                vcpu.set_cpuid(table)
                answers.append(0)
            except KvmError as refusal:
                answers.append(refusal.errno)
        return kept

    monkeypatch.setattr(Vcpu, "get_cpuid", again)
    kept = guest.read_cpuid(supported, [(0, 0)], 32).kept
    assert answers == [0, errno.EINVAL]
    assert set_again(kept, kept, kernel=KERNEL).table == kept
    with pytest.raises(KvmError):
        set_again(kept, CpuidTable([*kept, Entry(5, 5, 0, 0, 0, 0, 0)]), kernel=KERNEL)


@pytest.mark.process
def test_whoever_makes_the_first_vcpu_of_a_process_has_leave_for_amx() -> None:
    """Linux gives none any more once there is a vCPU: what is tried behind a first guest would be refused for want of it."""
    if "amx_tile" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        pytest.skip("this processor has no AMX")
    script = """
import ctypes
from vcpuid.cpuid import CpuidTable
from vcpuid.live.tiny_guest import read_cpuid
read_cpuid(CpuidTable(), [(0, 0)], 32)
permitted = ctypes.c_uint64()
assert ctypes.CDLL(None).syscall(158, 0x1024, ctypes.byref(permitted)) == 0
print(permitted.value >> 18 & 1)
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize("bits", [0, 12, 31, 32, 36, 255])
def test_the_apic_lies_where_the_guest_has_addresses(bits: int) -> None:
    table = CpuidTable([Entry(0x80000000, 0, 0, 0x80000008, 0, 0, 0), Entry(0x80000008, 0, 0, bits, 0, 0, 0)])
    errnos = []
    for ask in (lambda: guest.read_cpuid(table, [(0, 0)], 32, apic=False), lambda: set_cpuid(table, kernel=KERNEL, apic=False)):
        try:
            ask()
            errnos.append(0)
        except KvmError as refusal:
            errnos.append(refusal.errno)
    assert errnos[0] == errnos[1] == (errno.EINVAL if bits < 32 else 0)
