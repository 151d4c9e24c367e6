"""Kernels that were booted with other options, parameters and processors: every flag that they hold, and what their KVM says.

A file of captures/booted has the lines of a snapshot and a few more, as oracle/boot_capture.sh printed them: CMDLINE and PARAM are what the
kernel and its modules were given, BOOT is boot_cpu_data, which has the flags that /proc/cpuinfo hides, and RDMSR what RDMSR reads. Where
the emulated processor has no SVM, there is no KVM and no SUP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import pytest

from support import captures
from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, MsrTable, Snapshot
from vcpuid.formats.lines import parse_snapshot
from vcpuid.kvm.feature_msrs import feature_msrs
from vcpuid.linux import BootCpu, boot_cpu, cpuinfo
from vcpuid.reasons import Decision, replay
from vcpuid.setup import Setup, Stack

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")  # options that change nothing are among what was booted

NAMES = captures.names("booted")

UNWRITTEN = {"msr.33": "absent", "msr.4e": "absent", "msr.c00102f0": "absent"}
"""MSRs that the emulator reads as 0 and that stay 0: Linux writes them and takes a value that does not stay for one it cannot have."""


class Booted(NamedTuple):
    """A capture: the snapshot, what the kernel (`linux`) and with it KVM's modules (`kvm`) were given, and boot_cpu_data in words."""

    host: Snapshot
    linux: dict[str, str | int]
    kvm: dict[str, str | int]
    data: list[int]


@cache
def read(name: str) -> Booted:
    linux: dict[str, str | int] = {"cmdline": ""}
    modules: dict[str, str | int] = {}
    data: list[int] = []
    rest = []
    for line in captures.lines(name, "booted"):
        kind, _, text = line.partition(" ")
        if kind == "CMDLINE":
            linux["cmdline"] = text
        elif kind == "PARAM":
            parameter, _, value = text.partition("=")
            modules[parameter] = value
        elif kind == "RDMSR":
            index, value = text.split()
            linux[f"msr.{index}"] = value if value == "absent" else int(value, 16)
        elif kind == "BOOT":
            data = [int(word, 16) for word in text.split()]
        else:
            rest.append(line)
    linux |= UNWRITTEN
    return Booted(parse_snapshot(rest, name), linux, linux | modules, data)


def origin(name: str) -> dict[str, str | None]:
    host = read(name).host
    return {"kernel": host.kernel, "qemu": None, "vendor": host.vendor}


def held(booted: Booted, cpu: BootCpu) -> list[int]:
    """x86_capability of boot_cpu_data: the words before the vendor's name, which begins at a multiple of eight bytes."""
    count = len(cpu.tables.words)
    ebx, ecx, edx = booted.host.raw.registers(0)[1:]
    vendor = next(at for at in range(len(booted.data)) if booted.data[at : at + 3] == [ebx, edx, ecx])
    start = vendor - (count + count % 2)
    return booted.data[start : start + count]


def lines(table: CpuidTable | None) -> list[str]:
    assert table is not None
    return [str(entry) for entry in table]


WITH_KVM = [name for name in NAMES if read(name).host.supported is not None]


@pytest.mark.conformance("boot_cpu_data", origin)
@pytest.mark.parametrize("name", NAMES)
def test_the_kernel_holds_every_flag_as_we_say(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    booted = read(name)
    cpu = boot_cpu(booted.host, booted.host.kernel, booted.linux)
    names = {place: flag for table in (cpu.tables.features, cpu.tables.bugs) for flag, place in table.items()}
    differing = {
        names.get((word, 1 << bit), f"{cpu.tables.words[word]} {bit}")
        for word, (ours, theirs) in enumerate(zip(cpu.caps, held(booted, cpu), strict=True))
        for bit in range(32)
        if (ours ^ theirs) >> bit & 1
    }
    assert not differing
    before = {word: value for word, value in booted.host.raw.words().items() if word in cpu.words()}
    replayed = replay(before, cpu.decisions)
    assert {word: value for word, value in replayed.items() if value} == {word: value for word, value in cpu.words().items() if value}
    fired(f"booted/{name}", cpu.decisions)


@pytest.mark.conformance("/proc/cpuinfo", origin)
@pytest.mark.parametrize("name", NAMES)
def test_cpuinfo_is_what_the_kernel_printed(name: str) -> None:
    booted = read(name)
    found = cpuinfo(booted.host, booted.host.kernel, booted.linux)
    for line in ("flags", "bugs"):
        assert list(getattr(found, line)) == booted.host.cpuinfo.get(line, "").split()


@pytest.mark.conformance("KVM supported", origin)
@pytest.mark.parametrize("name", WITH_KVM)
def test_supported_is_what_the_kernel_answered(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    booted = read(name)
    result = kvm.supported(booted.host, booted.host.kernel, booted.kvm)
    assert lines(result.table) == lines(booted.host.supported)
    fired(f"booted/{name}", result.decisions)


@pytest.mark.conformance("KVM emulated", origin)
@pytest.mark.parametrize("name", WITH_KVM)
def test_emulated_is_what_the_kernel_answered(name: str) -> None:
    booted = read(name)
    assert lines(kvm.emulated(booted.host, booted.host.kernel, booted.kvm).table) == lines(booted.host.emulated)


@pytest.mark.conformance("KVM Hyper-V", origin)
@pytest.mark.parametrize("name", WITH_KVM)
def test_hyperv_is_what_the_kernel_answered(name: str) -> None:
    booted = read(name)
    assert lines(kvm.hyperv_supported(booted.host, booted.host.kernel, booted.kvm).table) == lines(booted.host.hyperv)


@pytest.mark.conformance("KVM feature MSRs", origin)
@pytest.mark.parametrize("name", WITH_KVM)
def test_feature_msrs_are_what_the_kernel_answered(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    booted = read(name)
    stack = Stack(kernel=booted.host.kernel, params=booted.kvm)
    found = feature_msrs(Setup.of(replace(booted.host, msrs=MsrTable()), stack))
    assert found.table == booted.host.msrs
    fired(f"booted/{name}", found.decisions)


def test_there_are_captures_of_all_three_kinds_of_vendors() -> None:
    assert {read(name).host.vendor for name in NAMES} >= {"AuthenticAMD", "GenuineIntel", "CentaurHauls", "  Shanghai  "}
    assert WITH_KVM
