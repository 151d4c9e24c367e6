"""The leaves of KVM_GET_SUPPORTED_CPUID that captures show only in part: parameters, rare features, other vendors, other kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vcpuid import kvm
from vcpuid.cpuid import CpuidTable, CpuidWord, Registers, Snapshot
from vcpuid.errors import InputError
from vcpuid.reasons import Rule, replay
from vcpuid.releases import KERNELS

Machine = Callable[[str], Snapshot]
Edit = Callable[..., Snapshot]

TURIN, MILAN = "kvm-amd.EPYC-Turin-v1@7.3", "kvm-amd.EPYC-Milan-v2@6.12"
SKYLAKE, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.sapphire_rapids-dmr@7.3"


def keys(table: CpuidTable, function: int) -> list[int]:
    return [entry.index for entry in table if entry.function == function]


def test_the_order_of_the_ranges(machine: Machine) -> None:
    table = kvm.supported(machine(SKYLAKE), "6.12").table
    starts = [entry.function for entry in table if entry.function in (0, 0x80000000, 0xC0000000, 0x40000000)]
    assert starts == [0, 0x80000000, 0x40000000]


def test_amx_needs_permission(machine: Machine) -> None:
    host = machine("kvm-intel.sapphire_rapids-xfd@7.3")
    without, given = kvm.supported(host, "7.3").table, kvm.supported(host, "7.3", {"amx_permission": 1}).table
    assert without.registers(0xD).eax == 0x2E7
    assert given.registers(0xD).eax == 0x602E7
    assert keys(given, 0xD) == [0, 1, 2, 5, 6, 7, 9, 11, 12, 17, 18]
    assert given.registers(0xD).ebx == 0x2B00
    assert given.registers(0xD, 18).ecx & 4, "XFD"
    older = kvm.supported(host, "6.1").table
    assert older.registers(0xD).eax == 0x202E7, "6.1 leaves the tile configuration without the data"


def test_address_sizes(machine: Machine) -> None:
    amd = machine(TURIN)
    assert kvm.supported(amd, "6.1").table.registers(0x80000008).eax == 0x3928
    assert kvm.supported(amd, "7.3").table.registers(0x80000008).eax == 0x283928
    assert kvm.supported(amd, "7.3", {"npt": 0}).table.registers(0x80000008).eax == 0x3928


@pytest.mark.parametrize(("levels", "eax"), [(0, 0x303934), (1, 0x343934), (None, 0x343934)])
def test_five_level_paging_and_the_largest_guest_address(machine: Machine, edited: Edit, levels: int | None, eax: int) -> None:
    host = edited(machine(TURIN), {"80000008.0.eax": 0x3934})
    params = {} if levels is None else {"paging_5level": levels}
    assert kvm.supported(host, "7.3", params).table.registers(0x80000008).eax == eax
    intel = edited(machine(SKYLAKE), {"80000008.0.eax": 0x3934})
    params = {} if levels is None else {"ept_5level": levels}
    wanted = 0x303934 if levels is None else eax
    assert kvm.supported(intel, "7.3", params).table.registers(0x80000008).eax == wanted


def test_the_reduced_address_size_under_memory_encryption(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), {"8000001f.0.eax": 1, "8000001f.0.ebx": 5 << 6 | 47, "80000008.0.eax": 0x3934})
    params = {"msr.c0010010": 1 << 23}
    assert kvm.supported(host, "7.3", {**params, "npt": 0}).table.registers(0x80000008).eax == 0x392F
    assert kvm.supported(host, "7.3", params).table.registers(0x80000008).eax & 0xFF == 0x34


SGX = {
    "7.0.ebx": lambda ebx: ebx | 4,
    "12.0.eax": 0xC03, "12.0.ebx": 3, "12.0.edx": 0x381F,
    "12.1.eax": 0x4B6, "12.1.ebx": 5, "12.1.ecx": 0x2E7,
}  # fmt: skip


def with_sgx(host: Snapshot, edited: Edit) -> Snapshot:
    return edited(host, SGX, msrs={**host.msrs, 0x48B: host.msrs[0x48B] | 1 << 47})


def test_sgx(machine: Machine, edited: Edit) -> None:
    host = with_sgx(machine(SKYLAKE), edited)
    linux = {"msr.3a": 0x60005}
    table = kvm.supported(host, "6.12", linux).table
    assert table.registers(0x12, 0) == Registers(0x803, 1, 0, 0x381F)
    assert table.registers(0x12, 1) == Registers(0x4B6, 0, 0x2E7, 0)
    assert kvm.supported(host, "6.1", linux).table.registers(0x12, 1).eax == 0xB6
    assert kvm.supported(host, "6.12", {**linux, "sgx": 0}).table.registers(0x12, 0) == Registers()
    assert keys(kvm.supported(host, "6.12", {**linux, "sgx": 0}).table, 0x12) == [0]


def test_processor_trace(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"7.0.ebx": lambda ebx: ebx | 1 << 25, "14.0.eax": 1, "14.0.ebx": 0xF, "14.0.ecx": 7, "14.1.eax": 2})
    assert kvm.supported(host, "6.12").table.registers(0x14) == Registers()
    table = kvm.supported(host, "6.12", {"pt_mode": 1}).table
    assert keys(table, 0x14) == [0, 1]
    assert table.registers(0x14, 0) == Registers(1, 0xF, 7, 0)
    assert kvm.supported(host, "6.12", {"pt_mode": 1, "enable_pmu": 0}).table.registers(0x14) == Registers()


def test_amx_and_avx10_leaves_grow_with_the_kernel(machine: Machine, edited: Edit) -> None:
    host = edited(
        machine(SAPPHIRE),
        {"1e.0.eax": 2, "1e.1.eax": 0x1FF, "1e.1.ebx": 7, "24.0.eax": 3, "24.0.ebx": 0x70003, "24.1.ecx": 0xC, "7.1.edx": 1 << 19},
    )
    older, newer = kvm.supported(host, "6.18").table, kvm.supported(host, "7.3").table
    assert keys(older, 0x1E) == [0]
    assert keys(newer, 0x1E) == [0, 1]
    assert newer.registers(0x1E, 1) == Registers(0x1DF, 0, 0, 0)
    assert older.registers(0x24) == Registers(0, 0x70001, 0, 0)
    assert newer.registers(0x24) == Registers(1, 0x70002, 0, 0)
    assert newer.registers(0x24, 1) == Registers(0, 0, 4, 0)
    assert kvm.supported(host, "6.1").table.get(0x24) is None


def test_performance_monitoring_on_intel(machine: Machine, edited: Edit) -> None:
    host = machine(SKYLAKE)
    assert kvm.supported(host, "6.12", {"enable_pmu": 0}).table.registers(0xA) == Registers()
    assert kvm.supported(host, "6.12", {"pmu": 0}).table.registers(0xA) == Registers()
    many = edited(host, {"a.0.eax": lambda eax: eax & ~0xFF00 | 0xC00})
    assert kvm.supported(many, "6.12").table.registers(0xA).eax == 0x07300802
    assert kvm.supported(many, "6.1").table.registers(0xA).eax == 0x07300C02
    hybrid = edited(host, {"7.0.edx": 1 << 15})
    assert kvm.supported(hybrid, "6.12").table.registers(0xA) == Registers()
    assert kvm.supported(edited(host, msrs={}), "6.12").table.registers(0xA).eax == 0x07300402


@pytest.mark.parametrize(
    ("signature", "events"),
    [(0x106A5, 0x80), (0x106E5, 0x80), (0x206E6, 0x80), (0x106F5, 0xC0), (0x20655, 0xC0), (0x206C2, 0xC0)],  # the last three: no Nehalem
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_nehalems_event_of_mispredicted_branches_is_there_since_perf_counts_another(
    machine: Machine, edited: Edit, kernel: str, signature: int, events: int
) -> None:
    """intel_nehalem_quirk, arch/x86/events/intel/core.c."""
    host = edited(machine(SKYLAKE), {"1.0.eax": signature, "a.0.ebx": 0xC0})
    assert kvm.supported(host, kernel).table.registers(0xA).ebx == events


def test_performance_monitoring_on_amd(machine: Machine, edited: Edit) -> None:
    core = {"80000001.0.ecx": lambda ecx: ecx | 1 << 23, "80000022.0.eax": 1, "80000022.0.ebx": 0x10F}
    host = edited(machine(TURIN), core)
    assert kvm.supported(host, "7.3", {"pmu": 1}).table.registers(0x80000022) == Registers(1, 6, 0, 0)
    assert kvm.supported(host, "7.3").table.registers(0x80000022) == Registers(), "QEMU's own emulation has no counters"
    bare = edited(host, {f"40000000.0.{register}": 0 for register in ("eax", "ebx", "ecx", "edx")})
    assert kvm.supported(bare, "7.3").table.registers(0x80000022) == Registers(1, 6, 0, 0)
    assert kvm.supported(bare, "6.1").table.get(0x80000022) is None


def test_memory_encryption_leaf(machine: Machine, edited: Edit) -> None:
    host = edited(
        machine(TURIN),
        {
            "8000001f.0.eax": 0x1001F, "8000001f.0.ebx": 0x416F, "8000001f.0.ecx": 509, "8000001f.0.edx": 100,
            "8000000a.0.edx": lambda edx: edx | 0xCF,
        },
    )  # fmt: skip
    on = kvm.supported(host, "6.12", {"msr.c0010010": 1 << 23, "msr.c0010015": 1}).table
    assert on.registers(0x8000001F)[1:] == (0x2F, 509, 100)
    assert kvm.supported(host, "6.12", {"msr.c0010010": 1 << 23, "sev": 0}).table.registers(0x8000001F) == Registers()


def test_the_return_address_predictor(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), {"80000021.0.eax": lambda eax: eax | 1 << 24, "80000021.0.ebx": 0x12345678})
    assert kvm.supported(host, "7.3").table.registers(0x80000021).ebx == 0x340000
    assert kvm.supported(host, "6.18").table.registers(0x80000021).ebx == 0


def test_kvm_adds_the_second_feature_leaf_of_amd(machine: Machine, edited: Edit) -> None:
    host = edited(machine("kvm-amd.EPYC-v4@6.12"), {"80000000.0.eax": 0x8000001E})
    table = kvm.supported(host, "6.12").table
    assert table.registers(0x80000000).eax == 0x80000021
    assert table.registers(0x80000021).eax == 0x204
    assert table.get(0x8000001F).registers == Registers()  # type: ignore[union-attr]


def test_without_sched_info_no_steal_time(machine: Machine) -> None:
    host = machine(SKYLAKE)
    assert kvm.supported(host, "6.12").table.registers(0x40000001).eax == 0x1007EFB
    assert kvm.supported(host, "6.12", {"sched_info": 0}).table.registers(0x40000001).eax == 0x1007EDB


def vendor(name: str) -> dict[str, int]:
    words = [int.from_bytes(name[start : start + 4].encode(), "little") for start in (0, 4, 8)]
    return dict(zip(("0.0.ebx", "0.0.edx", "0.0.ecx"), words, strict=True))


@pytest.mark.parametrize(
    ("name", "kernel", "there"),
    [("CentaurHauls", "6.1", True), ("CentaurHauls", "7.3", True), ("  Shanghai  ", "6.12", False), ("  Shanghai  ", "6.18", True),
     ("GenuineIntel", "7.3", False)],
)  # fmt: skip
def test_centaurs_leaves(machine: Machine, edited: Edit, name: str, kernel: str, there: bool) -> None:
    centaur = {"c0000000.0.eax": 0xC0000009, "c0000001.0.edx": 0x3FCF, "c0000002.0.eax": 5, "1.0.eax": 0x000107B0}
    host = edited(machine(SKYLAKE), vendor(name) | centaur)
    table = kvm.supported(host, kernel).table
    assert [entry.function for entry in table if entry.function >> 28 == 0xC] == ([0xC0000000 + leaf for leaf in range(5)] if there else [])
    if there:
        assert table.registers(0xC0000000).eax == 0xC0000004
        assert table.registers(0xC0000001).edx == kvm.caps(host, kernel).words["CPUID_C000_0001_EDX"]
        assert table.registers(0xC0000002) == Registers()


@pytest.mark.parametrize("kernel", KERNELS[KERNELS.index("5.10") :])
def test_hygon_is_amds_twin(machine: Machine, edited: Edit, kernel: str) -> None:
    host = machine("kvm-amd.Dhyana-v2@6.12")
    hygon = kvm.supported(edited(host, vendor("HygonGenuine")), kernel).table
    amd = kvm.supported(edited(host, vendor("AuthenticAMD")), kernel).table
    assert kvm.caps(edited(host, vendor("HygonGenuine")), kernel).hardware.module == "kvm_amd"
    assert [entry[:3] for entry in hygon] == [entry[:3] for entry in amd]


@pytest.mark.long
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", [TURIN, MILAN, SKYLAKE, SAPPHIRE])
@pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")  # a parameter of the other vendor's module
@pytest.mark.parametrize("params", [{}, {"nested": 0}, {"enable_pmu": 0}, {"ept": 0}, {"npt": 0}, {"amx_permission": 1, "pt_mode": 1}])
def test_the_law_holds_for_every_kernel_and_parameter(machine: Machine, kernel: str, name: str, params: dict[str, Any]) -> None:
    host = machine(name)
    result = kvm.supported(host, kernel, params)
    replayed = replay(host.raw.words(), result.decisions)
    words: dict[Any, int] = dict(result.table.words())
    assert {word: value for word, value in replayed.items() if value} == {word: value for word, value in words.items() if value}


def test_a_host_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(InputError, match="does not tell its CPUID"):
        kvm.supported(Snapshot(), "6.12")


def test_rules_are_written_for_people(machine: Machine) -> None:
    rules: set[Rule] = set()
    for name in (TURIN, MILAN, SKYLAKE, SAPPHIRE):
        for kernel in KERNELS:
            rules |= {decision.rule for decision in kvm.supported(machine(name), kernel, {"nested": 0}).decisions}
    assert len(rules) > 25
    for rule in rules:
        assert rule.id.startswith("kvm.")
        assert "arch/x86/kvm" in rule.source
        assert not rule.reason.endswith(".")


def test_what_kvm_knows_does_not_come_from_its_own_tables(machine: Machine, edited: Edit) -> None:
    host = machine(SKYLAKE)
    bare = edited(host, supported=None, emulated=None, hyperv=None, kept=None)
    assert kvm.supported(bare, "6.12").table == kvm.supported(host, "6.12").table
    assert kvm.supported(bare, "6.12").table.word(CpuidWord(7, 0, "ebx")) == 0xD19F27EB
