"""Hyper-V's bits by name, held against the features table, which has them from QEMU's header and QEMU's rows."""

from __future__ import annotations

import pytest

from vcpuid.cpuid import Bit, CpuidWord, hyperv
from vcpuid.cpuid.names import all_features, by_bit
from vcpuid.releases import QEMUS

NAMED = {name: bit for name, bit in vars(hyperv).items() if isinstance(bit, Bit)}
NOT_IN_QEMUS_HEADER = {"DEBUGGING", "EXTENDED_HYPERCALLS", "TSC_INVARIANT", "NESTED_PERF_GLOBAL_CTRL"}
"""Bits that KVM gives and QEMU's hyperv-proto.h does not name, or names at another place."""
SPELLED_OTHERWISE = {
    "VP_RUNTIME": "vp_runtime_available",
    "REFERENCE_COUNTER": "time_ref_count_available",
    "ACCESS_REENLIGHTENMENT": "access_reenlightenments_control",
    "DEBUG_MSRS": "feature_debug_msrs_available",
    "CRASH_MSRS": "guest_crash_msr_available",
    "DYNAMIC_PARTITIONING": "cpu_dynamic_partitioning_available",
    "XMM_INPUT": "hypercall_xmm_input_available",
    "ALLOW_KERNEL_DEBUGGING": "syndbg_cap_allow_kernel_debugging",
}


def test_every_bit_has_one_name() -> None:
    assert len(set(NAMED.values())) == len(NAMED)


@pytest.mark.parametrize("name", sorted(NAMED.keys() - NOT_IN_QEMUS_HEADER))
def test_names_are_those_of_qemus_header(name: str) -> None:
    feature = by_bit(NAMED[name])
    assert feature is not None
    spelled = SPELLED_OTHERWISE.get(name, name.lower())
    assert feature.manual in (f"hv_{spelled}", f"hv_{spelled}_available")


def test_what_qemus_header_does_not_name_has_no_other_name_there() -> None:
    assert all(by_bit(NAMED[name]) is None for name in NOT_IN_QEMUS_HEADER)


def test_enlightenments_set_the_bits_that_the_newest_qemus_rows_have() -> None:
    rows: dict[str, set[Bit]] = {}
    for feature in all_features():
        for name in feature.qemu_names:
            if name.name.startswith("hv-") and feature.bit is not None and name.releases[-1] == QEMUS[-1]:
                rows.setdefault(name.name, set()).add(feature.bit)
    assert rows == {flag: set(one.bits) for flag, one in hyperv.ENLIGHTENMENTS.items()}


def test_what_an_enlightenment_needs_is_one() -> None:
    assert all(need in hyperv.ENLIGHTENMENTS for one in hyperv.ENLIGHTENMENTS.values() for need in one.needs)
    assert all(isinstance(bit.word, CpuidWord) for one in hyperv.ENLIGHTENMENTS.values() for bit in one.bits)
