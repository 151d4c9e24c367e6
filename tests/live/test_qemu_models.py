"""The installed QEMU on this machine's KVM, asked in its monitor about every model: the same answers as ours, name by name.

VCPUID_QEMU may hold another command that starts a QEMU (words are split as a shell does).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

import vcpuid
from vcpuid import releases
from vcpuid.cpuid import Snapshot
from vcpuid.live.qmp import DEFAULT_PROGRAM, Qmp
from vcpuid.qemu import models, realize
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.expansion import expansion

pytestmark = [pytest.mark.kvm, pytest.mark.qemu]

PROGRAM = shlex.split(os.environ.get("VCPUID_QEMU", "")) or DEFAULT_PROGRAM
OF_ANY_DEVICE = ("realized", "memory", "start-powered-off")
EXPANDED = ("max", "host", "base", "qemu64", "Skylake-Server", "EPYC-Milan-v1", "Denverton-v2", "486", "athlon")
REALIZED = (
    "host,-arch-capabilities", "max,-arch-capabilities,-avx2,+svm", "host,-arch-capabilities,migratable=off", "EPYC,+invtsc,-xsave", "base",
    "qemu64,+avx512f,+vmx", "Skylake-Server-v4", "Denverton-v2,-arch-capabilities", "athlon,+3dnow", "486", "kvm32,vendor=GenuineIntel",
)  # fmt: skip
"""Without arch-capabilities: not every KVM lets QEMU set the MSR behind it, and then no guest starts."""


@pytest.fixture(scope="module", params=["q35", "pc", "microvm"])
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def monitor(machine: str) -> Iterator[Qmp]:
    with Qmp(PROGRAM, machine=machine) as qemu:
        yield qemu


@pytest.fixture(scope="module")
def release(monitor: Qmp) -> str:
    asked = "{major}.{minor}".format(**monitor.version["qemu"])
    if asked not in releases.QEMUS:
        pytest.skip(f"there are no tables of QEMU {asked}")
    return asked


@pytest.fixture(scope="module")
def host() -> Snapshot:
    return vcpuid.read("kvm")


@pytest.mark.conformance("live models")
def test_every_model_lacks_what_qemu_says(monitor: Qmp, machine: str, release: str, host: Snapshot) -> None:
    listed = {model.name: (model.alias_of, model.deprecated, list(model.unavailable_features)) for model in models(host, release, machine)}
    answered = monitor.ask("query-cpu-definitions")
    assert listed == {row["name"]: (row.get("alias-of"), row["deprecated"], row["unavailable-features"]) for row in answered}


@pytest.mark.conformance("live expansions")
@pytest.mark.parametrize("model", EXPANDED)
def test_models_expand_to_the_same_properties(monitor: Qmp, machine: str, release: str, host: Snapshot, model: str) -> None:
    expanded = monitor.expand(model)
    assert expansion(model, host, release, machine) == {name: expanded[name] for name in expanded if name not in OF_ANY_DEVICE}


@pytest.mark.conformance("live expansions")
@pytest.mark.parametrize("switched", [{"avx2": False}, {"pmu": True, "xsave": False}, {"level": 0xB, "svm": True}])
def test_properties_change_an_expansion_alike(monitor: Qmp, machine: str, release: str, host: Snapshot, switched: dict[str, Any]) -> None:
    expanded = monitor.expand("max", switched)
    settings = (f"{name}={value if type(value) is int else 'on' if value else 'off'}" for name, value in switched.items())
    ours = expansion(",".join(["max", *settings]), host, release, machine)
    assert ours == {name: expanded[name] for name in expanded if name not in OF_ANY_DEVICE}


@pytest.mark.long
@pytest.mark.conformance("live realized")
@pytest.mark.parametrize("cpu", REALIZED)
def test_a_guest_has_the_same_features(machine: str, release: str, host: Snapshot, cpu: str) -> None:
    flags = catalog(release).flags
    with Qmp(PROGRAM, machine=machine, cpu=cpu) as qemu:
        path = qemu.ask("query-cpus-fast")[0]["qom-path"]
        theirs = {name: qemu.ask("qom-get", path=path, property=name) for name in flags}
    features = realize(cpu, host, release, machine).features
    assert {name: features[flag.word] & flag.mask == flag.mask for name, flag in flags.items()} == theirs
