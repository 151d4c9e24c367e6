"""Every hazard rule fires on a table made to have it, stays silent on the table it was made from, and says what happens and what to do."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.captures import host, stack
from vcpuid import Stack, hazards, resolve
from vcpuid.cpuid import CpuidTable, Entry, Registers, Snapshot, bits
from vcpuid.hazards import RULES, Hazard, Severity
from vcpuid.path.pipeline import Path, guest_view
from vcpuid.software import psabi, software_cpu

INTEL, AMD, ICELAKE = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3", "kvm-intel.sapphire_rapids-xfd@6.12"


def of_cpu(cpu: str, name: str = INTEL, **given: str) -> tuple[Hazard, ...]:
    return hazards.of_path(resolve(cpu, host=host(name), stack=stack(name, **given)))


@cache
def table(cpu: str, name: str = INTEL, **given: str) -> CpuidTable:
    return resolve(cpu, host=host(name), stack=stack(name, **given)).tables[0]


def edited(base: CpuidTable, *edits: tuple[int, int, str, Callable[[int], int]]) -> CpuidTable:
    """Change registers of a table: leaf, sub-leaf, register, what becomes of its value."""
    entries = list(base)
    for function, index, register, change in edits:
        at = next((i for i, e in enumerate(entries) if (e.function, e.index if e.flags & 1 else 0) == (function, index)), None)
        if at is None:
            at = len(entries)
            entries.append(Entry(function, index, 1, 0, 0, 0, 0))
        entries[at] = entries[at]._replace(**{register: change(getattr(entries[at], register))})
    return CpuidTable(entries)


def on(bit: int) -> Callable[[int], int]:
    return lambda value: value | 1 << bit


def off(bit: int) -> Callable[[int], int]:
    return lambda value: value & ~(1 << bit)


def to(value: int) -> Callable[[int], int]:
    return lambda _: value


def of_edited(
    *edits: tuple[int, int, str, Callable[[int], int]], cpu: str = "Haswell-v2", name: str = INTEL, **given: str
) -> tuple[Hazard, ...]:
    return hazards.of_table(edited(table(cpu, name, **given), *edits), host(name), stack(name))


def of_guest(cpu: str, name: str, **given: str) -> tuple[Hazard, ...]:
    return hazards.of_table(table(cpu, name, **given), host(name), stack(name))


def twins() -> tuple[Hazard, ...]:
    path = resolve("Haswell-v2", host=host(INTEL), stack=stack(INTEL, smp="2"))
    return hazards.find(hazards.View(path.tables[0], path.setup, path.host, path.made, {}, (path.tables[0],)))


class Shown(NamedTuple):
    """What a vCPU of a KVM that shows XSAVE, AVX and FMA whatever the table says made of a table."""

    kept: CpuidTable
    seen: dict[tuple[int, int], Registers]


def showing_avx(given: CpuidTable, leaves: Sequence[tuple[int, int]]) -> Shown:
    more = bits.XSAVE.mask | bits.AVX.mask | 1 << 12
    seen = {leaf: given.registers(*leaf) for leaf in leaves}
    return Shown(given, {**seen, (1, 0): seen[1, 0]._replace(ecx=seen[1, 0].ecx | more)})


def shown_avx() -> Path:
    return resolve("Nehalem", host=host(INTEL), stack=stack(INTEL), probe=showing_avx)


def test_what_has_no_state_in_the_guest_is_what_software_cannot_use() -> None:
    path = shown_avx()
    third = psabi.levels(software_cpu(guest_view(path)))[2]
    (found,) = (hazard for hazard in hazards.of_path(path) if hazard.rule.id == "xsave.seen-without-state")
    assert {name.lower() for name in third.disabled} == set(found.subjects) == {"avx", "fma"}
    assert not found.breaks
    modelled = hazards.of_path(resolve("Nehalem", host=host(INTEL), stack=stack(INTEL)))
    assert found.rule not in {hazard.rule for hazard in modelled}


THREADS = {"smp": "4,cores=2,threads=2"}

# By rule: a table that has the hazard, and a text that its subjects hold.
CASES: dict[str, tuple[Callable[[], tuple[Hazard, ...]], str]] = {
    "tsx.no-hardware": (lambda: of_cpu("Haswell-v2,+rtm,x-force-features=on"), "rtm, with avx2"),
    "tsx.no-hle": (lambda: of_cpu("Haswell-v2,+hle,x-force-features=on"), "hle"),
    "tsx.always-aborts": (lambda: of_edited((7, 0, "ebx", on(11)), (7, 0, "edx", on(11))), "rtm"),
    "feature.no-hardware": (lambda: of_cpu("Haswell-v2,+sha-ni,x-force-features=on"), "sha_ni"),
    "feature.false-promise": (lambda: of_cpu("Haswell-v2,+fsrm,x-force-features=on"), "fsrm"),
    "feature.kvm-hides": (lambda: of_cpu("Haswell-v2,+est,x-force-features=on"), "est"),
    "msr.refused": (lambda: of_cpu("Haswell-v2,+vmx,+vmx-tsc-scaling,+vmx-vnmi,+vmx-page-walk-5,x-force-features=on"), "vmx-page-walk-5"),
    "feature.unmet-need": (lambda: of_cpu("Haswell-v2,-avx"), "avx2 needs avx"),
    "xsave.no-state": (lambda: of_cpu("Skylake-Server-v3,-avx512f"), "avx512dq (components 5, 6, 7)"),
    "xsave.seen-without-state": (lambda: hazards.of_path(shown_avx()), "avx"),
    "xsave.no-permission": (lambda: hazards.of_table(supported(ICELAKE), host(ICELAKE), stack(ICELAKE)), "amx_tile"),
    "xsave.not-of-host": (lambda: of_edited((0xD, 0, "eax", on(9))), "component 9"),
    "xsave.impossible": (lambda: of_edited((0xD, 0, "eax", on(5))), "AVX-512: components 6, 7 missing"),
    "xsave.sizes": (lambda: of_edited((0xD, 0, "ecx", to(576))), "576 bytes, its components take 832"),
    "xsave.other-layout": (lambda: of_edited((0xD, 2, "ebx", to(1024))), "component 2: 256 bytes at 1024, the host has 256 bytes at 576"),
    "xsave.linux-off": (lambda: of_edited((0xD, 2, "ebx", to(1024))), "component 2: Linux adds up 1280 bytes, CPUID tells 832"),
    "vendor.two": (lambda: of_edited((0x80000000, 0, "ebx", to(0x68747541))), "GenuineIntel"),
    "vendor.not-host": (lambda: of_cpu("Haswell-v2,vendor=AuthenticAMD"), "AuthenticAMD on GenuineIntel"),
    "family.unknown": (lambda: of_cpu("EPYC"), "GenuineIntel family 0x17"),
    "leaf.amd-on-intel": (lambda: of_edited((0x80000000, 0, "eax", to(0x8000001E)), (0x8000001E, 0, "eax", to(1))), "leaf 0x8000001e"),
    "leaf.intel-on-amd": (lambda: of_edited((4, 0, "eax", to(0x121)), cpu="EPYC", name=AMD), "leaf 0x4"),
    "level.too-low": (lambda: of_cpu("Nehalem,+avx2,level=4"), "avx2 in leaf 0x7, the last is 0x4"),
    "level.own-leaf": (lambda: of_cpu("Haswell-v2,level=7"), "xsave without leaf 0xd"),
    "address.too-wide": (lambda: of_cpu("Haswell-v2,phys-bits=52"), "52 bits, the host has 40; OVMF puts its PCI window right below 2^40"),
    "hypervisor.hidden": (lambda: of_cpu("Haswell-v2,-hypervisor"), "leaf 0x40000000"),
    "topology.counts": (lambda: of_edited((1, 0, "edx", off(28)), **THREADS), "4 threads in leaf 0xB, ht off"),
    "topology.leaf-1f": (lambda: of_edited((0, 0, "eax", to(0x1F)), (0x1F, 0, "ecx", to(256)), (0x1F, 0, "eax", to(3)), **THREADS), "0x1F"),
    "topology.leaf-4": (lambda: of_edited((4, 0, "eax", lambda eax: eax & 0x3FFFFFF), **THREADS), "1 ids for cores in leaf 4"),
    "topology.ids": (lambda: of_edited((0xB, 0, "edx", to(7)), **THREADS), "APIC id 0x0 in leaf 1, 0x7 in leaf 0xb"),
    "topology.amd": (lambda: of_edited((0x8000001E, 0, "ebx", to(0x300)), cpu="EPYC", name=AMD, **THREADS), "4 threads in leaf 0x8000001e"),
    "topology.id-twice": (twins, "0x0"),
    "topology.no-topoext": (lambda: of_cpu("EPYC,-topoext", AMD, **THREADS), "2 threads a core"),
    "speculation.no-control": (lambda: of_cpu("Haswell-v1", ICELAKE), "spec-ctrl"),
    "speculation.false-immunity": (lambda: of_cpu("Haswell-v2,+arch-capabilities,+mds-no,x-force-features=on"), "mds-no, and"),
    "speculation.no-capabilities": (lambda: of_cpu("Haswell-v2"), "arch-capabilities"),
    "migration.host-model": (lambda: of_cpu("host"), "-cpu host"),
    "migration.off": (lambda: of_cpu("host,migratable=off"), "migratable=off"),
    "migration.invtsc": (lambda: of_cpu("Haswell-v2,+invtsc"), "invtsc"),
    "migration.from-host": (lambda: of_cpu("Haswell-v2,pmu=on"), "pmu=on"),
    "migration.forced": (lambda: of_cpu("Haswell-v2,x-force-features=on"), "x-force-features=on"),
}  # fmt: skip


def supported(name: str) -> CpuidTable:
    found = host(name).supported
    assert found is not None
    return found


@pytest.mark.parametrize("rule", RULES, ids=[rule.id for rule in RULES])
def test_every_rule_finds_what_it_is_for(rule: hazards.HazardRule) -> None:
    make, subject = CASES[rule.id]
    found = [hazard for hazard in make() if hazard.rule is rule]
    assert found, "nothing found"
    assert any(subject in text for text in found[0].subjects), found[0].subjects


def test_rules_are_told_apart_and_say_what_happens_and_what_to_do() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert set(CASES) == {rule.id for rule in RULES}
    for rule in RULES:
        assert rule.consequence[0].isupper(), rule.id
        assert rule.consequence.endswith("."), rule.id
        assert rule.fix, rule.id


@pytest.mark.parametrize(("cpu", "name", "given"), [("Haswell-v2", INTEL, {}), ("Haswell-v2", INTEL, THREADS), ("EPYC", AMD, THREADS)])
def test_the_tables_that_the_cases_start_from_have_none_of_it(cpu: str, name: str, given: dict[str, str]) -> None:
    found = {hazard.rule.id for hazard in of_guest(cpu, name, **given)}
    assert found <= {"speculation.no-capabilities", "feature.kvm-hides", "speculation.no-control"}


def test_the_crash_of_the_notes_avx2_on_and_rtm_forced() -> None:
    """AVX2 and RTM forced on where the processor has no RTM: glibc's string functions with RTM kill init by XTEST's #UD."""
    found = of_cpu("Haswell-v2,+rtm,x-force-features=on")
    assert found[0].rule.id == "tsx.no-hardware"
    assert found[0].rule.severity is Severity.BREAKS
    assert "avx2_rtm" in found[0].rule.consequence
    assert "XTEST" in found[0].rule.consequence
    assert "#UD" in found[0].rule.consequence
    assert "-rtm" in found[0].rule.fix


