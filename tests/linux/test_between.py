"""What Linux changed between 6.1 and 7.1 in how it identifies processors, release by release, as its sources have it.

Where a row is not of one piece, older tables are of a stable update that took the change over, and those between of an earlier day.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support.captures import host
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.linux import boot_cpu
from vcpuid.linux.arch_cap import ArchCap

ALL = "6.1 6.6 6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"
SINCE_6_16 = "6.16 6.17 6.18 6.19 7.0 7.1"
SKYLAKE, SAPPHIRE, TURIN = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-dmr@7.3", "kvm-amd.EPYC-Turin-v1@7.3"


def where(holds: Callable[[str], bool]) -> str:
    """Name the kernels of which something holds."""
    return " ".join(kernel for kernel in ALL.split() if holds(kernel))


def changed(name: str, model: int | None = None, **masks: tuple[int, int]) -> Snapshot:
    """A captured machine of another signature, with bits set and cleared: r7_0_ebx=(set, cleared)."""
    machine = host(name)
    entries = {entry[:2]: entry for entry in machine.raw}
    if model is not None:
        entries[1, 0] = entries[1, 0]._replace(eax=model)
    for place, (on, off) in masks.items():
        function, index, register = place[1:].split("_")
        key = (int(function, 16), int(index, 16))
        entry = entries.get(key, Entry(*key, 0, 0, 0, 0, 0))
        entries[key] = entry._replace(**{register: getattr(entry, register) & ~off | on})
    return replace(machine, raw=CpuidTable(entries.values()), cpuinfo={}, msrs=machine.msrs.__class__({}))


ZEN1, ZEN3, ZEN5, ALDER_LAKE, LUNAR_LAKE = 0x00800F12, 0x00A20F10, 0x00B60F00, 0x00090672, 0x000B06D0
CYAN_SKILLFISH = 0x00840F70
"""EAX of leaf 1."""
BARE = (0, 1 << 31)
"""What of leaf 1's ECX a processor has that no hypervisor shows."""


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
@pytest.mark.parametrize(
    ("machine", "feature", "params", "kernels"),
    [
        (changed(SKYLAKE, r80000007_0_edx=(0, 1 << 8)), "CONSTANT_TSC", {}, "6.1 6.6 6.8 6.12 6.14"),
        (changed(SKYLAKE), "PREFER_YMM", {}, SINCE_6_16),
        (changed(SKYLAKE), "SYSENTER32", {}, "6.1 6.6 6.8 6.12 6.14 6.16 6.17 6.18 6.19"),
        (changed(SKYLAKE), "SYSFAST32", {}, "7.0 7.1"),
        (changed(SAPPHIRE, r7_0_ecx=(1 << 7, 0)), "USER_SHSTK", {}, "6.6 6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (changed(SAPPHIRE, r7_1_eax=(1 << 6, 0)), "LASS", {}, "7.1"),
        (changed(SAPPHIRE, r7_1_eax=(1 << 17, 0)), "FRED", {}, "7.1"),
        (changed(SKYLAKE), "PTI", {"cmdline": "mitigations=off pti=on"}, "6.1 6.6 6.17 6.18 6.19 7.0 7.1"),
        (changed(TURIN, ZEN1, r1_0_ecx=BARE, r80000008_0_ebx=(2, 0)), "IRPERF", {}, "6.1 6.8 6.14"),
        (changed(TURIN, ZEN3, r1_0_ecx=BARE, r80000008_0_ebx=(0, 1 << 29)), "BTC_NO", {}, ALL),
        (changed(TURIN, CYAN_SKILLFISH, r1_0_ecx=BARE, r7_0_ebx=(1 << 18, 0)), "RDSEED", {}, "6.1 6.8 6.14"),
        (changed(TURIN, ZEN1, r7_0_edx=(1 << 4, 0)), "FSRS", {}, ALL.removeprefix("6.1 ")),
        (changed(TURIN), "SVM", {"msr.c0010114": 1 << 4}, "6.1 6.6"),
        (changed(TURIN, ZEN5), "ZEN5", {}, "6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
    ],
)
def test_a_feature_that_linux_finds(machine: Snapshot, feature: str, params: dict[str, int | str], kernels: str) -> None:
    assert where(lambda kernel: boot_cpu(machine, kernel, params).has(feature)) == kernels


@pytest.mark.parametrize(
    ("machine", "bug", "params", "kernels"),
    [
        (changed(SAPPHIRE, r7_0_edx=(1 << 29, 0)), "BHI", {"msr.10a": ArchCap.BHI_NO | ArchCap.IBRS_ALL}, f"6.1 6.6 6.12 {SINCE_6_16}"),
        (changed(SKYLAKE), "SPECTRE_V2_USER", {}, SINCE_6_16),
        (changed(SKYLAKE, r1_0_ecx=BARE), "VMSCAPE", {}, f"6.1 6.6 6.12 {SINCE_6_16}"),
        (changed(TURIN, ZEN3, r1_0_ecx=BARE), "TSA", {}, f"6.1 6.6 6.12 {SINCE_6_16}"),
        (changed(SKYLAKE, LUNAR_LAKE, r1_0_ecx=(1 << 3, 0)), "MONITOR", {}, ALL.removeprefix("6.1 ").replace("6.8 ", "")),
    ],
)  # fmt: skip
def test_a_bug_that_linux_knows(machine: Snapshot, bug: str, params: dict[str, int | str], kernels: str) -> None:
    assert where(lambda kernel: bug in boot_cpu(machine, kernel, params).bugs) == kernels


def test_6_8_trusts_no_microcode_with_pcid() -> None:
    machine = changed(SKYLAKE, ALDER_LAKE, r1_0_ecx=(1 << 17, 1 << 31))
    assert where(lambda kernel: boot_cpu(machine, kernel, {"msr.8b": 0x7FFF << 32}).has("PCID")) == ALL.replace("6.8 ", "")
