"""Expansion, by law on every captured row, and rule by rule where a capture would hide which rule it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.qemu_captures import qemu_host, qemu_rows
from vcpuid.cpuid.registers import CpuidTable, Snapshot
from vcpuid.cpuid.words import Word
from vcpuid.errors import QemuError
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.realize import realize
from vcpuid.qemu.smp import parse
from vcpuid.qemu.state import CpuState
from vcpuid.reasons import replay
from vcpuid.setup import Setup

AMD, INTEL = "tcg/EPYC-Genoa-v1@7.3", "bochs/sapphire_rapids-gnr@7.3"


def state_of(row: dict[str, Any]) -> CpuState | None:
    from vcpuid.qemu.catalog import resolve_machine

    machine = resolve_machine(row["qemu"], row["machine"])
    try:
        return realize(row["cpu"], qemu_host(row["host"]), row["qemu"], machine, parse(row["smp"], row["qemu"], machine)[0])
    except QemuError:
        return None


def before(host: Snapshot) -> dict[Word, int]:
    """Return what the host's KVM supports, as words."""
    assert host.supported is not None
    return {**host.supported.words(), **kvm_says(Setup.of(host)).msr_words}


@pytest.mark.long
@pytest.mark.parametrize("row", [pytest.param(row, id=str(number)) for number, row in enumerate(qemu_rows("sets"))])
def test_decisions_lead_from_the_host_to_the_features(row: dict[str, Any]) -> None:
    state = state_of(row)
    if state is None:
        assert not row["vcpus"]
        return
    known = catalog(row["qemu"]).by_name
    replayed = replay(before(qemu_host(row["host"])), state.decisions)
    assert {name: replayed.get(known[name].word, 0) for name in state.features} == state.features
    assert {decision.word for decision in state.decisions} <= {word.word for word in known.values()}


def why(state: CpuState, name: str, mask: int) -> list[str]:
    """Return the rules that touched any of these bits, oldest first."""
    word = catalog(state.release).by_name[name].word
    return [decision.rule.id for decision in state.decisions if decision.word == word and decision.mask & mask]


def test_a_model_drops_what_it_lacks_and_asks_for_what_it_has() -> None:
    state = realize("EPYC-v1", qemu_host(INTEL), "11.1")
    assert why(state, "FEAT_7_0_EBX", 1 << 16) == ["qemu.model.absent"]  # avx512f
    assert why(state, "FEAT_8000_0001_ECX", 1 << 6) == ["qemu.model.asks", "qemu.filter.kvm"]  # sse4a, on Intel
    assert why(state, "FEAT_KVM", 1 << 5) == ["qemu.model.absent", "qemu.kvm.default-on"]  # kvm-steal-time


def test_the_user_has_the_last_word_before_the_host() -> None:
    assert why(realize("host,-avx2", qemu_host(AMD)), "FEAT_7_0_EBX", 1 << 5) == ["qemu.user.off"]
    assert why(realize("Nehalem,+avx2", qemu_host(AMD)), "FEAT_7_0_EBX", 1 << 5) == ["qemu.model.absent", "qemu.user.on"]


def test_a_dependency_names_its_cause() -> None:
    state = realize("EPYC-Genoa,+npt,check=off", qemu_host(AMD))
    assert state.warnings == ("This feature depends on other features that were not requested: CPUID[eax=8000000Ah].EDX.npt [bit 0]",)
    decision = next(d for d in state.decisions if d.rule.id == "qemu.expand.dependency" and d.mask & 1)
    assert str(decision.cause) == "CPUID[eax=80000001h].ECX [bit 2]"


def test_threads_make_hyper_threading_and_on_amd_cmp_legacy() -> None:
    two = parse("4,sockets=1,cores=2,threads=2", "11.1", "pc-q35-11.1")[0]
    for name, legacy in ((AMD, True), (INTEL, False)):
        host = qemu_host(name)
        assert realize("max", host, "11.1", "q35", two).features["FEAT_1_EDX"] & 1 << 28
        assert not realize("max", host, "11.1").features["FEAT_1_EDX"] & 1 << 28
        assert ("qemu.expand.threads" in why(realize("max", host, "11.1", "q35", two), "FEAT_8000_0001_ECX", 2)) is legacy


@pytest.mark.parametrize(
    ("cpu", "level"),
    [
        ("pentium", 1),
        ("pentium,+arat", 6),
        ("pentium,+smep", 7),
        ("Nehalem", 0xB),
        ("Nehalem,+xsaveopt", 0xD),
        ("Nehalem,+intel-pt", 0x14),
        ("Nehalem,level=4,+intel-pt", 4),
        ("Nehalem,min-level=0x20", 0x20),
        ("Nehalem,avx10-version=1", 0x24),
        ("Nehalem,+apxf", 0x29),
    ],
)
def test_features_raise_the_last_leaf(cpu: str, level: int) -> None:
    assert realize(f"{cpu},check=off", qemu_host(INTEL), "11.1").level == level


def test_old_machine_types_keep_the_models_last_leaf() -> None:
    host = qemu_host(INTEL)
    assert realize("Nehalem,+xsaveopt,full-cpuid-auto-level=off", host, "10.0").level == 0xB
    assert realize("Nehalem,+smep,full-cpuid-auto-level=off", host, "10.0").level == 0xB
    assert realize("pentium,+smep,full-cpuid-auto-level=off", host, "10.0").level == 7


def test_more_than_threads_and_cores_needs_leaf_1f_on_intel() -> None:
    dies = parse("8,sockets=1,dies=2,cores=2,threads=2", "11.1", "pc-q35-11.1")[0]
    assert realize("Nehalem", qemu_host(INTEL), "11.1", "q35", dies).level == 0x1F
    assert realize("EPYC-Milan", qemu_host(AMD), "11.1", "q35", dies).level == 0xD


def test_a_permission_that_kvm_grants_adds_components() -> None:
    host = qemu_host(AMD)
    state = realize("EPYC,+amx-tile,check=off,x-force-features=on", host, xcr0=0x60007)
    assert state.features["FEAT_XSAVE_XCR0_LO"] == 0x60007
    assert realize("EPYC,+amx-tile,check=off,x-force-features=on", host, xcr0=7).features["FEAT_XSAVE_XCR0_LO"] == 7


def test_a_host_without_kvm_lines_is_modelled() -> None:
    host = qemu_host(AMD)
    modelled = realize("host", replace(host, supported=None, hyperv=CpuidTable()), kernel="7.3")
    assert modelled.vendor == "AuthenticAMD"
    assert modelled.features["FEAT_7_0_EBX"] & 1 << 5