def test_with_avx512_glibc_takes_other_functions() -> None:
    told = next(hazard for hazard in of_cpu("Skylake-Server-v3,+rtm,x-force-features=on") if hazard.rule.id == "tsx.no-hardware")
    assert told.subjects == ("rtm",)


def test_what_kvm_emulates_is_no_hazard() -> None:
    """No processor here has tsc-deadline or x2apic of its own (AMD), and movbe of KVM's emulator needs none."""
    raw = host(AMD).raw
    assert not raw.registers(1).ecx & (1 << 21 | 1 << 24)
    found = of_edited((1, 0, "ecx", lambda ecx: ecx | 1 << 21 | 1 << 24 | 1 << 31), cpu="EPYC", name=AMD)
    assert not [hazard for hazard in found if hazard.rule.id.startswith("feature.")]


def test_without_a_host_only_contradictions_within_the_table_are_found() -> None:
    forced = edited(table("Haswell-v2"), (7, 0, "ebx", on(11)), (1, 0, "ecx", off(28)))
    found = {hazard.rule.id for hazard in hazards.of_table(forced)}
    assert found == {"feature.unmet-need"}


@pytest.mark.parametrize("gone", [(0,), (1,), (0, 1), (0, 1, 0xD), (0, 1, 7), (0, 1, 0x80000000)], ids=str)
@pytest.mark.parametrize("cpu", ["Haswell-v4", "EPYC", "host"])
@pytest.mark.parametrize("name", [INTEL, AMD, ICELAKE])
def test_of_a_part_nothing_is_claimed_that_the_rest_may_answer(cpu: str, name: str, gone: tuple[int, ...]) -> None:
    for machine in (None, host(name)):
        for whole in (host(name).raw, table(cpu, name)):
            part = CpuidTable(entry for entry in whole if entry.function not in gone)
            stands = {hazard.rule.id: set(hazard.subjects) for hazard in hazards.of_table(whole, machine)}
            for hazard in hazards.of_table(part, machine):
                assert set(hazard.subjects) <= stands.get(hazard.rule.id, set())


