"""Hyper-V enlightenments: dependencies, what the host lacks, and the leaves."""

from __future__ import annotations

from typing import Any

import pytest

from vcpuid.cpuid.hyperv import ENLIGHTENMENTS, FEATURES, LIMITS, NESTED, RECOMMENDATIONS, VENDOR
from vcpuid.cpuid.registers import CpuidTable, Entry
from vcpuid.errors import QemuError, UnavailableError
from vcpuid.qemu.hyperv import enabled, entries, expand

RELEASE = (10, 0)
EVERYTHING = CpuidTable(
    [
        Entry(VENDOR, 0, 0, NESTED, 1, 2, 3),
        Entry(FEATURES, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0xFFFFFFFF),
        Entry(RECOMMENDATIONS, 0, 0, 0xFFFFFFFF, 0xFFF, 0, 0),
        Entry(LIMITS, 0, 0, 7, 8, 0, 0),
        Entry(NESTED, 0, 0, 0xFFFFFFFF, 0, 0, 0),
    ]
)


def props(*flags: str, **others: Any) -> dict[str, Any]:
    numbers = {
        "hv-version-id-build": 0x3839,
        "hv-version-id-major": 10,
        "hv-version-id-minor": 0,
        "hv-version-id-spack": 0,
        "hv-version-id-sbranch": 0,
        "hv-version-id-snumber": 0,
        "x-hv-max-vps": -1,
        "hv-spinlocks": 0xFFFFFFFF,
        "hv-no-nonarch-coresharing": "off",
    }
    return {**numbers, **dict.fromkeys(ENLIGHTENMENTS, False), **dict.fromkeys(flags, True), **others}


def leaves(host: CpuidTable | None, *flags: str, **others: Any) -> dict[int, Entry]:
    given = props(*flags, **others)
    found = expand(given, host, RELEASE)
    assert found is not None
    return {entry.function: entry for entry in entries(found, given, host, RELEASE)}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["hv-stimer"], "Hyper-V synthetic timers (hv-stimer) requires Hyper-V clocksources (hv-time)"),
        (["hv-stimer", "hv-time"], "Hyper-V synthetic timers (hv-stimer) requires Hyper-V synthetic interrupt controller (hv-synic)"),
        (["hv-synic"], "Hyper-V synthetic interrupt controller (hv-synic) requires Hyper-V VP_INDEX MSR (hv-vpindex)"),
        (["hv-ipi"], "Hyper-V paravirtualized IPI (hv-ipi) requires Hyper-V VP_INDEX MSR (hv-vpindex)"),
        (["hv-evmcs"], "Hyper-V enlightened VMCS (hv-evmcs) requires Hyper-V virtual APIC (hv-vapic)"),
        (
            ["hv-stimer-direct"],
            "Hyper-V direct mode synthetic timers (hv-stimer-direct) requires Hyper-V synthetic timers (hv-stimer)",
        ),
    ],
)
@pytest.mark.parametrize("host", [EVERYTHING, None])
def test_a_flag_without_the_one_it_needs_is_refused(flags: list[str], message: str, host: CpuidTable | None) -> None:
    with pytest.raises(QemuError) as refusal:
        expand(props(*flags), host, RELEASE)
    assert refusal.value.message == message


def test_what_the_host_lacks_is_refused_before_what_the_flag_lacks() -> None:
    host = CpuidTable([Entry(VENDOR, 0, 0, LIMITS, 0, 0, 0)])
    with pytest.raises(QemuError, match=r"Hyper-V enlightened VMCS \(hv-evmcs\) is not supported by kernel"):
        expand(props("hv-evmcs"), host, RELEASE)


def test_kvm_without_hyperv_has_qemu_ignore_all_flags() -> None:
    assert expand(props("hv-stimer", "hv-passthrough"), CpuidTable(), RELEASE) is None


def test_passthrough_of_an_unknown_host_is_not_guessed() -> None:
    with pytest.raises(UnavailableError):
        expand(props("hv-passthrough"), None, RELEASE)


def test_spinlocks_alone_make_the_guest_see_hyperv() -> None:
    assert not enabled(props())
    assert enabled(props(**{"hv-spinlocks": 0x1FFF}))
    assert leaves(None, **{"hv-spinlocks": 0x1FFF})[RECOMMENDATIONS].ebx == 0x1FFF


def test_passthrough_takes_the_hosts_values_and_all_but_the_debugger() -> None:
    found = leaves(EVERYTHING, "hv-passthrough")
    assert found[VENDOR][3:] == (NESTED, 1, 2, 3)
    assert found[LIMITS][3:] == (7, 8, 0, 0)
    assert 0x40000080 not in found
    old = expand(props("hv-passthrough"), EVERYTHING, (7, 2))
    assert old is not None
    assert "hv-syndbg" in old.flags


def test_nested_features_bring_empty_leaves_before_them() -> None:
    found = leaves(None, "hv-emsr-bitmap")
    assert found[VENDOR].eax == NESTED
    assert [found[leaf][3:] for leaf in range(LIMITS + 1, NESTED)] == [(0, 0, 0, 0)] * 4
    assert found[NESTED].eax == 1 << 19


def test_apic_accesses_are_recommended_unless_the_processor_virtualizes_them() -> None:
    assert leaves(None, "hv-vapic")[RECOMMENDATIONS].eax & 1 << 3
    assert not leaves(None, "hv-vapic", "hv-avic")[RECOMMENDATIONS].eax & 1 << 3


def test_core_sharing_is_the_users_or_the_hosts_word() -> None:
    bit = 1 << 18
    assert leaves(None, "hv-time", **{"hv-no-nonarch-coresharing": "on"})[RECOMMENDATIONS].eax & bit
    assert leaves(EVERYTHING, "hv-time", **{"hv-no-nonarch-coresharing": "auto"})[RECOMMENDATIONS].eax & bit
    assert not leaves(EVERYTHING, "hv-time")[RECOMMENDATIONS].eax & bit
