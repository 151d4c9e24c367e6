"""A name of /proc/cpuinfo means what /proc/cpuinfo means: what `explain` says of it is what `linux flags --guest` lists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support import captures
from vcpuid.answers.explain import explain
from vcpuid.answers.explanation import Explanation
from vcpuid.answers.flags import flags_inside
from vcpuid.answers.shown import as_printed
from vcpuid.cpuid.names import find
from vcpuid.linux.tables import tables
from vcpuid.path.pipeline import Path, resolve
from vcpuid.releases import linux
from vcpuid.setup import Stack

INTEL, AMD = "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@6.12"
GUESTS = [
    (INTEL, "Skylake-Server-v4"),
    (INTEL, "qemu64"),
    (INTEL, "host,-xsave,-spec-ctrl"),
    (AMD, "EPYC-Milan"),
    (AMD, "EPYC-v1,-pcid"),
    ("kvm-amd.EPYC-Milan-v2@7.3", "host"),
]
SHARED = ("ibrs", "ibpb", "stibp", "ssbd", "constant_tsc", "split_lock_detect", "ept", "vpid")
"""Names that are a flag of Linux's own and a bit of hardware, in 6.12."""


def guest(machine: str, cpu: str) -> Path:
    return resolve(cpu, host=captures.host(machine), stack=Stack(kernel=captures.release(machine), qemu="11.1"))


def told(path: Path, name: str) -> Explanation:
    return explain(as_printed(name, path.setup.kernel.tables), path)


@pytest.mark.parametrize(("machine", "cpu"), GUESTS)
def test_no_name_of_cpuinfo_is_told_otherwise_than_the_guests_kernel_lists_it(machine: str, cpu: str) -> None:
    path = guest(machine, cpu)
    kernel = path.setup.kernel.tables
    listed, _ = flags_inside(path, Stack(kernel))
    open_ = {found.what for found in listed.not_told}
    for name in dict(tables(kernel).shown_features):
        found = told(path, name)
        assert found.shown is not None, name
        assert found.shown.value is (None if name in open_ else name in listed.info.flags), name
        if found.feature.bit is None:
            assert found.visible is found.shown.value, name
            assert found.shown.value is None or ("does not show" in found.verdict) is not found.shown.value, name
        elif found.visible is not found.shown.value and found.chain[:1] and not found.turned_on:
            assert "Yet the guest's /proc/cpuinfo" in found.verdict, name


def test_on_what_a_name_of_cpuinfo_hangs_is_weighed_of_a_bit_only_where_cpuinfo_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[str] = []

    def noted(*args: object) -> dict[str, object]:
        weighed.append("")
        return {}

    monkeypatch.setattr("vcpuid.answers.shown.hanging", noted)
    path = guest(INTEL, "host,-avx2,+x2apic")
    for name in ("avx2", "avx512f", "x2apic"):
        explain(find(name), path)
    assert not weighed
    explain(as_printed("ibrs", path.setup.kernel.tables), path)
    assert weighed


@pytest.mark.parametrize("name", SHARED)
def test_a_name_that_hardware_has_too_means_the_flag_and_the_bits_are_told_besides(name: str) -> None:
    found = told(guest(INTEL, "host"), name)
    assert found.feature.bit is None
    assert found.feature.cpuinfo == name
    assert found.sources
    assert find(name).bit is not None, "without a kernel the bit is meant"


@pytest.mark.parametrize("name", ["ibrs", "ibpb", "stibp", "ssbd"])
def test_what_helps_is_of_the_guests_vendor(name: str) -> None:
    intel = told(guest(INTEL, "Skylake-Server-v1"), name)
    assert intel.visible is False
    assert intel.remedy is not None
    assert not any(other in intel.remedy for other in ("+ibrs", "+ibpb", "amd-", "virt-ssbd"))
    assert "8000000" not in intel.verdict
    amd = told(guest(AMD, "EPYC-v1,-ibpb"), name)
    assert amd.visible is False
    assert "CPUID[eax=07h" not in amd.verdict
    assert amd.remedy is None or "spec-ctrl" not in amd.remedy