def test_a_host_that_tells_its_kvm_alone_stands_for_the_processor() -> None:
    snapshot = Snapshot(supported=supported(INTEL))
    forced = edited(table("Haswell-v2"), (7, 0, "ebx", on(29)))
    found = hazards.of_table(forced, snapshot, stack(INTEL))
    assert ("feature.no-hardware", ("sha_ni",)) in [(hazard.rule.id, hazard.subjects) for hazard in found]


def test_amds_repeats_of_leaf_1_are_no_loss_where_the_leaf_is_past_the_last() -> None:
    assert "level.too-low" not in {hazard.rule.id for hazard in of_cpu("pentium", AMD)}


SUPERVISOR = ((0xD, 1, "eax", to(0xF)), (0xD, 1, "ecx", to(0x1800)))
"""XSAVEC and XSAVES, and in IA32_XSS the states of control-flow enforcement."""
CET_U, CET_S = ((0xD, 11, "eax", to(16)), (0xD, 11, "ecx", to(1))), ((0xD, 12, "eax", to(24)), (0xD, 12, "ecx", to(1)))
PKRU = ((0xD, 0, "eax", to(0x207)), (0xD, 9, "eax", to(64)))
"""Of a size that Zen 2 tells, which has no protection keys."""
Edits = tuple[tuple[int, int, str, Callable[[int], int]], ...]


