"""A distribution's kernel that goes by an old number and has a later release's code: whose tables stand for what, and what its code is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.captures import host
from vcpuid import Setup, Stack, kvm, linux
from vcpuid.kvm.rules import ROWS
from vcpuid.releases import KERNELS, REBUILT, UPSTREAM, code_of
from vcpuid.releases import linux as chosen

MILAN, SPR = "kvm-amd.EPYC-Milan-v2@6.12", "kvm-intel.sapphire_rapids-xfd@6.12"


@pytest.mark.parametrize("asked", ["5.14", "5.14.0", "v5.14", "5.14.0-570.32.1.el9_6.x86_64", "5.14.0-570.12.1.el9_6.x86_64"])
def test_red_hat_s_tables_stand_for_its_kernel_and_for_the_bare_number(asked: str) -> None:
    release = chosen(asked)
    assert (release.tables, release.number, release.remark) == ("5.14", (6, 12), None)


@pytest.mark.parametrize("asked", ["5.14.0-427.13.1.el9_4.x86_64", "5.14.0-620.el9.x86_64"])
def test_another_update_of_it_is_said_to_be_one(asked: str) -> None:
    release = chosen(asked)
    assert (release.tables, release.number) == ("5.14", (6, 12))
    assert release.remark is not None
    assert asked in release.remark
    assert "not known here" in release.remark


@pytest.mark.parametrize(
    ("asked", "tables"),
    [
        ("5.14.21-150500.55.19-default", "5.10"),
        ("5.14.2", "5.10"),
        ("5.13", "5.10"),
        ("5.15.0-205.149.el9uek.x86_64", "5.15"),
        ("5.15", "5.15"),
    ],
)
def test_they_stand_for_nobody_else_s(asked: str, tables: str) -> None:
    release = chosen(asked)
    assert release.tables == tables
    assert (release.remark is None) is (tables == "5.15")


def test_its_rules_are_those_of_the_code_that_it_has() -> None:
    for kernel, rebuilt in REBUILT.items():
        assert kernel in KERNELS
        assert kernel not in UPSTREAM
        assert code_of(kernel) == rebuilt.code
        assert rebuilt.code in UPSTREAM
        for rows in ROWS.values():
            assert [row.in_force(kernel) for row in rows] == [row.in_force(rebuilt.code) for row in rows]


def test_a_host_that_ran_it_is_asked_as_it_ran() -> None:
    setup = Setup.of(replace(host(MILAN), kernel="5.14.0-570.32.1.el9_6.x86_64"), Stack())
    assert setup.kernel.tables == "5.14"
    assert setup.remarks == ()


def test_what_red_hat_has_of_later_kernels_and_lacks_of_its_own() -> None:
    ours, theirs = (Setup.of(host(SPR), Stack(kernel=kernel)) for kernel in ("5.14", "6.12"))
    assert linux.boot_cpu(theirs).has("USER_SHSTK")
    assert not linux.boot_cpu(ours).has("USER_SHSTK"), "CONFIG_X86_USER_SHADOW_STACK is off"
    assert "VMSCAPE" in linux.boot_cpu(theirs).bugs
    assert "VMSCAPE" not in linux.boot_cpu(ours).bugs
    assert kvm.caps(ours).plan.places.keys() == kvm.caps(theirs).plan.places.keys()
    assert {word.name: word.known for word in kvm.caps(ours).plan.words}["CPUID_7_1_EAX"] >> 0 & 7 == 7, "SHA512, SM3, SM4"
    assert {word.name: word.known for word in kvm.caps(theirs).plan.words}["CPUID_7_1_EAX"] & 7 == 0