@pytest.mark.parametrize(("machine", "cpu", "bit"), [(INTEL, "host", "80000008.ebx.14"), (INTEL, "host", "npt"), (AMD, "host", "vmx-ept")])
def test_a_bit_of_another_vendors_processors_is_nothing_to_ask_for(machine: str, cpu: str, bit: str) -> None:
    found = explain(find(bit), guest(machine, cpu + (",-ibrs" if "80000008" in bit else "")))
    assert found.visible is False
    assert found.remedy is None
    assert found.verdict.endswith("does not need it.")


def test_the_flag_is_shown_through_the_other_vendors_name() -> None:
    found = told(guest(INTEL, "Skylake-Server-v4"), "ibrs")
    assert found.visible is True
    assert found.verdict.startswith("The guest's /proc/cpuinfo shows ibrs: its Linux makes it of spec-ctrl")
    assert [(part.feature.qemu, part.visible) for part in found.sources] == [("spec-ctrl", True), ("ibrs", False)]


def test_a_hidden_bit_is_summed_up_only_where_it_is_set() -> None:
    assert "shows ibrs and ibpb" in (explain(find("spec-ctrl"), guest(INTEL, "Skylake-Server-v4")).hidden or "")
    assert "ibrs" not in (explain(find("spec-ctrl"), guest(INTEL, "Skylake-Server-v1")).hidden or "")


def test_what_the_guests_kernel_turns_on_is_not_lost() -> None:
    path = guest(INTEL, "host")
    assert explain(find("osxsave"), path).answered
    assert "nothing is lost" in explain(find("osxsave"), path).verdict
    assert not explain(find("osxsave"), guest(INTEL, "host,-xsave")).answered


def test_a_vulnerability_is_told_as_both_kernels_report_it() -> None:
    found = explain(find("spec_store_bypass"), guest(INTEL, "Skylake-Server-v1"))
    assert found.sysfs is not None
    assert found.sysfs.guest is not None
    assert (found.sysfs.guest.text, found.sysfs.guest.needs) == ("Vulnerable", ("ssbd",))
    assert found.remedy == "name it with +ssbd, or take -cpu host"
    assert not found.answered
    assert explain(find("spectre_v2"), guest(INTEL, "Skylake-Server-v4")).answered


def test_a_flag_is_that_of_the_guests_own_kernel() -> None:
    path = guest(INTEL, "Skylake-Server-v4")
    old = replace(path, guest_kernel=linux("5.10"))
    for name in tables("5.10").features:
        feature = find(f"X86_FEATURE_{name}")
        found = explain(feature, old)
        assert found.shown is None or found.shown.kernel == "5.10"
    listed, _ = flags_inside(path, Stack("5.10"))
    both = {name: explain(as_printed(name, "5.10"), old).shown for name, _ in tables("5.10").shown_features}
    assert {name for name, shown in both.items() if shown is not None and shown.value} == set(listed.info.flags)


@pytest.mark.parametrize("lines", [{}, None], ids=["without /proc/cpuinfo", "with it"])
def test_a_flag_that_stands_for_vmx_is_not_taken_for_amd_s_bit(lines: dict[str, str] | None) -> None:
    host = captures.host(INTEL)
    path = resolve("host", host=host if lines is None else replace(host, cpuinfo=lines))
    found = explain(find("vnmi"), path)
    assert {stage.party: stage.value for stage in found.stages[:3]} == {"silicon": False, "linux": None, "kvm": False}
    assert found.verdict.startswith("The guest does not see vnmi: the host's CPU does not have it and nothing emulates it. Only AMD's")
    assert found.verdict.endswith("Yet the guest's /proc/cpuinfo shows it (the VMX capability MSRs report it).")
    assert [reason.party for reason in found.chain] == ["silicon"]