@pytest.mark.parametrize(
    ("edits", "found"),
    [
        (((0xD, 2, "eax", to(0)),), "component 2 has no size"),
        (SUPERVISOR, "component 11 has no size"),
        ((*SUPERVISOR, *CET_U), "component 12 has no size"),
        ((*SUPERVISOR, *CET_U, *CET_S), None),
        ((*SUPERVISOR, *CET_U, *CET_S, (0xD, 12, "eax", to(16))), "component 12 has 16 bytes, it takes 24"),
        (((0xD, 2, "eax", to(128)),), "component 2 has 128 bytes, it takes 256"),
        (((0xD, 2, "ebx", to(512)),), "component 2 begins at 512, the header ends at 576"),
        ((*PKRU, (0xD, 9, "ebx", to(768))), "component 9 begins at 768, component 2 ends at 832"),
        ((*PKRU, (0xD, 9, "ebx", to(832)), (0xD, 0, "ecx", to(896))), None),
    ],
)
def test_a_table_s_own_sizes_add_up(edits: Edits, found: str | None) -> None:
    """Without a host: nothing to hold the table against but itself."""
    told = {hazard.rule.id: hazard.subjects for hazard in hazards.of_table(edited(table("Haswell-v2"), *edits))}
    assert found is None or found in told["xsave.sizes"]
    assert (found is None) == ("xsave.sizes" not in told)


@pytest.mark.parametrize(
    ("edits", "found"),
    [
        (((0xD, 0, "eax", to(1)),), "component 1 not there"),
        (((0xD, 0, "eax", to(0x8001F)),), "APX's component is there and MPX's, which share their place"),
        (((0xD, 2, "eax", to(0)), (0xD, 2, "ebx", to(0))), "component 2: Linux adds up 0 bytes, CPUID tells 832 once they are on"),
        ((*SUPERVISOR[:1], (0xD, 2, "eax", to(64))), "component 2: Linux adds up 640 bytes, CPUID tells 832 once they are on"),
        (((0xD, 2, "ecx", to(1)),), "component 2: Linux adds up 0 bytes, CPUID tells 832 once they are on"),  # said to be of IA32_XSS
        (((7, 0, "ebx", off(5)), (1, 0, "ecx", off(28)), (0xD, 2, "eax", to(64))), None),  # without AVX Linux leaves its state alone
    ],
)
def test_linux_gives_up_xsave_where_the_sizes_do_not_add_up(edits: Edits, found: str | None) -> None:
    """paranoid_xstate_size_valid, arch/x86/kernel/fpu/xstate.c: KVM tells the size by the host's layout, Linux adds up the table's."""
    told = {hazard.rule.id: hazard.subjects for hazard in of_edited(*edits)}
    assert told.get("xsave.linux-off") == (None if found is None else (found,))


