"""A path held against those on the other hosts that its own could be, word by word: what each of these says by itself, asked bit by bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.captures import host
from vcpuid import Setup, Stack, resolve
from vcpuid.answers.fate import places
from vcpuid.answers.survey import cpuid_features
from vcpuid.cpuid import Bit, CpuidTable, MsrTable
from vcpuid.formats import parse
from vcpuid.kvm.answers import kvm_says
from vcpuid.kvm.caps import loaded
from vcpuid.kvm.feature_msrs import feature_msrs
from vcpuid.kvm.supported import answered
from vcpuid.linux.boot import booted
from vcpuid.path import pipeline
from vcpuid.path.pipeline import Path, others, paths
from vcpuid.reasons import Step
from vcpuid.told.completions import completions
from vcpuid.told.doubt import NO_ANSWER, compared
from vcpuid.told.facts import Fact


def part(name: str, kept: int) -> Setup:
    whole = host(name)
    bare = replace(whole, supported=None, emulated=None, hyperv=None, kept=None, set_result=None, cpuinfo={})
    return Setup.of(replace(bare, raw=CpuidTable(whole.raw[:kept]), msrs=MsrTable()))


def first(step: Step, bits: tuple[Bit, ...]) -> bool:
    return next((value for value in map(step.value, bits) if value is not None), False)


def by_itself(path: Path, position: int, bits: tuple[Bit, ...]) -> tuple[Fact, ...]:
    given = paths(path.cpu, path.setup, path.vmm)
    return compared(
        first(path.trace.steps[position], bits),
        given.map(lambda other: NO_ANSWER if other is None else first(other.trace.steps[position], bits)),
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kept", "cpu"),
    [("kvm-intel.corei7_skylake_x@6.12", 9, "Haswell"), ("kvm-amd.EPYC-Milan-v3@6.1", 12, "host")],
)
def test_each_feature_depends_on_what_changes_it_on_one_of_the_other_hosts(name: str, kept: int, cpu: str) -> None:
    path = resolve(cpu, host=part(name, kept))
    features, kernel = cpuid_features()[::7], path.setup.kernel.tables
    depending = 0
    for position in range(1, len(path.trace.steps)):
        for feature in features:
            bits = places(feature, path.trace.steps[position], kernel)
            found = path.beside.changing(position, bits)
            assert found == by_itself(path, position, bits), (feature.name, position)
            depending += bool(found)
    assert depending > 20


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "kept", "cpu"), [("kvm-intel.corei7_skylake_x@6.12", 2, "host"), ("kvm-amd.EPYC-Milan-v3@6.1", 5, "EPYC")]
)
def test_a_host_is_followed_alike_whether_kvm_was_asked_ahead_or_not(
    name: str, kept: int, cpu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = part(name, kept)
    vmm = resolve(cpu, host=setup).vmm

    def followed() -> list[tuple[object, ...]]:
        for function in (others, paths, completions, booted, loaded, feature_msrs, answered, kvm_says):
            function.cache_clear()
        made = others(cpu, setup, vmm).answers
        return [(*path.tables, path.kept, path.made.warnings, path.trace.steps[1].after) for path in made if isinstance(path, Path)]

    ahead = followed()
    monkeypatch.setattr(pipeline, "ask_ahead", lambda hosts: None)
    assert ahead == followed()
    assert len(ahead) > 100


WITH_A_HUGE_COMPONENT = """
RAW 00000000.0 0000401b 756e6547 6c65746e 49656e69
RAW 00000001.0 000706e5 00010800 7ffaf3bf afeafbff
RAW 0000000d.1 0000000f 00000348 00000000 00000000
RAW 0000000d.3 ffffffff fe3d3bce 00000000 ffffffff
"""


@pytest.mark.long
def test_an_area_of_more_than_4_gib_wraps_as_in_the_kernel() -> None:
    (snapshot,) = parse(WITH_A_HUGE_COMPONENT, "a made-up host")
    areas = {made.setup.host.raw.registers(0xD).ebx for made in completions(Setup.of(snapshot))}
    assert (0xFE3D3BCE + 0xFFFFFFFF) & 0xFFFFFFFF in areas
    assert resolve("host", host=snapshot, stack=Stack("7.3", "7.2")).warnings_not_told
