"""What real QEMUs 5.2 to 11.1 answered to libvirt's authors over QMP, in libvirt's qemucapabilitiesdata.

Those of 6.2 to 10.0 are read in place with VCPUID_PEERS; of 5.2, 6.0 and 6.1, which libvirt has dropped since, captures/replies.json.gz
has the facts, and of 10.1 and newer captures/capabilities.json.gz, taken from what libvirt made of the answers (oracle/replies.py). Each
file is a dialogue with one QEMU on one machine: under KVM, then under TCG. The tables of most of these releases were read off the source
alone, so here they meet the programs: what properties CPUs have, which models there are and what they stand for, which machine types, what
"max" is under TCG, and what each model lacks, under KVM on that machine and under TCG. The machines' CPUID is not told; what their KVM
supports is taken from the expansion of host with all that cannot be migrated, and must explain the expansion without it and what some 130
models lack.
"""

from __future__ import annotations

import gzip
import json
import re
from functools import cache
from typing import Any, NamedTuple

import pytest

from oracle.replies import facts
from support.captures import CAPTURES
from support.peers import REPLIES, members
from vcpuid import Setup, Stack, qemu
from vcpuid.cpuid import CpuidTable, Snapshot, xfeatures
from vcpuid.cpuid.vendors import AMD, INTEL
from vcpuid.errors import NotKnownError
from vcpuid.qemu import tcg
from vcpuid.qemu.catalog import HOST_MODELS, Catalog, catalog, machine
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.models import names_of
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw_on
from vcpuid.qemu.supported import LEAVES, Supported
from vcpuid.reasons import Unrecorded

EARLIER, LATEST = (
    json.loads(gzip.decompress((CAPTURES / file).read_bytes()))["replies"] for file in ("replies.json.gz", "capabilities.json.gz")
)
KEPT: dict[str, list[list[Any]]] = {**EARLIER, **LATEST}
THEIRS = sorted(name for name in members(REPLIES) if name.endswith(".replies"))

LATER, LATER_IN_TCG = {"10.0": ("YongFeng-v2",)}, {"10.0": {"cmp-legacy"}}
"""Models, and features of TCG, that came with a stable update: the table of 10.0 is of 10.0.13, the replies are 10.0.0's."""

_SUPERVISOR = xfeatures.CET | xfeatures.LBR
_MADE_UP = ("rdctl-no", "skip-l1dfl-vmentry", "mds-no", "pschange-mc-no", "gds-no", "rfds-no", "its-no")
"""What KVM makes up of IA32_ARCH_CAPABILITIES for an AMD processor, which has no such MSR (kvm_get_arch_capabilities)."""
_HIDDEN: tuple[tuple[tuple[int, int], tuple[str, ...], tuple[str, ...]], ...] = (
    ((0, 0), (AMD, INTEL), ("topoext",)),
    ((9, 1), (INTEL,), ("overflow-recov", "succor")),
    ((10, 1), (AMD,), _MADE_UP),
    ((10, 2), (AMD,), ("arch-capabilities",)),
)
"""What an expansion of host does not show though the host supports it: since which QEMU, of which vendors. topoext has to be asked for; of
the others CPUs of this vendor get none. 10.1 itself, other than the next ones, has no arch-capabilities for any CPU on AMD's hosts."""
_NO_FEATURE = "lmce"
"""The one switch of a static expansion that is no feature in CPUID or in an MSR of features."""
_IDENTITY = ("vendor", "family", "model", "stepping", "model-id")


class Reply(NamedTuple):
    """A command with its arguments, and what is compared of what it returned."""

    command: str
    arguments: dict[str, Any]
    value: Any


def release_of(name: str) -> str:
    return ".".join(re.findall(r"\d+", name)[:2])


def origin(name: str) -> dict[str, str | None]:
    vendor = host_of(name).get("vendor") if under_kvm(name) else None
    return {"kernel": None, "qemu": release_of(name), "vendor": vendor}


@cache
def replies(name: str) -> list[Reply]:
    return [Reply(*row) for row in (KEPT[name] if name in KEPT else facts(members(REPLIES)[name]))]


def answers(name: str, command: str) -> list[Any]:
    return [reply.value for reply in replies(name) if reply.command == command]


def under_kvm(name: str) -> bool:
    return bool(answers(name, "query-kvm")[0]["enabled"])


def under_tcg(name: str) -> bool:
    return len(answers(name, "query-cpu-definitions")) > 1


def expansion(name: str, model: str, migratable: bool) -> dict[str, Any]:
    """The static expansion of "host" or "max", with what cannot be migrated or without."""
    wanted = {"name": model, **({} if migratable else {"props": {"migratable": False}})}
    for reply in replies(name):
        if reply.command == "query-cpu-model-expansion" and reply.arguments == {"type": "static", "model": wanted}:
            found: dict[str, Any] = reply.value["model"]["props"]
            return found
    raise AssertionError(name)


def host_of(name: str, migratable: bool = False) -> dict[str, Any]:
    return expansion(name, "host", migratable)


_WITHOUT = pytest.param("", marks=pytest.mark.skip(reason="needs libvirt's replies of QEMUs in the folder that VCPUID_PEERS names"))

pytestmark = pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=pytest.mark.conformance("earlier QEMU told libvirt", origin)) for name in EARLIER),
        *(pytest.param(name, marks=pytest.mark.conformance("QEMU told libvirt", origin)) for name in THEIRS),
        *(pytest.param(name, marks=pytest.mark.conformance("latest QEMU told libvirt", origin)) for name in LATEST),
        *(() if THEIRS else (_WITHOUT,)),
    ],
)


