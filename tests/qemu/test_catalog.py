"""The catalogs of three QEMU releases hold together, and name what the real programs name."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from vcpuid.cpuid.words import MsrWord
from vcpuid.errors import QemuError
from vcpuid.live.qmp import Qmp
from vcpuid.qemu import catalog as tables
from vcpuid.qemu.catalog import HOST_MODELS, catalog
from vcpuid.releases import QEMUS, number

pytestmark = pytest.mark.parametrize("release", QEMUS)


def test_words_are_distinct_and_their_bits_fit(release: str) -> None:
    words = catalog(release).words
    assert len({row.word for row in words}) == len({row.name for row in words}) == len(words)
    for row in words:
        every = (row.migratable, row.no_auto, *(1 << position for position in row.names))
        assert all(mask >> row.word.width == 0 for mask in every), row.name


def test_words_are_spelled_as_the_release_logs_them(release: str) -> None:
    by_name = catalog(release).by_name
    old = number(release) < (10, 1)
    where = "CPUID.07H:EBX" if old else "CPUID[eax=07h,ecx=00h].EBX"
    assert by_name["FEAT_7_0_EBX"].describe(16) == f"{where}.avx512f [bit 16]"
    assert by_name["FEAT_1_ECX"].describe(11) == ("CPUID.01H:ECX [bit 11]" if old else "CPUID[eax=01h].ECX [bit 11]")
    assert by_name["FEAT_ARCH_CAPABILITIES"].describe(0) == ("MSR(10AH).rdctl-no [bit 0]" if old else "MSR(10Ah).rdctl-no [bit 0]")


def test_every_name_leads_somewhere(release: str) -> None:
    found = catalog(release)
    assert set(found.aliases.values()) <= set(found.flags) | set(found.properties)
    assert not set(found.flags) & set(found.properties)
    for dependency in found.dependencies:
        assert dependency.word in found.by_name
        assert dependency.needs in found.by_name
    for component in found.components:
        assert component.word in found.by_name
        assert component.size


def test_models_are_made_of_the_words_of_their_release(release: str) -> None:
    found = catalog(release)
    for model in found.models.values():
        assert model.name == f"{model.base}-v{model.version}"
        assert len(model.vendor) == 12
        assert len(model.model_id) <= 48
        assert set(model.props) <= set(found.properties)
        for name, mask in model.features.items():
            assert 0 < mask < 1 << found.by_name[name].word.width
            assert isinstance(found.by_name[name].word, MsrWord) or not mask >> 32


def test_aliases_follow_the_machine_type(release: str) -> None:
    found = catalog(release)
    newest, latest = tables.machine(release, "q35"), tables.machine(release, "microvm")
    assert found.resolve_model("EPYC", newest) == "EPYC-v1"
    last = max(model.version for model in found.models.values() if model.base == "EPYC")
    assert found.resolve_model("EPYC", latest) == f"EPYC-v{last}"
    assert found.resolve_model("EPYC-IBPB", newest) == found.resolve_model("EPYC-IBPB", latest) == "EPYC-v2"
    assert all(found.resolve_model(name, newest) == name for name in (*HOST_MODELS, "base"))
    with pytest.raises(QemuError, match=r"^unable to find CPU model 'EPYC-v99'$"):
        found.resolve_model("EPYC-v99", newest)


def test_machine_types_resolve(release: str) -> None:
    assert tables.resolve_machine(release, "q35") == f"pc-q35-{release}"
    assert tables.resolve_machine(release, "pc") == f"pc-i440fx-{release}"
    assert tables.is_pc("pc-q35-7.2")
    assert not tables.is_pc("microvm")
    for name, prefers in (("pc-q35-6.1", True), ("pc-q35-6.2", False)):
        if name in catalog(release).machine_names:
            assert tables.machine(release, name).prefers_sockets is prefers
    assert not tables.machine(release, "microvm").prefers_sockets
    with pytest.raises(QemuError, match="unsupported machine type"):
        tables.resolve_machine(release, "pc-q35-99.0")


def test_older_machine_types_set_more(release: str) -> None:
    assert tables.machine(release, "q35").compat == () == tables.machine(release, "microvm").compat
    some = ("pc-q35-2.6", "pc-q35-2.12", "pc-q35-6.0", "pc-q35-6.1", "pc-q35-9.0")
    names = [name for name in some if name in catalog(release).machine_names]
    settings = [tables.machine(release, name).compat for name in names]
    for older, newer in pairwise(settings):
        assert older[: len(newer)] == newer
    assert settings[0]
    if "pc-q35-6.0" in names and release != "6.0":
        assert ("x86_64-cpu", "x-vendor-cpuid-only", "off") in tables.machine(release, "pc-q35-6.0").compat


def test_caches_come_whole(release: str) -> None:
    found = catalog(release)
    for model in found.models.values():
        caches = tables.caches(release, model.name)
        if caches is None:
            assert model.cache is None
            continue
        assert [(row[0], row[1]) for row in caches] == [(1, 1), (2, 1), (3, 2), (3, 3)]
        # Type and level first, then bytes, bytes a line, ways, partitions and sets.
        for _, _, size, line, ways, partitions, sets, *_ in caches:
            assert model.cache == "legacy_intel_cpuid2_cache_info" or size == line * ways * partitions * sets, model.name


@pytest.mark.qemu
def test_the_installed_program_has_the_same_models_and_properties(release: str) -> None:
    with Qmp(accel="tcg") as qemu:
        version = "{major}.{minor}".format(**qemu.version["qemu"])
        if version != release:
            pytest.skip(f"the installed QEMU is {version}")
        definitions: list[dict[str, Any]] = qemu.ask("query-cpu-definitions")
        listed = {row["name"] for row in qemu.ask("qom-list-properties", typename="max-x86_64-cpu")}
        machines = {row["name"]: row for row in qemu.ask("query-machines")}
    found = catalog(release)
    assert {row["name"] for row in definitions} == {*found.models, *found.model_aliases, *HOST_MODELS, "base"}
    assert listed == {*found.flags, *found.aliases, *found.properties}
    for name in machines:
        if tables.is_pc(name) or name == "microvm":
            assert tables.max_cpus(release, name) == machines[name]["cpu-max"]
