"""KVM_GET_SUPPORTED_HV_CPUID and KVM_GET_EMULATED_CPUID where captures do not reach."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vcpuid import kvm
from vcpuid.cpuid import Snapshot
from vcpuid.reasons import replay
from vcpuid.releases import KERNELS

Machine = Callable[[str], Snapshot]
Edit = Callable[..., Snapshot]

AMD, INTEL = "kvm-amd.EPYC-Milan-v2@6.12", "kvm-intel.corei7_skylake_x@6.12"
EVMCS, ALONE = 1 << 14, 1 << 18


@pytest.mark.parametrize(
    ("name", "kernel", "nested", "evmcs"),
    [*((INTEL, kernel, nested, bool(nested)) for kernel in KERNELS for nested in (0, 1)), (AMD, "7.3", 1, False)],
)
def test_enlightened_vmcs_come_with_nested_vmx(machine: Machine, name: str, kernel: str, nested: int, evmcs: bool) -> None:
    table = kvm.hyperv_supported(machine(name), kernel, {"nested": nested}).table
    assert bool(table.registers(0x40000004).eax & EVMCS) is evmcs
    assert table.registers(0x4000000A).eax & 0xFFFF == (0x101 if evmcs else 0)


@pytest.mark.parametrize(
    ("name", "registers", "params", "alone"),
    [
        (INTEL, {}, {}, True),
        (INTEL, {}, {"smt": 1}, False),
        (INTEL, {"b.0.ebx": 2, "b.1.ebx": 8}, {}, False),
        (INTEL, {"b.0.ebx": 2, "b.1.ebx": 8}, {"smt": 0}, True),
        (INTEL, {"b.0.ebx": 2, "b.1.ebx": 8}, {"cmdline": "quiet nosmt=force"}, True),
        (INTEL, {"b.0.ebx": 2, "b.1.ebx": 8}, {"cmdline": "nosmt"}, False),
        (INTEL, {"b.0.ebx": 1, "b.1.ebx": 4}, {}, True),
        (AMD, {"b.1.ebx": 0, "8000001e.0.ebx": 0x100}, {}, False),
        (AMD, {"b.1.ebx": 0, "8000001e.0.ebx": 0x3}, {}, True),
    ],
)
@pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
def test_processors_that_share_a_core(
    machine: Machine, edited: Edit, name: str, registers: dict[str, int], params: dict[str, int | str], alone: bool
) -> None:
    table = kvm.hyperv_supported(edited(machine(name), registers), "6.12", params).table
    assert bool(table.registers(0x40000004).eax & ALONE) is alone


def test_the_number_of_processors(machine: Machine) -> None:
    host = machine(INTEL)
    most = {kernel: kvm.hyperv_supported(host, kernel).table.registers(0x40000005).eax for kernel in KERNELS}
    fewer = {"4.18": 2048, "5.10": 288, **dict.fromkeys(("5.14-el9_1", "5.14-el9_2", "5.14-el9_3", "5.15", "6.1", "6.6"), 1024)}
    assert most == {kernel: fewer.get(kernel, 4096) for kernel in KERNELS}
    assert kvm.hyperv_supported(host, "6.12", {"max_vcpus": 288}).table.registers(0x40000005).eax == 288


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", [AMD, INTEL])
def test_decisions_lead_from_nothing_to_the_table(machine: Machine, name: str, kernel: str) -> None:
    for result in (kvm.hyperv_supported(machine(name), kernel), kvm.emulated(machine(name), kernel)):
        assert replay({}, result.decisions) == {word: value for word, value in result.table.words().items() if value}


def test_rdpid_is_emulated_where_rdtscp_is_offered(machine: Machine, edited: Edit) -> None:
    host = machine(INTEL)
    assert kvm.emulated(host, "6.12").table.registers(7).ecx == 1 << 22
    without = edited(host, {"80000001.0.edx": lambda edx: edx & ~(1 << 27)})
    assert kvm.emulated(without, "6.12").table.registers(7).ecx == 0
