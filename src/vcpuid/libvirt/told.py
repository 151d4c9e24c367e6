"""What QEMU tells libvirt when that asks for its capabilities, worked out by `vcpuid.qemu`.

libvirt starts QEMU with -machine none (virQEMUCapsProbeQMPHostCPU and virQEMUCapsProbeQMPCPUDefinitions, src/qemu/qemu_capabilities.c). It
asks for the static expansion of "host" with migratable=on and off, for what each model lacks, and for what hv-passthrough brings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.text import characters
from vcpuid.kvm.answers import Answers, kvm_says
from vcpuid.libvirt.cpu_map import CpuMap
from vcpuid.libvirt.names import from_qemu
from vcpuid.qemu import hyperv
from vcpuid.qemu.catalog import Catalog, MachineType, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.draft import Draft
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.lacking import AskedModels, lacking, packed, unpacked
from vcpuid.qemu.models import names_of
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw_on, host_properties
from vcpuid.qemu.supported import Supported, host_signature, supported
from vcpuid.reasons import Unrecorded
from vcpuid.setup import SHARED, Setup

MACHINE = "q35"
"""Whose names of models without a version are those of -machine none."""
OTHERS = ("max", "host", "base")
"""What is no model of its own; it stands first in QEMU's list."""

_ALWAYS_ON = "x-arch-cap-always-on"
"""The property without which QEMU gives no AMD guest IA32_ARCH_CAPABILITIES."""


class ModelOffer(NamedTuple):
    """A model of QEMU's on this host; `blockers` are the features that keep it from running, in QEMU's order and libvirt's spelling."""

    blockers: tuple[str, ...]
    deprecated: bool = False

    @property
    def usable(self) -> bool:
        """Whether QEMU says that it runs."""
        return not self.blockers


class HypervOffer(NamedTuple):
    """The enlightenments that the host can give, by QEMU's names, and the values that go with them."""

    flags: frozenset[str]
    spinlocks: int
    vendor: str


NO_HYPERV = HypervOffer(frozenset(), 0xFFFFFFFF, "")
"""What QEMU tells where KVM has no Hyper-V: its own defaults, of which libvirt takes those that are no switches for offers."""


@dataclass(frozen=True, eq=False, slots=True)
class QemuTold:
    """QEMU's answers; hosts that are the same to QEMU share them.

    `names` are the features that it knows, `features` those of the host's CPU, `migratable` those without invtsc, and `supported` features
    that the host's CPU lacks only because QEMU gives them to no guest by itself.
    """

    names: frozenset[str]
    features: int
    migratable: int
    vendor: str
    signature: tuple[int, int, int]
    offers: Mapping[str, ModelOffer]
    hyperv: HypervOffer | None = None
    supported: int = 0


@lru_cache(maxsize=64)
def flags_of(tables: Catalog, known: CpuMap, *, aliases: bool) -> dict[str, tuple[tuple[int, int], ...]]:
    """Return by QEMU's feature word which mask of it is which feature of libvirt's; on request those of QEMU's aliases as well."""
    found: dict[str, list[tuple[int, int]]] = {}
    names = {name: name for name in tables.flags} | (tables.aliases if aliases else {})
    for spelled, name in names.items():
        feature = known.mask(from_qemu(spelled))
        if feature and name in tables.flags:
            word, mask = tables.flags[name]
            found.setdefault(word, []).append((mask, feature))
    return {word: tuple(pairs) for word, pairs in found.items()}


def features_in(words: Mapping[str, int], tables: Catalog, known: CpuMap, *, aliases: bool = False) -> int:
    """Return QEMU's feature words as a set of libvirt's features."""
    found = 0
    for word, pairs in flags_of(tables, known, aliases=aliases).items():
        if value := words.get(word):
            for mask, feature in pairs:
                if value & mask == mask:
                    found |= feature
    return found


def tell(setup: Setup, known: CpuMap, xcr0: int | None = None) -> QemuTold:
    """Work out what QEMU tells on a host; `xcr0` is as in `vcpuid.qemu.supported.Supported`."""
    tables, says = catalog(setup.vmm.tables), kvm_says(setup)
    able = supported(tables, _nowhere(tables.release), says, Unrecorded(), xcr0)
    return _told(tables, known, SeenByQemu(able, says.vendor, host_signature(says), _hyperv(says, tables)))