class Told(Supported):
    """What a host supports, as an expansion of host tells it."""

    __slots__ = ()

    def __init__(self, tables: Catalog, props: dict[str, Any]) -> None:
        self._leaves = tuple(CpuidTable().registers(*place) for place in LEAVES)
        self.words = {word.name: 0 for word in tables.words}
        hidden = {name for since, vendors, names in _HIDDEN if tables.number >= since and props["vendor"] in vendors for name in names}
        for name, (word, mask) in tables.flags.items():
            if props.get(name) is True or name in hidden:
                self.words[word] |= mask
        components = xfeatures.LEGACY | xfeatures.AVX
        for component in tables.components:
            if self.words[component.word] & component.mask:
                components |= 1 << component.number
        for word, value in (("FEAT_XSAVE_XCR0_LO", components & ~_SUPERVISOR), ("FEAT_XSAVE_XSS_LO", components & _SUPERVISOR)):
            if word in self.words:
                self.words[word] = value


def drafted(name: str, cpu: str, **of_host: Any) -> Draft:
    release, props = release_of(name), host_of(name)
    tables, found = catalog(release), machine(release, "q35")
    given = {"vendor": props["vendor"], **of_host}
    draft = draw_on(plan(release, "q35", cpu), tables, found, Told(tables, props), given, Unrecorded())
    expand(draft, Shape())
    return draft


def test_cpus_have_the_properties_that_qemu_lists(name: str) -> None:
    if name in LATEST:
        pytest.skip("libvirt's summary has no list of properties")
    tables = catalog(release_of(name))
    listed = next(
        {row["name"]: row for row in reply.value}
        for reply in replies(name)
        if reply.command == "qom-list-properties" and reply.arguments["typename"] == "max-x86_64-cpu"
    )
    assert {*tables.properties, *tables.flags, *tables.aliases} == set(listed)
    for prop, ours in tables.properties.items():
        assert ours.type == listed[prop]["type"], prop
        if "default-value" in listed[prop]:
            assert ours.default == listed[prop]["default-value"], prop


def test_features_are_those_that_an_expansion_names(name: str) -> None:
    features = {*catalog(release_of(name)).flags, _NO_FEATURE}
    for reply in replies(name):
        if reply.command == "query-cpu-model-expansion" and reply.arguments["type"] == "static":
            assert {prop for prop, value in reply.value["model"]["props"].items() if isinstance(value, bool)} == features


def test_models_are_those_that_qemu_lists(name: str) -> None:
    tables = catalog(release_of(name))
    listed = {row["name"]: row for row in answers(name, "query-cpu-definitions")[0]}
    known = {*tables.models, *tables.model_aliases, *HOST_MODELS, "base"}
    assert set(listed) <= known
    assert known - set(listed) <= {"host", *LATER.get(release_of(name), ())}  # host is there with KVM alone
    for model, row in listed.items():
        if "alias-of" in row:
            assert tables.resolve_model(model, machine(release_of(name), "q35")) == row["alias-of"]
        elif model in tables.models:
            assert tables.models[model].deprecated is row["deprecated"], model


def test_machine_types_are_those_that_qemu_lists(name: str) -> None:
    release = release_of(name)
    listed = {row["name"]: row for row in answers(name, "query-machines")[0]}
    known = catalog(release).machine_names
    for unknown in set(listed) - set(known):
        with pytest.raises(NotKnownError, match=rf"^not known here: the machine type {unknown}"):
            qemu.models(Setup.of(Snapshot(CpuidTable()), Stack(qemu=release, machine=unknown)))
    assert set(known) <= set(listed)
    for full, alias in known.items():
        assert listed[full].get("alias") == alias
        assert listed[full]["cpu-max"] == machine(release, full).max_cpus


def test_host_expands_to_what_can_be_migrated(name: str) -> None:
    if not under_kvm(name):
        pytest.skip("this QEMU had no KVM")
    draft = drafted(name, "host", migratable=True, pmu=True, **{"min-level": 0x1F, "min-xlevel": 0x80000008, "min-xlevel2": 0})
    theirs = host_of(name, migratable=True)
    for flag, (word, mask) in draft.catalog.flags.items():
        assert (draft.features[word] & mask == mask) is theirs[flag], flag


def test_what_each_model_lacks_on_the_host(name: str) -> None:
    if not under_kvm(name):
        pytest.skip("this QEMU had no KVM")
    for row in answers(name, "query-cpu-definitions")[0]:
        if row["name"] not in HOST_MODELS:
            draft = drafted(name, row["name"])
            filter_features(draft, verbose=False)
            assert list(names_of(draft.catalog, draft.filtered)) == row["unavailable-features"], row["name"]


def test_what_each_model_lacks_under_tcg(name: str) -> None:
    if not under_tcg(name):
        pytest.skip("what this QEMU said under TCG is not at hand")
    for row in answers(name, "query-cpu-definitions")[1]:
        if row["name"] != "host":
            made, _ = tcg.realized(release_of(name), "q35", row["name"])
            assert list(names_of(made.catalog, made.filtered)) == row["unavailable-features"], row["name"]


def test_what_max_is_under_tcg(name: str) -> None:
    if not under_tcg(name):
        pytest.skip("what this QEMU said under TCG is not at hand")
    release = release_of(name)
    for migratable in (True, False):
        theirs = expansion(name, "max", migratable)
        made, _ = tcg.realized(release, "q35", f"max,migratable={'on' if migratable else 'off'}")
        differing = {flag for flag, (word, mask) in made.catalog.flags.items() if (made.features[word] & mask == mask) is not theirs[flag]}
        assert differing == LATER_IN_TCG.get(release, set())
        assert {prop: made.props[prop] for prop in _IDENTITY}.items() <= theirs.items()
