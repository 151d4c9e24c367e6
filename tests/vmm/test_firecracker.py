"""Firecracker's rules by hand: topology, MSRs, the releases, what a host does not tell, and what is refused."""

from __future__ import annotations

import json

import pytest

from support.captures import host
from vcpuid.cpuid import CpuidTable, CpuidWord, MsrWord
from vcpuid.errors import FirecrackerError, InputError
from vcpuid.formats.firecracker_template import Bitmap, Template, read_template
from vcpuid.reasons import Decision
from vcpuid.vmm.firecracker import Guest, guest, names, static
from vcpuid.vmm.firecracker.normalize import xeon

INTEL, AMD = "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@7.3"
ALL = (1 << 64) - 1


def made(name: str, **options: object) -> Guest:
    machine = host(name)
    assert machine.supported is not None
    return guest(machine.supported, **{"host": machine.raw, "offered": machine.msrs, **options})  # type: ignore[arg-type]


def last(told: Guest, word: CpuidWord | MsrWord, position: int) -> Decision:
    return next(d for d in reversed(told.decisions) if d.word == word and d.mask >> position & 1)


@pytest.mark.parametrize("name", [INTEL, AMD])
def test_four_vcpus_on_two_cores(name: str) -> None:
    told = made(name, vcpus=4, smt=True, release="1.16")
    for number, table in enumerate(told.tables):
        assert table.registers(0xB, 0) == (1, 2, 0x100, number)
        assert table.registers(0xB, 1) == (5, 4, 0x201, number)
        assert table.registers(1).ebx == number << 24 | 4 << 16 | 8 << 8
        assert table.registers(1).edx & 1 << 28
        caches = table.leaf(4 if name == INTEL else 0x8000001D)
        sharing = {entry.eax >> 5 & 7: (entry.eax >> 14 & 0xFFF) + 1 for entry in caches if entry.eax & 0x1F}
        assert sharing == ({1: 2, 2: 2, 3: 4} if 3 in sharing else {1: 2, 2: 2})
        if name == INTEL:
            assert {entry.eax >> 26 for entry in caches if entry.eax & 0x1F} == {1}
        else:
            assert table.registers(0x8000001E)[:3] == (number, 0x100 | number // 2, 0)
            assert table.registers(0x80000008).ecx & 0xF0FF == 0x7003


@pytest.mark.long
@pytest.mark.parametrize(
    ("vcpus", "smt", "ids", "htt"), [(1, False, 1, 0), (1, True, 1, 0), (3, False, 4, 1), (6, True, 8, 1), (32, True, 32, 1)]
)
def test_apic_ids_are_rounded_up_to_a_power_of_two(vcpus: int, smt: bool, ids: int, htt: int) -> None:
    (*_, table) = made(INTEL, vcpus=vcpus, smt=smt).tables
    assert table.registers(1).ebx >> 16 & 0xFF == ids
    assert table.registers(1).edx >> 28 & 1 == htt


@pytest.mark.parametrize(("release", "shift"), [("1.11", 7), ("1.12", 5)])
def test_the_package_is_as_wide_as_the_release_says(release: str, shift: int) -> None:
    assert made(INTEL, release=release).tables[0].registers(0xB, 1).eax == shift


@pytest.mark.parametrize(
    ("host_name", "name"),
    [
        (b"Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz\0\0", b"Intel(R) Xeon(R) Processor @ 3.00GHz\0\0"),
        (b"Intel(R) Xeon(R) Platinum 8275CL CPU @ \0\0\0\0\0\0\0\0\0", b"Intel(R) Xeon(R) Processor"),
        (b"Intel(R) Xeon(R) Platinum 8275CL CPU @3.00GHz\0\0\0", b"Intel(R) Xeon(R) Processor"),
        (b"@ 123456789876543212345678987654321234567898GHz\0", b"Intel(R) Xeon(R) Processor"),
    ],
)
def test_the_name_is_that_of_firecrackers_own_unit_tests(host_name: bytes, name: bytes) -> None:
    assert xeon(host_name) == name


def test_a_rule_is_named_for_what_it_did() -> None:
    told = made(INTEL, template=read_template(json.dumps({"cpuid_modifiers": [MODIFIER]}), "T.json"))
    assert last(told, CpuidWord(7, 0, "ebx"), 5).rule.id == "firecracker.template"
    assert last(told, CpuidWord(1, 0, "ecx"), 31).rule.id == "firecracker.hypervisor"
    assert not any(d.word == CpuidWord(7, 0, "ebx") and d.mask & 1 << 3 for d in told.decisions)  # what the host has is kept


MODIFIER = {"leaf": "0x7", "subleaf": "0x0", "flags": 1, "modifiers": [{"register": "ebx", "bitmap": "0bxx0xxxxx"}]}


def test_normalization_overrules_a_template() -> None:
    modifier = {"leaf": "0x1", "subleaf": "0x0", "flags": 0, "modifiers": [{"register": "ecx", "bitmap": "0b0" + "x" * 31}]}
    told = made(INTEL, template=read_template(json.dumps({"cpuid_modifiers": [modifier]}), "T.json"))
    assert told.tables[0].registers(1).ecx >> 31
    assert last(told, CpuidWord(1, 0, "ecx"), 31).rule.id == "firecracker.hypervisor"


def arch_capabilities(told: Guest) -> int:
    return told.msrs[MsrWord(0x10A)]


@pytest.mark.parametrize(
    ("release", "kernel", "value"), [("1.16", "6.1", 0b1101), ("1.16", "6.12", 0b1101), ("1.16", "6.18", 0b0100), ("1.17", "6.18", 0b1101)]
)
def test_since_linux_6_13_an_msr_that_is_read_too_early_is_zero(release: str, kernel: str, value: int) -> None:
    told = made(INTEL, template=Template(msrs=((0x10A, Bitmap(0b0110, 0b0100)),)), offered={0x10A: 0b1011}, release=release, kernel=kernel)
    assert arch_capabilities(told) == value
    early = "firecracker.msr.early"
    assert (early in {decision.rule.id for decision in told.decisions}) == (value == 0b0100)


def test_msrs_that_cpuid_does_not_tell_of_are_not_the_guests() -> None:
    told = made(AMD, offered={0x10A: 5})
    assert not told.tables[0].registers(7).edx >> 29 & 1
    assert told.msrs == {}
    assert last(told, MsrWord(0x10A), 2).rule.id == "firecracker.msr.hidden"
    asked = made(AMD, offered={0x10A: 5}, template=Template(msrs=((0x10A, Bitmap(ALL, 1)),)))
    assert asked.msrs == {}
    assert asked.remarks == ("the template sets MSR 0x10a, which the guest's CPUID does not tell of",)


def test_of_vmx_controls_the_half_counts_that_says_what_may_be_one() -> None:
    assert made(INTEL, offered={0x48B: 0x12345678_00000005}).msrs == {MsrWord(0x48B): 0x12345678}
    assert made(INTEL, offered={0x480: 0x12345678_00000005}).msrs == {MsrWord(0x480): 0x12345678_00000005}


def test_boot_overrules_a_template_and_what_is_not_told_is_said() -> None:
    template = Template(msrs=((0x1A0, Bitmap(ALL, 0)), (0x2FF, Bitmap(ALL, 5)), (0xCE, Bitmap(ALL, 7)), (0x34, Bitmap(1, 1))))
    told = made(INTEL, template=template, offered={}, release="1.16")
    assert told.msrs == {MsrWord(0x1A0): 1, MsrWord(0x2FF): 0x806, MsrWord(0xCE): 7}
    assert last(told, MsrWord(0x2FF), 11).rule.id == "firecracker.msr.boot"
    assert told.remarks == ("the template leaves bits of MSR 0x34 as they are on a fresh vCPU, which the host does not tell",)
    assert made(INTEL, template=template, offered={}, release="1.13").msrs[MsrWord(0x2FF)] == 5


def test_a_host_that_does_not_tell_its_cpuid_is_taken_as_kvm_shows_it_and_that_is_said() -> None:
    for name, leaves in ((INTEL, (0, *range(0x80000002, 0x80000007))), (AMD, (0, 0x80000005, 0x80000006, 0x8000001D, 0x8000001E))):
        told = made(name, host=CpuidTable())
        assert told.remarks == tuple(
            f"the host does not tell leaf {leaf:#x} of its own CPUID, which Firecracker hands on: KVM's answer stands for it"
            for leaf in leaves
        )
        assert not made(name).remarks


def test_a_release_that_is_not_there_has_another_in_its_place() -> None:
    assert made(INTEL, release="1.9").remarks == (
        "no tables of Firecracker 1.9: those of 1.10 are used; what changed between the two is not known here",
    )
    assert made(INTEL, release="1.16.1").remarks == ()


@pytest.mark.parametrize(("vcpus", "smt"), [(0, False), (33, False), (3, True), (-1, False)])
def test_a_machine_that_firecracker_does_not_make(vcpus: int, smt: bool) -> None:
    with pytest.raises(
        FirecrackerError, match="The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT"
    ):
        made(INTEL, vcpus=vcpus, smt=smt)


def test_1_10_has_room_for_80_entries() -> None:
    machine = host(INTEL)
    assert machine.supported is not None
    many = CpuidTable([*machine.supported, *(machine.supported[0]._replace(function=0x40000100 + number) for number in range(80))])
    with pytest.raises(FirecrackerError, match="Argument list too long"):
        guest(many, host=machine.raw, release="1.10")
    assert len(guest(many, host=machine.raw, release="1.11").tables[0]) > 80


def test_static_templates_are_found_by_name() -> None:
    assert names() == ("C3", "T2", "T2S", "T2CL", "T2A")
    with pytest.raises(InputError, match="'T3' is no static CPU template of Firecracker: C3, T2, T2S, T2CL, T2A are"):
        static("T3", "1.16")


def test_t2s_sets_fb_clear_on_every_host_since_1_17() -> None:
    ((msr, before),), ((_, after),) = static("T2S", "1.16").msrs, static("T2S", "1.17").msrs
    assert (msr, before.filter, after.filter) == (0x10A, ALL, ALL)
    assert before.value ^ after.value == 1 << 17
    assert after.value & 1 << 17


def test_t2_shows_the_same_on_every_allowed_host() -> None:
    machine = host(INTEL)
    tables = set()
    for signature in (0x50654, 0x50657, 0x606A6):
        raw = CpuidTable(entry._replace(eax=signature) if entry.function == 1 else entry for entry in machine.raw)
        supported = [entry._replace(eax=signature) if entry.function == 1 else entry for entry in machine.supported or ()]
        tables.add(guest(CpuidTable(supported), host=raw, template="T2").tables)
    assert len(tables) == 1
    with pytest.raises(FirecrackerError, match=r"^The current CPU model is not permitted to apply the CPU template\.$"):
        made(INTEL, template="T2")
    with pytest.raises(FirecrackerError, match=r"^CPU vendor mismatched between actual CPU and CPU template\.$"):
        made(AMD, template="T2")
