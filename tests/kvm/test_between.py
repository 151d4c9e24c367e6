"""What KVM changed between Linux 6.1 and 7.1, release by release, as the sources of 6.6, 6.8, 6.14, 6.16 and 7.0 have it.

Of 6.16 there are captures; the others stand on their sources, so that what is held here is the release of each change. Where a row is
not of one piece, older tables are of a stable update that took the change over, and those between of an earlier day.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vcpuid import kvm
from vcpuid.cpuid import MsrTable, Snapshot
from vcpuid.kvm.feature_msrs import FeatureMsrs, feature_msrs
from vcpuid.linux.arch_cap import ArchCap
from vcpuid.setup import settled

Machine = Callable[[str], Snapshot]
Edit = Callable[..., Snapshot]

ALL = "6.1 6.6 6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"
TURIN, MILAN = "kvm-amd.EPYC-Turin-v1@7.3", "kvm-amd.EPYC-Milan-v2@6.12"
SKYLAKE, PENRYN, SAPPHIRE = "kvm-intel.corei7_skylake_x@6.12", "kvm-intel.core2_penryn_t9600@6.12", "kvm-intel.sapphire_rapids-dmr@7.3"


def msrs(host: Snapshot, kernel: str, params: dict[str, int | str] | None = None) -> FeatureMsrs:
    return feature_msrs(settled(host, kernel=kernel, params=params))


def where(holds: Callable[[str], bool]) -> str:
    """Name the kernels of which something holds."""
    return " ".join(kernel for kernel in ALL.split() if holds(kernel))


@pytest.mark.parametrize(
    ("host", "registers", "feature", "kernels"),
    [
        (TURIN, {"8000000a.0.edx": 1 << 6}, "FLUSHBYASID", "6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (TURIN, {"8000000a.0.edx": 1 << 16 | 1 << 25}, "VNMI", "6.6 6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (TURIN, {"7.0.ecx": lambda ecx: ecx | 1 << 24}, "BUS_LOCK_DETECT", "6.8"),
        (SKYLAKE, {"7.0.eax": 1, "7.1.eax": 1 << 26}, "LAM", "6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (SAPPHIRE, {"7.1.edx": 1 << 19}, "AVX10", "6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (SAPPHIRE, {"7.1.eax": 1 << 31}, "MOVRS", "7.0 7.1"),
        (MILAN, {"80000008.0.ebx": 1 << 12 | 1 << 14}, "SPEC_CTRL", "6.1 6.6 6.8 6.12"),
        (MILAN, {"80000008.0.ebx": 1 << 12 | 1 << 14 | 1 << 30}, "SPEC_CTRL", ALL),
        (SKYLAKE, {"7.0.edx": 1 << 26}, "AMD_IBPB_RET", "6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (TURIN, {"80000021.0.eax": 1 << 27 | 1 << 28}, "SBPB", "6.8 6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"),
        (SKYLAKE, {}, "TSA_L1_NO", "6.16 6.17 6.18 6.19"),
    ],
)  # fmt: skip
def test_a_feature_that_kvm_offers(
    machine: Machine, edited: Edit, host: str, registers: dict[str, object], feature: str, kernels: str
) -> None:
    changed = edited(machine(host), registers)
    assert where(lambda kernel: kvm.caps(changed, kernel).has(feature)) == kernels


def test_the_last_basic_leaf(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"0.0.eax": 0x40})
    assert where(lambda kernel: kvm.supported(host, kernel).table.registers(0).eax == 0x1F) == "6.1 6.6 6.8"
    assert where(lambda kernel: kvm.supported(host, kernel).table.registers(0).eax == 0x24) == "6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"


def test_the_size_of_guests_addresses(machine: Machine) -> None:
    host = machine(SKYLAKE)
    told = where(lambda kernel: bool(kvm.supported(host, kernel).table.registers(0x80000008).eax >> 16))
    assert told == "6.12 6.14 6.16 6.17 6.18 6.19 7.0 7.1"


def test_6_8_passes_on_the_counters_of_a_pmu_that_it_does_not_offer(machine: Machine, edited: Edit) -> None:
    host = edited(machine(TURIN), {"80000000.0.eax": 0x80000022, "80000022.0.eax": 3, "80000022.0.ebx": 0x10106})
    answers = {kernel: kvm.supported(host, kernel, {"pmu": 0}).table.registers(0x80000022)[:2] for kernel in ALL.split()}
    assert answers.pop("6.8") == (0x10106, 0x10106)
    assert set(answers.values()) == {(0, 0)}


def test_counters_that_are_not_there_have_a_width(machine: Machine, edited: Edit) -> None:
    host = edited(machine(SKYLAKE), {"a.0.eax": 0x07300401, "a.0.edx": 0})
    wide = where(lambda kernel: kvm.supported(host, kernel, {"pmu": 1}).table.registers(0xA).edx >> 5 & 0xFF == 0x30)
    assert wide == "6.1 6.6 6.8 6.14 6.16 6.17"


def test_a_kernel_of_before_its_tells_no_immunity_to_it(machine: Machine, edited: Edit) -> None:
    host = edited(machine(PENRYN), {"7.0.edx": 1 << 29, "0.0.eax": 0xD}, msrs=MsrTable({}), cpuinfo={})

    def offers(kernel: str) -> bool:
        table = msrs(host, kernel, {"msr.10a": ArchCap.ITS_NO}).table
        return bool(table[0x10A] & ArchCap.ITS_NO)

    assert where(offers) == "6.1 6.6 6.12 6.16 6.17 6.18 6.19 7.0 7.1"


def test_which_kernels_list_platform_info(machine: Machine) -> None:
    listed = where(lambda kernel: 0xCE in msrs(machine(TURIN), kernel).offered)
    assert listed == "6.14 6.16 6.17 6.18 6.19 7.0 7.1"


def test_last_branch_records_without_calls(machine: Machine, edited: Edit) -> None:
    host = edited(machine("kvm-intel.corei7_ivy_bridge_3770k@6.12"), {"1.0.ecx": lambda ecx: ecx | 1 << 15}, msrs=MsrTable({}))

    def lends(kernel: str) -> bool:
        return msrs(host, kernel, {"pmu": 1, "msr.345": 0x2004}).table[0x345] & 0x3F == 4

    assert where(lends) == "6.1 6.6 6.8"


def test_what_memory_encryption_needs(machine: Machine, edited: Edit) -> None:
    registers = {
        "8000001f.0.eax": 0x1F, "8000001f.0.ebx": 0x16F, "8000001f.0.ecx": 509, "8000001f.0.edx": 100,
        "8000000a.0.edx": 0x8F, "8000000a.0.ebx": 0x8000, "80000008.0.eax": 0x3934,
    }  # fmt: skip
    linux = {"msr.c0010010": 1 << 23, "msr.c0010015": 1}
    host, whole = (edited(machine(TURIN), {**registers, "8000000a.0.edx": edx}) for edx in (0x8F, 0xCF))
    assert where(lambda kernel: kvm.caps(host, kernel, linux).has("SEV")) == "6.1 6.6"  # without FLUSHBYASID
    assert where(lambda kernel: kvm.caps(whole, kernel, {**linux, "sev_firmware": 0}).has("SEV")) == "6.1 6.6 6.8 6.12 6.14"
