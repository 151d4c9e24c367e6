"""The filter stops the calls that are wanted, by the 64-bit way alone, and lets all others pass."""

from __future__ import annotations

import struct

import pytest

from vcpuid.live import kvm_talk, seccomp
from vcpuid.live.ptrace import X86_64

I386, X32 = 0x40000003, 1 << 30
ALLOW, TRACE = 0x7FFF0000, 0x7FF00000
IOCTL, SET_CPUID2 = kvm_talk.IOCTL, 0x4008AE90


def ends(code: bytes, number: int, arch: int, *arguments: int) -> int:
    """Run the program as the kernel does, on a call; all of its ends are looked at, for it has no loop."""
    data = struct.pack("<iIQ6Q", number, arch, 0, *(arguments + (0,) * 6)[:6])
    at = loaded = 0
    while True:
        operation, true, false, operand = struct.unpack_from("<HBBI", code, 8 * at)
        at += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("<I", data, operand)
        elif operation == 0x15:
            at += true if loaded == operand else false
        else:
            assert operation == 0x06
            return int(operand)


CODE = seccomp.program(kvm_talk.WANTED)


@pytest.mark.parametrize("request_", kvm_talk.IOCTLS)
def test_every_ioctl_about_cpuid_stops_whatever_the_upper_half_of_its_number_holds(request_: int) -> None:
    assert ends(CODE, IOCTL, X86_64, 3, request_) == TRACE
    assert ends(CODE, IOCTL, X86_64, 3, request_ | 0xDBD7DBD7 << 32) == TRACE


@pytest.mark.parametrize("permission", kvm_talk.PERMISSIONS)
def test_permissions_to_use_tiles_stop(permission: int) -> None:
    assert ends(CODE, kvm_talk.ARCH_PRCTL, X86_64, permission) == TRACE


def test_all_else_passes() -> None:
    assert ends(CODE, IOCTL, X86_64, 3, 0xAE80) == ALLOW  # KVM_RUN
    assert ends(CODE, IOCTL, X86_64, SET_CPUID2, 0) == ALLOW
    assert ends(CODE, kvm_talk.ARCH_PRCTL, X86_64, 0x1002) == ALLOW  # ARCH_SET_FS
    assert {ends(CODE, number, X86_64, 3, SET_CPUID2) for number in range(512) if number not in (IOCTL, kvm_talk.ARCH_PRCTL)} == {ALLOW}


def test_the_ways_of_32_bit_programs_and_of_x32_pass() -> None:
    assert ends(CODE, 54, I386, 3, SET_CPUID2) == ALLOW
    assert ends(CODE, IOCTL, I386, 3, SET_CPUID2) == ALLOW
    assert ends(CODE, IOCTL | X32, X86_64, 3, SET_CPUID2) == ALLOW
    assert ends(CODE, 514 | X32, X86_64, 3, SET_CPUID2) == ALLOW


def test_more_values_than_a_jump_can_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="more than"):
        seccomp.program({16: (1, range(1000))})
