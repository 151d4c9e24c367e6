"""Which CPU models a host can run, and what keeps it from the others: query-cpu-definitions of QEMU.

QEMU, target/i386/cpu.c (x86_cpu_definition_entry, x86_cpu_class_check_missing_features, x86_cpu_list_feature_names).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from vcpuid.cpuid.registers import Snapshot
from vcpuid.cpuid.words import positions
from vcpuid.kvm.answers import kvm_says
from vcpuid.params import Given
from vcpuid.qemu.catalog import Catalog, catalog
from vcpuid.qemu.catalog import machine as find_machine
from vcpuid.qemu.expand import Shape, expand
from vcpuid.qemu.filter import filter_features
from vcpuid.qemu.lacking import AskedModels, lacking, unpacked
from vcpuid.qemu.plan import plan
from vcpuid.qemu.realize import draw
from vcpuid.qemu.supported import supported
from vcpuid.qemu.unknown import hinting
from vcpuid.reasons import Unrecorded
from vcpuid.releases import Release
from vcpuid.setup import Setup, settled
from vcpuid.told.assumptions import Assumption, as_dicts, assumed
from vcpuid.told.completions import broad, nameless, untold
from vcpuid.told.facts import Fact

SCHEMA = "vcpuid/qemu-models/2"
"""The form of `report`."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A CPU model on a host: `alias_of` is the version that the name stands for on the machine type, None where it is one itself.

    `unavailable_features` are those that the host is certain to lack, as QEMU lists them, `not_told` those of which the host does not tell
    enough to say, and `depends` what it would have to tell.
    """

    name: str
    alias_of: str | None
    deprecated: bool
    unavailable_features: tuple[str, ...]
    not_told: tuple[str, ...] = ()
    depends: tuple[Fact, ...] = ()

    def __str__(self) -> str:
        runs = {True: "runs", False: f"lacks {' '.join(_once(self.unavailable_features))}", None: "not told"}[self.usable]
        return f"{self.name}: {runs}"

    @property
    def usable(self) -> bool | None:
        """Whether the host gives the model all of its features; None where that is not told."""
        return False if self.unavailable_features else None if self.depends or self.not_told else True

    def as_dict(self) -> dict[str, object]:
        """For JSON, and as a row of a data frame; what QEMU lists twice stands there once."""
        return {
            "model": self.name,
            "alias_of": self.alias_of,
            "runs": self.usable,
            "deprecated": self.deprecated,
            "missing": _once(self.unavailable_features),
            "not_told": _once(self.not_told),
            "depends": [fact.as_dict() for fact in self.depends],
        }


def _once(names: Sequence[str]) -> list[str]:
    """Name each feature once: QEMU lists a state that XSAVE keeps by the feature that has it, a bit each; a bit without a name has none."""
    return list(dict.fromkeys(filter(None, names)))


def report(found: Sequence[ModelInfo], setup: Setup, assumes: Mapping[Assumption, Sequence[str]]) -> dict[str, object]:
    """Put what `models` and `assumes` found into a document for programs."""
    rows = [model.as_dict() for model in found]
    told = {"schema": SCHEMA, "setup": setup.as_dict(), "remarks": list(setup.remarks), "models": rows}
    return {**told, "assumes": as_dicts(assumes)}


def models(
    host: Snapshot | Setup,
    qemu: str | Release | None = None,
    machine: str = "q35",
    *,
    kernel: str | Release | None = None,
    params: Given | None = None,
    xcr0: int | None = None,
) -> list[ModelInfo]:
    """List every model of a QEMU with the features that the host lacks, by name; "base", "host" and "max" come last.

    `host` is a snapshot, or a Setup, which holds QEMU's release, the machine type and all else. Where it has no SUP lines they are
    modelled for `kernel` (by default the snapshot's own) and its `params`; `xcr0` is as in `Supported`. Raises QemuError for an unknown
    machine type.
    """
    setup = settled(host, kernel=kernel, qemu=qemu, machine=machine, params=params, observed=True)
    release = setup.vmm.tables
    with hinting(None, setup):
        tables, described = catalog(release), find_machine(release, setup.machine)
    missing = _lacking(setup, xcr0)
    hanging = _hanging(setup, missing, asked=xcr0 is not None)
    found = []
    for name, filtered in missing.items():
        alias = tables.resolve_model(name, described) if name in tables.model_aliases and described.versions != "legacy" else None
        model = tables.models.get(tables.resolve_model(name, described))
        open_, facts = hanging.get(name, (_NOTHING, ()))
        certain = {word: mask & ~open_.get(word, 0) for word, mask in filtered.items()}
        deprecated = model is not None and model.deprecated
        found.append(ModelInfo(name, alias, deprecated, names_of(tables, certain), names_of(tables, open_), facts))
    return found


def assumes(found: Sequence[ModelInfo], setup: Setup, xcr0: int | None = None) -> dict[Assumption, tuple[str, ...]]:
    """Return the assumptions on which it rests what models lack, each with their names; of what `models` found not told it says nothing."""

    def answer(other: Setup) -> Mapping[str, object]:
        return _lacking(other, xcr0 if other is setup or xcr0 is None else kvm_says(other).xcr0)

    return assumed(setup, answer, {model.name for model in found if model.depends})


_NOTHING: Mapping[str, int] = {}


def _lacking(setup: Setup, xcr0: int | None) -> dict[str, Mapping[str, int]]:
    """Return what the host lacks of every model, as masks on QEMU's feature words."""
    release, kvm = setup.vmm.tables, kvm_says(setup)
    tables, described = catalog(release), find_machine(release, setup.machine)
    asked = AskedModels(tables, setup.machine, described, tuple(sorted((*tables.models, *tables.model_aliases))), setup.globals)
    able = supported(tables, described, kvm, Unrecorded(), xcr0)
    found: dict[str, Mapping[str, int]] = {name: unpacked(tables, missing) for name, missing in lacking(asked, able, kvm.vendor)}
    for name in ("base", "host", "max"):
        draft = draw(plan(release, setup.machine, name, setup.globals), tables, described, kvm, xcr0, Unrecorded())
        expand(draft, Shape())
        filter_features(draft, verbose=False)
        found[name] = draft.filtered
    return found


def _hanging(setup: Setup, missing: Mapping[str, Mapping[str, int]], *, asked: bool) -> dict[str, tuple[dict[str, int], tuple[Fact, ...]]]:
    """Return what the host lacks of each model or not by facts that are not told, and the facts; `asked`: by the XCR0 that KVM tells of."""
    if blind := nameless(setup.host):
        return {name: (dict(filtered), blind) for name, filtered in missing.items()}
    found: dict[str, dict[str, int]] = {name: {} for name in missing}
    facts: dict[str, dict[Fact, None]] = {name: {} for name in missing}
    for completion in broad(setup):
        xcr0 = kvm_says(completion.setup).xcr0 if asked else None
        for name, filtered in _lacking(completion.setup, xcr0).items():
            for word in {*filtered, *missing[name]}:
                if changed := filtered.get(word, 0) ^ missing[name].get(word, 0):
                    found[name][word] = found[name].get(word, 0) | changed
                    if len(completion.facts) == 1 and completion.against is None:
                        facts[name].update(dict.fromkeys(completion.facts))
    every = untold(setup)  # where no fact alone makes a difference, several do together
    return {name: (masks, tuple(facts[name]) or every) for name, masks in found.items() if masks}


def names_of(tables: Catalog, filtered: Mapping[str, int]) -> tuple[str, ...]:
    """Name bits as QEMU does: XSAVE components by the feature that has them, and nothing for bits without a name."""
    users = _component_users(tables)
    names = []
    for word in tables.words:
        for position in positions(filtered[word.name]) if word.name in filtered else ():
            component = position + 32 if word.name == "FEAT_XSAVE_XCR0_HI" else position
            known = users.get(component) if word.name.startswith("FEAT_XSAVE_XCR0") else None
            names.append(known or word.names.get(position, ""))
    return tuple(names)


@cache
def _component_users(tables: Catalog) -> dict[int, str]:
    users: dict[int, str] = {}
    for component, name, mask, _ in tables.components:
        users.setdefault(component, tables.by_name[name].names[(mask & -mask).bit_length() - 1])
    return users
