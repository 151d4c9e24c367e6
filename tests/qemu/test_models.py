"""Which models a host can run: by law on captured hosts, and against the installed QEMU on this machine's KVM."""

from __future__ import annotations

import pytest

import vcpuid
from support.qemu_captures import qemu_host
from vcpuid.errors import QemuError
from vcpuid.live.qmp import Qmp
from vcpuid.qemu.models import models
from vcpuid.qemu.realize import realize
from vcpuid.releases import QEMUS


@pytest.mark.parametrize("release", QEMUS)
@pytest.mark.parametrize("name", ["tcg/EPYC-Genoa-v1@7.3", "bochs/sapphire_rapids-gnr@7.3", "bochs/core2_penryn_t9600@6.12"])
def test_what_is_unavailable_is_what_a_start_would_warn_of(name: str, release: str) -> None:
    for model in models(qemu_host(name), release):
        warned = [w for w in realize(model.name, qemu_host(name), release).warnings if "[bit " in w]
        assert len(warned) == len(model.unavailable_features), model.name
        assert model.usable is not bool(warned)
        named = [feature for feature in model.unavailable_features if feature and f".{feature} [" not in "\n".join(warned)]
        assert all(feature in ("xsave", "avx", "mpx", "avx512f", "pku", "amx-tile") for feature in named)  # their XSAVE components


def test_host_and_max_can_always_run() -> None:
    found = {model.name: model for model in models(qemu_host("bochs/core2_penryn_t9600@6.12"), "10.0")}
    assert found["host"].usable
    assert found["max"].usable
    assert found["base"].usable
    assert "avx2" in found["Haswell-v4"].unavailable_features
    assert found["Haswell"].alias_of == "Haswell-v1"
    assert found["Haswell-v1"].alias_of is None
    assert {model.alias_of for model in models(qemu_host("bochs/core2_penryn_t9600@6.12"), "10.0", "pc-i440fx-4.0")} == {None}


def test_an_unknown_machine_type_is_refused() -> None:
    with pytest.raises(QemuError, match="unsupported machine type"):
        models(qemu_host("tcg/EPYC-Genoa-v1@7.3"), "7.2", "pc-q35-9.2")


@pytest.mark.kvm
@pytest.mark.qemu
@pytest.mark.x86
@pytest.mark.parametrize("machine", ["q35", "microvm", "pc-q35-6.0"])
def test_the_installed_qemu_lists_the_same(machine: str) -> None:
    with Qmp(machine=machine) as qemu:
        release = "{major}.{minor}".format(**qemu.version["qemu"])
        if release not in QEMUS:
            pytest.skip(f"no tables of the installed QEMU {release}")
        asked = {row["name"]: row for row in qemu.ask("query-cpu-definitions")}
    found = {model.name: model for model in models(vcpuid.read("kvm"), release, machine)}
    assert found.keys() == asked.keys()
    for name, row in asked.items():
        model = found[name]
        theirs = (row.get("alias-of"), row.get("deprecated", False), tuple(row["unavailable-features"]))
        assert (model.alias_of, model.deprecated, model.unavailable_features) == theirs, name