class SeenByQemu(NamedTuple):
    """All that QEMU's answers hang on of a host: what it supports, who made it, which one it is, what KVM has of Hyper-V."""

    able: Supported
    vendor: str
    signature: tuple[int, int, int]
    hyperv: HypervOffer | None


@lru_cache(maxsize=SHARED)
def _told(tables: Catalog, known: CpuMap, seen: SeenByQemu) -> QemuTold:
    """Ask QEMU of hosts that are the same to it: most of those that one could be are."""
    host, kept = (_expanded(tables, seen, cpu) for cpu in ("host,migratable=off", "host"))
    found = of_drafts(host, kept, tables, known, _offers(tables, seen))
    supported_ = 0
    if _ALWAYS_ON in tables.properties:
        whole = _expanded(tables, seen, "host,migratable=off,arch-capabilities=on")
        supported_ = features_in(whole.features, tables, known) & ~found.features
    return replace(found, hyperv=seen.hyperv, supported=supported_)


def of_drafts(host: Draft, kept: Draft, tables: Catalog, known: CpuMap, offers: Iterable[tuple[str, ModelOffer]]) -> QemuTold:
    """Put together what QEMU tells by the CPU that has all that the host can give, and by the one that can be migrated as well."""
    features, props = features_in(host.features, tables, known), host.props
    return QemuTold(
        names=frozenset(map(from_qemu, tables.flags)),
        features=features,
        migratable=features & features_in(kept.features, tables, known),
        vendor=str(props["vendor"]),
        signature=(int(props["family"]), int(props["model"]), int(props["stepping"])),
        offers=FrozenMap(offers),
    )


def names_of_models(tables: Catalog) -> Iterator[str]:
    """Give the names of QEMU's models in the order in which it lists them: the last name first."""
    yield from (*OTHERS, *sorted((*tables.models, *tables.model_aliases), reverse=True))


def _expanded(tables: Catalog, seen: SeenByQemu, cpu: str) -> Draft:
    """Complete a CPU that is no model of QEMU's own."""
    found, machine = plan(tables.release, MACHINE, cpu), _nowhere(tables.release)
    of_host = host_properties(seen.signature, "", seen.able, tables.number) if found.model != "base" else {}
    if found.model != "base" or tables.number >= (10, 1):
        of_host["vendor"] = seen.vendor
    draft = draw_on(found, tables, machine, seen.able, of_host, Unrecorded())
    expand(draft, Shape())
    return draft


@lru_cache(maxsize=16)
def _nowhere(release: str) -> MachineType:
    """Return -machine none, as far as it matters here: it is no PC."""
    return replace(find_machine(release, MACHINE), name="none")


def _offers(tables: Catalog, seen: SeenByQemu) -> Iterator[tuple[str, ModelOffer]]:
    """Give QEMU's models in its order."""
    machine, asked = find_machine(tables.release, MACHINE), AskedModels(tables, MACHINE, _nowhere(tables.release), tuple(tables.models))
    offers = {name: _offer(tables, missing, tables.models[name].deprecated) for name, missing in lacking(asked, seen.able, seen.vendor)}
    for name in OTHERS:
        draft = _expanded(tables, seen, name)
        filter_features(draft, verbose=False)
        offers[name] = _offer(tables, packed(tables, draft.filtered), deprecated=False)
    for name in names_of_models(tables):
        yield name, offers[name if name in offers else tables.resolve_model(name, machine)]


@lru_cache(maxsize=4096)
def _offer(tables: Catalog, missing: int, deprecated: bool) -> ModelOffer:
    """Name the features that keep a model from running."""
    return ModelOffer(tuple(map(from_qemu, names_of(tables, unpacked(tables, missing)))), deprecated)


def _hyperv(says: Answers, tables: Catalog) -> HypervOffer | None:
    """Return what hv-passthrough brings; None where KVM has no Hyper-V."""
    props: dict[str, Any] = {"hv-passthrough": True}
    found = hyperv.expand(props, says.hyperv, tables.number)
    if found is None:
        return None
    ebx, ecx, edx = found.vendor
    return HypervOffer(found.flags, found.spinlocks, characters(ebx, ecx, edx).rstrip("\0"))
