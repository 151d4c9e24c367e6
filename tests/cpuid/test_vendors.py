"""Names in CPUID, and the numbers in leaf 1."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.cpuid import Entry, Registers, hypervisor_name, vendor_name, vendors
from vcpuid.cpuid.text import characters, registers_of, up_to_zero

WORD = st.integers(0, 0xFFFFFFFF)


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (0xC06F2, (6, 0xCF, 2)),
        (0xA20F12, (0x19, 0x21, 2)),
        (0xF4A, (15, 4, 10)),
        (0x673, (6, 7, 3)),
        (0x543, (5, 4, 3)),
        (0x10543, (5, 4, 3)),
        (0x100643, (6, 4, 3)),
        (0x1300F10, (0x22, 1, 0)),
    ],
)
def test_family_model_and_stepping(signature: int, told: tuple[int, int, int]) -> None:
    assert vendors.signature(signature) == told


@given(st.lists(WORD, max_size=12))
def test_text_and_registers_are_each_others_inverse(registers: list[int]) -> None:
    assert registers_of(characters(*registers)) == tuple(registers)


def test_text_of_registers() -> None:
    assert characters(0x756E6547, 0x49656E69) == "GenuineI"
    assert up_to_zero(0x00434241, 0x44444444) == "ABC"
    assert registers_of("ABCDE") == (0x44434241, 0x45)


def test_vendors_are_spelled_ebx_edx_ecx_and_hypervisors_ebx_ecx_edx() -> None:
    assert vendor_name(Registers(0x16, 0x756E6547, 0x6C65746E, 0x49656E69)) == vendors.INTEL
    assert hypervisor_name(Entry(0x40000000, 0, 0, 0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D)) == vendors.KVM


@pytest.mark.parametrize("name", [*vendors.KINDS, *vendors.HYPERVISORS])
def test_every_name_fits_twelve_characters_and_comes_back(name: str) -> None:
    first, second, third = vendors.twelve(name)
    assert vendor_name(Registers(0, first, third, second)) == name
    assert hypervisor_name(Registers(0, first, second, third)) == name


def test_linux_knows_no_vendor_by_another_name() -> None:
    assert vendors.linux_kind(vendors.HYGON) == "hygon"
    assert vendors.linux_kind(vendors.OLD_AMD) == vendors.linux_kind("") == vendors.UNKNOWN
    assert vendors.KINDS[vendors.OLD_AMD] == "amd"