@pytest.mark.parametrize(
    ("cpu", "name", "machine_type", "told", "hardware", "ovmf"),
    [
        ("Haswell-v2", INTEL, "pc-q35-10.0", 40, 39, None),
        ("Haswell-v2", INTEL, "pc-q35-10.0", 38, 36, None),
        ("Haswell-v2", INTEL, "pc-q35-10.0", 39, 36, 39),
        ("Haswell-v2", INTEL, "pc-q35-11.1", 39, 36, None),  # leaf 0x80000000 names no maker since 10.1, as Intel's own does not
        ("EPYC-Milan", AMD, "pc-q35-11.1", 40, 39, 40),
        ("Haswell-v2", INTEL, "pc-q35-11.1", 42, 39, 42),
        ("Haswell-v2", INTEL, "pc-q35-11.1", 48, 46, 46),
        ("Haswell-v2", INTEL, "pc-q35-11.1", 39 << 16 | 40, 39, 39),  # KVM and QEMU tell such a limit since 2024
    ],
)
def test_ovmf_believes_no_40_bits_but_amds_and_a_limit(
    cpu: str, name: str, machine_type: str, told: int, hardware: int, ovmf: int | None
) -> None:
    """PlatformAddressWidthFromCpuid, OvmfPkg/Library/PlatformInitLib/MemDetect.c."""
    machine = dataclasses.replace(host(name), raw=edited(host(name).raw, (0x80000008, 0, "eax", to(hardware))))
    made = table(cpu, name, machine=machine_type)
    widths = edited(made, (0x80000008, 0, "eax", to(0x3000 | told)), (0x80000001, 0, "edx", on(26)))
    found = {hazard.rule.id: hazard.subjects for hazard in hazards.of_table(widths, machine, stack(name))}
    does = "goes by the guest's memory instead" if ovmf is None else f"puts its PCI window right below 2^{ovmf}"
    assert found["address.too-wide"] == (f"{told & 0xFF} bits, the host has {hardware}; OVMF {does}",)


def test_without_pages_of_1_gib_ovmf_stays_within_40_bits() -> None:
    machine = dataclasses.replace(host(INTEL), raw=edited(host(INTEL).raw, (0x80000008, 0, "eax", to(39))))
    widths = edited(table("Haswell-v2"), (0x80000008, 0, "eax", to(0x302E)), (0x80000001, 0, "edx", off(26)))
    found = {hazard.rule.id: hazard.subjects for hazard in hazards.of_table(widths, machine, stack(INTEL))}
    assert found["address.too-wide"] == ("46 bits, the host has 39; OVMF puts its PCI window right below 2^40",)


def test_the_worst_comes_first() -> None:
    order = [list(Severity).index(hazard.rule.severity) for hazard in of_cpu("host,+rtm,x-force-features=on,migratable=off")]
    assert order == sorted(order)
    assert len(set(order)) == 3


REGISTERS = st.one_of(st.integers(0, 0xFFFFFFFF), st.sampled_from([0, 1, 0xD, 0x1F, 0x80000022, 0xFFFFFFFF]))
LEAVES = st.sampled_from([0, 1, 4, 7, 0xB, 0xD, 0x12, 0x14, 0x1D, 0x1F, 0x24, 0x40000000, *range(0x80000000, 0x80000009), 0x8000001E])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.builds(Entry, LEAVES, st.integers(0, 4), st.integers(0, 1), REGISTERS, REGISTERS, REGISTERS, REGISTERS), max_size=20),
    st.sampled_from([None, INTEL, AMD]),
)
def test_any_table_is_judged(entries: list[Entry], name: str | None) -> None:
    found = hazards.of_table(CpuidTable(entries), None if name is None else host(name), Stack() if name is None else stack(name))
    assert all(hazard.subjects for hazard in found)
    assert json.loads(json.dumps([hazard.as_dict() for hazard in found])) is not None
