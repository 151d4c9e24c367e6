from __future__ import annotations

import errno
import os
import platform
from pathlib import Path

import pytest

from vcpuid.cpuid import CpuidTable, Entry, Registers
from vcpuid.errors import InputError, KvmError, UnavailableError
from vcpuid.kvm.lookup import lookup
from vcpuid.live import tiny_guest as guest
from vcpuid.live.kvm_device import Kvm, Vcpu
from vcpuid.live.kvm_structs import EXIT_SHUTDOWN

pytestmark = pytest.mark.kvm

MODES: tuple[guest.Mode, ...] = (16, 32, 64)
INTEL = Entry(0, 0, 0, 0x20, 0x756E6547, 0x6C65746E, 0x49656E69)
AMD = Entry(0, 0, 0, 0x20, 0x68747541, 0x444D4163, 0x69746E65)
PLACES = [(0, 0), (1, 0), (7, 0), (7, 9), (0xB, 7), (0xD, 1), (0x1234, 0), (0x40000000, 0), (0x80000000, 0), (0xFFFFFFFF, 0xFFFFFFFF)]


@pytest.fixture(scope="module")
def supported() -> CpuidTable:
    with Kvm() as kvm:
        return kvm.supported_cpuid()


def resources() -> tuple[int, int]:
    """Open descriptors, and mappings that belong to KVM or are shared memory as guests have it."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return len(os.listdir("/proc/self/fd")), sum("kvm" in line or "/dev/zero" in line for line in maps)


def read(table: CpuidTable, leaves: list[tuple[int, int]], mode: guest.Mode, **state: int) -> guest.GuestReading:
    try:
        return guest.read_cpuid(table, leaves, mode, **state)  # type: ignore[arg-type]
    except UnavailableError as lacking:
        pytest.skip(str(lacking))


@pytest.mark.conformance("live look-up")
@pytest.mark.parametrize("mode", MODES)
def test_the_guest_reads_what_the_lookup_says(supported: CpuidTable, mode: guest.Mode) -> None:
    leaves = [*PLACES, *((entry.function, entry.index) for entry in supported)]
    reading = read(supported, leaves, mode)
    assert reading.seen == {leaf: lookup(reading.kept, *leaf, kernel=platform.release()) for leaf in leaves}


@pytest.mark.conformance("live look-up")
@pytest.mark.parametrize("mode", MODES)
def test_kvms_emulator_looks_up_in_the_same_table(supported: CpuidTable, mode: guest.Mode) -> None:
    """em_cpuid and kvm_emulate_cpuid, the two ways of a CPUID to KVM, give the same answers."""
    parameter = Path("/sys/module/kvm/parameters/force_emulation_prefix")
    if not parameter.exists() or parameter.read_text(encoding="utf-8").strip() in ("0", "N"):
        with pytest.raises(UnavailableError, match="force_emulation_prefix"):
            guest.read_cpuid(supported, PLACES, mode, emulate=True, seconds=0.5)
        pytest.skip("kvm's parameter force_emulation_prefix is off")
    assert guest.read_cpuid(supported, PLACES, mode, emulate=True).seen == read(supported, PLACES, mode).seen


@pytest.mark.conformance("live look-up")
@pytest.mark.parametrize("basic", [INTEL, AMD], ids=["intel", "amd"])
@pytest.mark.parametrize("mode", MODES)
def test_out_of_range_by_vendor(basic: Entry, mode: guest.Mode) -> None:
    extended = [Entry(0x80000000, 0, 0, 0x80000008, 0, 0, 0), Entry(0x80000008, 0, 0, 0x3030, 0, 0, 0)]
    table = CpuidTable([basic, Entry(0x20, 0, 1, 1, 2, 3, 4), *extended])
    seen = read(table, [(0x30, 0), (0x30, 5), (0x80000009, 0), (0x10, 0)], mode).seen
    redirected = Registers(1, 2, 3, 4) if basic is INTEL else Registers()
    assert seen == {(0x30, 0): redirected, (0x30, 5): Registers(), (0x80000009, 0): redirected, (0x10, 0): Registers()}


@pytest.mark.conformance("live look-up")
def test_more_leaves_than_fit_at_once(supported: CpuidTable) -> None:
    leaves = [(0x77, index) for index in range(2500)]
    table = CpuidTable([*supported, *(Entry(0x77, index, 1, index, ~index & 0xFFFFFFFF, 0, 1) for index in range(100))])
    seen = read(table, leaves, 32).seen
    assert len(seen) == 2500
    assert seen[0x77, 99] == Registers(99, 0xFFFFFF9C, 0, 1)
    assert seen[0x77, 2499] == lookup(table, 0x77, 2499)


def test_no_leaves_at_all(supported: CpuidTable) -> None:
    reading = read(supported, [], 32)
    assert reading.seen == {}
    kept = {entry[:2] for entry in reading.kept}
    assert kept, "a KVM of its own kind may drop leaves of the table, but not all"
    assert kept <= {entry[:2] for entry in supported}


@pytest.mark.conformance("live look-up")
@pytest.mark.parametrize("apic", [True, False])
def test_the_apic_bit_follows_its_enable(supported: CpuidTable, apic: bool) -> None:
    reading = read(supported, [(1, 0)], 32, apic=apic)
    assert bool(reading.seen[1, 0].edx & 1 << 9) == apic


@pytest.mark.conformance("live look-up")
def test_osxsave_follows_cr4(supported: CpuidTable) -> None:
    for cr4 in (0, 1 << 18):
        try:
            reading = read(supported, [(1, 0)], 32, cr4=cr4)
        except KvmError as refusal:
            pytest.skip(f"no XSAVE here: {refusal}")
        assert bool(reading.seen[1, 0].ecx & 1 << 27) == bool(cr4)


def test_what_kvm_refuses_is_told_with_its_errno() -> None:
    with pytest.raises(KvmError, match="KVM_SET_CPUID2") as refusal:
        guest.read_cpuid(CpuidTable([Entry(0x80000008, 0, 0, 0x2030, 0, 0, 0)]), [(0, 0)])
    assert refusal.value.errno == errno.EINVAL
    with pytest.raises(KvmError, match="KVM_SET_SREGS") as refusal:
        guest.read_cpuid(CpuidTable(), [(0, 0)], 32, cr4=1 << 63)
    assert refusal.value.errno == errno.EINVAL


@pytest.mark.parametrize("leaf", [(1 << 32, 0), (0, -1), (0,)])
def test_wrong_leaves_are_named(leaf: tuple[int, int]) -> None:
    with pytest.raises(InputError):
        guest.read_cpuid(CpuidTable(), [leaf])
    with pytest.raises(InputError):
        guest.read_cpuid(CpuidTable(), [], 8)  # type: ignore[arg-type]


def test_a_guest_that_leaves_otherwise_is_told_and_leaks_nothing(supported: CpuidTable, monkeypatch: pytest.MonkeyPatch) -> None:
    before = resources()
    with monkeypatch.context() as patch:
        patch.setattr(Vcpu, "run", lambda *_: EXIT_SHUTDOWN)
        with pytest.raises(UnavailableError, match=r"does not run a 64-bit guest: it left with shutdown"):
            guest.read_cpuid(supported, [(0, 0)])
    with pytest.raises(UnavailableError, match="the 32-bit guest was not done in the time that it had"):
        guest.read_cpuid(supported, [(0, 0)] * 100_000, 32, seconds=0.01)
    assert resources() == before


@pytest.mark.parametrize("mode", MODES)
def test_an_exit_takes_time(supported: CpuidTable, mode: guest.Mode) -> None:
    try:
        taken = guest.time_exit(supported, mode, rounds=200)
    except UnavailableError as lacking:
        pytest.skip(str(lacking))
    assert 0 <= taken.cycles < 1e7
    assert taken.ns is None or 0 <= taken.ns < 1e7
    with pytest.raises(InputError):
        guest.time_exit(supported, mode, rounds=0)
