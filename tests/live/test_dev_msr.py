"""The hardware's MSRs, read from the kernel's device as root may; played here, since few machines that run tests let anybody read them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from vcpuid.cpuid import vendors
from vcpuid.cpuid.hardware_msrs import COMMON, KEPT, OF_AMD, OF_INTEL
from vcpuid.errors import UnavailableError
from vcpuid.kvm import feature_msrs
from vcpuid.linux import machine
from vcpuid.live import dev_msr, observe
from vcpuid.live.dev_msr import read_msrs

VALUES = {0x8B: 0x5003604 << 32, 0x10A: 0xAB, 0x1A0: 1}


def played(monkeypatch: pytest.MonkeyPatch, read: Callable[[int, int, int], bytes], open_: int | None = None) -> list[str]:
    """Let the device answer as `read` does, or fail to open with an errno; returns the paths that were opened."""
    opened: list[str] = []

    def opening(path: str, flags: int) -> int:
        opened.append(path)
        if open_ is not None:
            raise OSError(open_, os.strerror(open_))
        return os.dup(0)

    monkeypatch.setattr(dev_msr.os, "open", opening)
    monkeypatch.setattr(dev_msr.os, "pread", read)
    return opened


def hardware(descriptor: int, count: int, index: int) -> bytes:
    if index not in VALUES:
        raise OSError(errno.EIO, "Input/output error")
    return VALUES[index].to_bytes(8, "little")


def test_what_raises_gp_is_told_apart_from_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert played(monkeypatch, hardware) == []
    found = read_msrs(3, vendors.INTEL)
    assert dict(found) == VALUES
    assert {*found.refused, *found} == {*COMMON, *OF_INTEL}
    assert {*read_msrs(0, vendors.AMD).refused, 0x8B} == {*COMMON, *OF_AMD}
    assert dict(read_msrs(0, "CentaurHauls")) == {0x8B: VALUES[0x8B]}


def test_the_cpu_is_the_one_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = played(monkeypatch, hardware)
    read_msrs(3, vendors.INTEL)
    assert opened == ["/dev/cpu/3/msr"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (errno.ENOENT, "load the kernel module msr (modprobe msr)"),
        (errno.EACCES, "root may read it"),
        (errno.EPERM, "root may read it, unless the kernel is locked down or a container keeps CAP_SYS_RAWIO from it"),
        (errno.ENXIO, "this CPU is offline, or has no MSRs"),
    ],
)
def test_what_is_not_to_be_had_is_said_with_the_reason(monkeypatch: pytest.MonkeyPatch, error: int, why: str) -> None:
    played(monkeypatch, hardware, error)
    with pytest.raises(UnavailableError) as lack:
        read_msrs(0, vendors.INTEL)
    assert str(lack.value) == f"/dev/cpu/0/msr: {os.strerror(error)}: {why}"


def test_a_device_that_stops_answering_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(descriptor: int, count: int, index: int) -> bytes:
        raise OSError(errno.EPERM, "Operation not permitted")

    for read, said in ((forbidden, "Operation not permitted"), (lambda *_: b"", "less than eight bytes")):
        played(monkeypatch, read)
        with pytest.raises(UnavailableError, match=said):
            read_msrs(0, vendors.INTEL)


def test_a_snapshot_keeps_them_apart_from_kvms_or_notes_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    played(monkeypatch, hardware)
    assert dict(observe._hardware_msrs(0, vendors.INTEL, notes)) == VALUES
    assert notes == []
    played(monkeypatch, hardware, errno.ENOENT)
    assert not observe._hardware_msrs(0, vendors.INTEL, notes)
    assert notes == ["nothing of the hardware's MSRs: /dev/cpu/0/msr: No such file or directory: load the kernel module msr (modprobe msr)"]


def test_what_the_rules_ask_for_is_read() -> None:
    """All but PRED_CMD, which can only be written."""
    asked = {*machine.TYPICAL, machine.PLATFORM_ID, machine.MCU_OPT_CTRL, machine.RMP_END, *range(0x480, 0x493)}
    asked |= {*feature_msrs.VMX, feature_msrs.PERF_CAPABILITIES, feature_msrs.DE_CFG}
    assert asked - {machine.PRED_CMD} == KEPT
