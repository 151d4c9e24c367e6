"""The psABI's levels: against known processors, against glibc's own rule, and as laws."""

from __future__ import annotations

import pytest

from support.captures import host
from vcpuid.cpuid import CpuidTable, CpuidWord
from vcpuid.path.pipeline import guest_view, resolve
from vcpuid.software import software_cpu
from vcpuid.software.glibc import glibc
from vcpuid.software.psabi import features, level, levels


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("kvm-intel.core2_penryn_t9600@6.12", 1),
        ("kvm-intel.corei5_arrandale_m520@6.12", 2),
        ("kvm-intel.corei7_ivy_bridge_3770k@6.12", 2),
        ("kvm-intel.corei7_haswell_4770-rnd00@6.12", 3),
        ("kvm-intel.corei7_skylake_x@6.12", 4),
        ("kvm-intel.arrow_lake@6.12", 3),
        ("kvm-amd.EPYC-Genoa-v1@6.12", 3),  # the emulator that played it has no AVX-512
    ],
)
def test_processors_and_their_levels(name: str, reached: int) -> None:
    assert level(software_cpu(host(name).raw)) == reached


def clear(table: CpuidTable, word: CpuidWord, mask: int) -> CpuidTable:
    return CpuidTable(
        entry._replace(**{word.register: getattr(entry, word.register) & ~mask}) if entry[:2] == word[:2] else entry for entry in table
    )


BITS = [(name, number, one) for number, (_, members) in enumerate(features().items()) for one in members for name in [one.name]]


@pytest.mark.parametrize(("name", "number", "one"), BITS, ids=[name for name, _, _ in BITS])
def test_each_bit_holds_its_level_back_and_is_named(name: str, number: int, one) -> None:  # type: ignore[no-untyped-def]
    table = host("kvm-intel.corei7_skylake_x@6.12").raw
    if name == "OSXSAVE":  # the operating system's own
        table = clear(table, CpuidWord(1, 0, "ecx"), 1 << 26)
    found = levels(software_cpu(clear(table, one.bit.word, one.bit.mask)))
    assert not found[number].reached
    assert name in found[number].missing
    assert all(not above.reached for above in found[number:])


def test_a_system_that_enables_no_avx_state_holds_v3_back() -> None:
    v3 = levels(software_cpu(host("kvm-intel.corei7_skylake_x@6.12").raw, xcr0=3))[2]
    assert not v3.reached
    assert not v3.missing
    assert v3.disabled == ("AVX", "AVX2", "F16C", "FMA")


@pytest.mark.parametrize("xcr0", [None, 0, 3, 7])
def test_glibc_has_the_same_level(xcr0: int | None) -> None:
    for name in (
        "kvm-intel.corei7_skylake_x@6.12",
        "kvm-intel.core2_penryn_t9600@6.12",
        "kvm-amd.EPYC-Milan-v2@6.12",
        "kvm-intel.tigerlake-rnd03@6.12",
    ):
        cpu = software_cpu(host(name).raw, xcr0=xcr0)
        assert glibc(cpu).isa == level(cpu)


MODELS = [("qemu64", 1), ("Nehalem", 2), ("Haswell-noTSX", 3), ("Skylake-Server-noTSX-IBRS", 4), ("qemu64,vendor=Strange12345", 1)]


@pytest.mark.parametrize(("cpu", "reached"), MODELS)
def test_models_of_qemu(cpu: str, reached: int) -> None:
    path = resolve(cpu, host=host("kvm-intel.corei7_skylake_x@6.12"))
    assert level(software_cpu(guest_view(path))) == reached
