"""KVM's feature MSRs, worked out of the hardware's: against what real kernels answered, and by hand where none was captured."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from support.bochs import environment
from support.captures import MACHINES, host, origin, release
from vcpuid.cpuid import CpuidTable, MsrTable, MsrWord, Snapshot
from vcpuid.kvm import caps
from vcpuid.kvm.answers import kvm_says
from vcpuid.kvm.feature_msrs import VMX, FeatureMsrs, feature_msrs
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.reasons import Decision, replay
from vcpuid.setup import Setup, Stack

SKYLAKE, SAPPHIRE, MILAN = "kvm-intel.corei7_skylake_x@{}", "kvm-intel.sapphire_rapids-xfd@{}", "kvm-amd.EPYC-Milan-v2@{}"
CAPABILITIES = {7: 1 << 29}
"""IA32_ARCH_CAPABILITIES in leaf 7, for `modelled`."""
UCODE, ARCH, PERF, PLATFORM, DE_CFG = 0x8B, 0x10A, 0x345, 0xCE, 0xC0011029


def without_msrs(machine: Snapshot) -> Snapshot:
    return replace(machine, msrs=MsrTable())


@pytest.mark.conformance("KVM feature MSRs", origin)
@pytest.mark.parametrize("name", MACHINES)
def test_they_are_what_the_kernel_answered(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    captured = host(name)
    params = environment(name, captured) | {f"msr.{UCODE:x}": captured.msrs[UCODE]}
    if captured.vendor == "GenuineIntel":  # whether perf has counters is told by no MSR; Bochs has neither branch records nor PEBS
        params |= {"pmu": captured.msrs[PERF] >> 13 & 1, f"msr.{PERF:x}": 0}
    found = feature_msrs(Setup.of(without_msrs(captured), Stack(kernel=release(name), params=params)))
    assert found.offered == captured.msrs.keys()
    assert {index: found.table[index] for index in found.table if index not in VMX} == {
        index: value for index, value in captured.msrs.items() if index not in VMX
    }
    assert replay(found.before, found.decisions) == {MsrWord(index): found.table[index] for index in found.modelled}
    fired(f"kvm/{name}", found.decisions)


def modelled(name: str, bits: dict[int, int] | None = None, kernel: str = "7.3", **params: str | int) -> FeatureMsrs:
    """The feature MSRs of a captured processor on which nobody asked KVM; `bits` are set in leaf 1's ECX or leaf 7's EDX besides."""
    register = {1: "ecx", 7: "edx"}
    raw = CpuidTable(
        e._replace(**{register[e.function]: getattr(e, register[e.function]) | (bits or {}).get(e.function, 0)})
        if e.function in register and not e.index
        else e
        for e in host(name.format(kernel)).raw
    )
    given = {key.replace("_", ".", 1) if key.startswith("msr") else key: value for key, value in params.items()}
    return feature_msrs(Setup.of(Snapshot(raw=raw), Stack(kernel=kernel, params=given)))


def arch(name: str, bits: dict[int, int] | None = None, kernel: str = "7.3", **params: str | int) -> int:
    return modelled(name, bits, kernel, **params).table[ARCH]


def rules(found: FeatureMsrs, index: int, mask: int) -> list[str]:
    return [decision.rule.id for decision in found.decisions if decision.word == MsrWord(index) and decision.mask & mask]


def test_what_the_snapshot_tells_comes_first() -> None:
    name = SAPPHIRE.format("7.3")
    found = feature_msrs(Setup.of(host(name), Stack(kernel="7.3", params={"msr.10a": 0})))
    assert found.table is host(name).msrs
    assert not found.modelled
    assert found.untold == ()


def test_of_a_dump_those_are_known_that_do_not_hang_on_the_hardwares() -> None:
    found = modelled(MILAN)
    assert dict(found.table) == {ARCH: host(MILAN.format("7.3")).msrs[ARCH], PERF: 0, PLATFORM: 1 << 31, DE_CFG: 2}
    assert found.untold == (UCODE,)
    intel = modelled(SAPPHIRE)
    assert {ARCH, PERF, UCODE} <= set(intel.untold)
    assert ARCH not in kvm_says(Setup.of(Snapshot(raw=host(SAPPHIRE.format("7.3")).raw))).msrs
    assert modelled(SKYLAKE).table[ARCH]  # no such MSR in this processor: KVM's hangs on Linux alone


def test_a_hardware_msr_may_be_given() -> None:
    assert modelled(MILAN, msr_8b=0xA001173).table[UCODE] == 0xA001173
    given = modelled(SKYLAKE, msr_480=5)
    assert given.table[0x480] == 5
    assert modelled(SKYLAKE, msr_480=5, **{"kvm_intel.nested": 0}).table.get(0x480) is None


def test_the_hardwares_of_a_snapshot_count_and_so_does_the_microcode_of_proc_cpuinfo() -> None:
    raw = host(SAPPHIRE.format("7.3")).raw
    hardware = Snapshot(raw=raw, hardware_msrs=MsrTable({ARCH: 0x2B, UCODE: 0x2B000603 << 32}, [0x33]))
    assert feature_msrs(Setup.of(hardware, Stack(kernel="7.3"))).table[UCODE] == 0x2B000603 << 32
    assert ARCH not in feature_msrs(Setup.of(hardware, Stack(kernel="7.3"))).untold
    vmx = Snapshot(raw=raw, hardware_msrs=MsrTable({0x48B: 1 << 33}))
    assert 0x48B in feature_msrs(Setup.of(vmx, Stack(kernel="7.3"))).untold  # what KVM makes of it for guests that nest is not known
    printed = Snapshot(raw=raw, cpuinfo={"microcode": "0x2b000603"})
    assert feature_msrs(Setup.of(printed, Stack(kernel="7.3"))).table[UCODE] == 0x2B000603 << 32
    milan = Snapshot(raw=host(MILAN.format("7.3")).raw, cpuinfo={"microcode": "0xa001173"})
    assert feature_msrs(Setup.of(milan, Stack(kernel="7.3"))).table[UCODE] == 0xA001173


@pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
def test_the_hardwares_controls_of_vmx_decide_what_kvm_can_do() -> None:
    raw = CpuidTable(e._replace(ebx=e.ebx | 1 << 10) if e[:2] == (7, 0) else e for e in host(SKYLAKE.format("7.3")).raw)
    lacking = Snapshot(raw=raw, hardware_msrs=MsrTable({0x48B: 1 << 33 | 1 << 35}))
    assert caps(Snapshot(raw=raw), "7.3").has("INVPCID")
    assert not caps(lacking, "7.3").has("INVPCID")
    assert caps(lacking, "7.3").has("RDTSCP")
    assert caps(lacking, "7.3", {"msr.48b": 1 << 44}).has("INVPCID")


def test_what_announces_msrs_that_kvm_does_not_virtualize_goes() -> None:
    found = modelled(SAPPHIRE, msr_10a=ArchCap.GDS_CTRL | 1 << 10 | ArchCap.PBRSB_NO)
    assert found.table[ARCH] & (ArchCap.GDS_CTRL | 1 << 10 | ArchCap.PBRSB_NO) == ArchCap.PBRSB_NO
    assert rules(found, ARCH, 1 << 10) == ["kvm.arch-cap.not-listed"]


def test_taa_no_is_for_guests_with_rtm() -> None:
    rtm = Snapshot(
        raw=CpuidTable(
            e._replace(ebx=e.ebx | 1 << 11, edx=e.edx | 1 << 29) if e[:2] == (7, 0) else e for e in host(SKYLAKE.format("7.3")).raw
        )
    )
    harmless = ArchCap.TAA_NO | ArchCap.TSX_CTRL
    for line, value, kept in (
        ("tsx=off", harmless, False), ("tsx=on", harmless, True), ("", harmless, True), ("tsx=on", ArchCap.TSX_CTRL, False), ("", 0, False),
    ):  # fmt: skip
        found = feature_msrs(Setup.of(rtm, Stack(kernel="7.3", params={"cmdline": line, "msr.10a": value})))
        assert bool(found.table[ARCH] & ArchCap.TAA_NO) is kept, (line, value)
    gone = feature_msrs(Setup.of(rtm, Stack(kernel="7.3", params={"cmdline": "tsx=off", "msr.10a": harmless})))
    assert rules(gone, ARCH, ArchCap.TAA_NO) == ["kvm.arch-cap.taa-without-rtm"]
    assert gone.table[ARCH] & ArchCap.TSX_CTRL


@pytest.mark.parametrize(
    ("kernel", "line", "told"),
    [
        ("7.3", "", True),
        ("7.3", "mitigations=off", False),
        ("7.3", "l1tf=off", False),
        ("7.3", "mitigations=off l1tf=flush", True),
        ("6.12", "mitigations=off l1tf=flush", False),
        ("6.12", "l1tf=full", True),
        ("7.3", "mitigations=off kvm_intel.vmentry_l1d_flush=always", True),
        ("7.3", "kvm_intel.vmentry_l1d_flush=never", False),
        ("7.3", "kvm_intel.vmentry_l1d_flush=never l1tf=full,force", True),
    ],
)
def test_nested_hypervisors_need_not_flush_where_the_host_does(kernel: str, line: str, told: bool) -> None:
    assert bool(arch(SKYLAKE, None, kernel, cmdline=line) & ArchCap.SKIP_L1D_FLUSH) is told


def test_without_ept_nobody_need_flush_but_linux_6_1_looks_too_early() -> None:
    def told(kernel: str, **params: int) -> bool:
        penryn = without_msrs(host(f"kvm-intel.core2_penryn_t9600@{kernel}"))  # /proc/cpuinfo shows that it has no EPT
        found = feature_msrs(Setup.of(penryn, Stack(kernel=kernel, params={"cmdline": "mitigations=off", **params})))
        return bool(found.table[ARCH] & ArchCap.SKIP_L1D_FLUSH)

    assert told("6.12")
    assert not told("6.1")
    assert told("6.1", ept=0)


def test_how_the_host_flushed_may_be_told_by_its_module() -> None:
    ran = {"kvm_intel.vmentry_l1d_flush": "never"}
    bare = Snapshot(raw=host(SKYLAKE.format("7.3")).raw, params=ran)
    assert not feature_msrs(Setup.of(bare, Stack(kernel="7.3"))).table[ARCH] & ArchCap.SKIP_L1D_FLUSH
    assert feature_msrs(Setup.of(bare, Stack(kernel="7.3", params={"cmdline": ""}))).table[ARCH] & ArchCap.SKIP_L1D_FLUSH


@pytest.mark.parametrize(
    ("kernel", "line", "locked", "told"),
    [
        ("7.3", "", 0, True),
        ("7.3", "gather_data_sampling=off", 0, False),
        ("7.3", "gather_data_sampling=off", 1 << 5, True),
        ("7.3", "mitigations=off", 0, False),
        ("7.3", "mitigations=off gather_data_sampling=force", 0, True),
        ("6.12", "mitigations=off gather_data_sampling=force", 0, False),
    ],
)
def test_microcode_that_mitigates_gathers_makes_guests_immune(kernel: str, line: str, locked: int, told: bool) -> None:
    def found(value: int) -> FeatureMsrs:
        return modelled(SKYLAKE, CAPABILITIES, kernel, cmdline=line, msr_10a=value, msr_123=locked)

    assert bool(found(ArchCap.GDS_CTRL).table[ARCH] & ArchCap.GDS_NO) is told
    assert not found(0).table[ARCH] & ArchCap.GDS_NO
    if told:
        assert rules(found(ArchCap.GDS_CTRL), ARCH, ArchCap.GDS_NO) == ["kvm.arch-cap.gds"]


PDCM = {1: 1 << 15}


@pytest.mark.parametrize(
    ("name", "kernel", "params", "value"),
    [
        (SKYLAKE, "7.3", {}, 0x2005),  # its last branch records can follow calls
        (SKYLAKE, "7.3", {"enable_mediated_pmu": 1}, 0x2000),
        (SKYLAKE, "7.3", {"enable_pmu": 0}, 0),
        (SKYLAKE, "7.3", {"pmu": 0}, 0),
        ("kvm-intel.corei5_arrandale_m520@{}", "6.1", {}, 0x2005),  # its cannot
        ("kvm-intel.corei5_arrandale_m520@{}", "6.12", {}, 0x2000),
    ],
)
def test_perf_capabilities_are_what_perf_lends(name: str, kernel: str, params: dict[str, int], value: int) -> None:
    """PEBS and its timing are the hardware's, and no guest's: this processor's records do not go through EPT."""
    found = modelled(name, PDCM, kernel, **{"msr_345": 0x5 | 0x33FC0 | 1 << 15, "pmu": 1} | params)
    assert found.table[PERF] == value


def test_pebs_is_lent_where_it_writes_through_ept() -> None:
    ice_lake = Snapshot(
        raw=CpuidTable(
            e._replace(eax=0x606A6, ecx=e.ecx | 1 << 15 | 1 << 2, edx=e.edx | 1 << 21) if e.function == 1 else e
            for e in host(SKYLAKE.format("7.3")).raw
        )
    )
    for kernel, timing in (("6.12", 0), ("7.3", 1 << 17)):
        params = {"msr.345": 0x5 | 0xFC0 | 1 << 13 | 1 << 14 | 1 << 17, "pmu": 1, "msr.1a0": 1}
        found = feature_msrs(Setup.of(ice_lake, Stack(kernel=kernel, params=params)))
        assert found.table[PERF] == 0x5 | 0xFC0 | 1 << 13 | timing


def test_without_cpuid_there_is_what_the_snapshot_tells() -> None:
    told = host(SKYLAKE.format("6.12"))
    assert feature_msrs(Setup.of(replace(told, raw=CpuidTable()))).table is told.msrs
