"""Which of QEMU's named models run on which members of a fleet, and what each lacks where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from vcpuid.fleet.members import Census, Group, hosts_of, spoken
from vcpuid.fleet.software import eldest, remarks, settled
from vcpuid.fleet.words import count, worthwhile
from vcpuid.kvm.answers import kvm_says
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.models import ModelInfo, models
from vcpuid.setup import Setup, Stack


class OnClass(NamedTuple):
    """A model on a class: whether it runs (None: not told), and the features that the class is certain to lack."""

    group: Group
    runs: bool | None
    missing: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**self.group.as_dict(), "runs": self.runs, "missing": list(self.missing)}


@dataclass(frozen=True)
class NamedModel:
    """A version of a model with its other names, how many features it has, and what becomes of it on each class."""

    name: str
    aliases: tuple[str, ...]
    deprecated: bool
    features: int
    classes: tuple[OnClass, ...]

    @property
    def hosts(self) -> int:
        """How many hosts run it."""
        denied = {one.group.kind.id for one in self.classes if not one.runs}
        return hosts_of(one.group for one in self.classes if one.group.kind.id not in denied)

    @property
    def runs(self) -> bool | None:
        """Whether all do; None where that is not told of some, and no other denies it."""
        told = [one.runs for one in self.classes]
        return False if False in told else None if None in told else True

    @property
    def lacks(self) -> tuple[tuple[tuple[str, ...], tuple[Group, ...]], ...]:
        """The features that some lack, with all who lack just these."""
        found: dict[tuple[str, ...], list[Group]] = {}
        for one in self.classes:
            if one.missing:
                found.setdefault(one.missing, []).append(one.group)
        return tuple((missing, tuple(groups)) for missing, groups in found.items())

    @property
    def open(self) -> tuple[Group, ...]:
        """The classes of which it is not told."""
        return tuple(one.group for one in self.classes if one.runs is None)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "model": self.name,
            "aliases": list(self.aliases),
            "deprecated": self.deprecated,
            "features": self.features,
            "runs": self.runs,
            "hosts": self.hosts,
            "classes": [one.as_dict() for one in self.classes],
        }


@dataclass(frozen=True)
class NamedModels:
    """The models, best first: that of the most hosts, of those the one with the most features."""

    census: Census
    setups: tuple[Setup, ...]
    models: tuple[NamedModel, ...]

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "schema": "vcpuid/fleet-models/1",
            "vmm": eldest(self.setups).vmm.as_dict(),
            "machine": self.setups[0].machine,
            "remarks": list(remarks(self.census, self.setups)),
            **self.census.as_dict(),
            "models": [model.as_dict() for model in self.models],
        }

    def who(self, model: NamedModel) -> str:
        """Say who lacks what of a model, and of whom it is not told."""
        told = [f"{spoken(groups)}: {' '.join(missing)}" for missing, groups in model.lacks]
        return "; ".join((*told, *([f"{spoken(model.open)}: not told"] if model.open else [])))


def named_models(census: Census, stack: Stack | None = None) -> NamedModels:
    """Hold every named model of a QEMU against every class; `stack` and errors as for a baseline."""
    setups = settled(census, stack)
    tables = catalog(eldest(setups).vmm.tables)
    on_each = [{model.name: model for model in models(setup, xcr0=kvm_says(setup).xcr0)} for setup in setups]
    aliases: dict[str, list[str]] = {}
    for model in on_each[0].values():
        if model.alias_of is not None:
            aliases.setdefault(model.alias_of, []).append(model.name)
    found = [
        NamedModel(
            name,
            tuple(aliases.get(name, ())),
            model.deprecated,
            count(worthwhile(model.features)),
            tuple(_on(group, told[name]) for group, told in zip(census.cores, on_each, strict=True)),
        )
        for name, model in tables.models.items()
        if all(name in told for told in on_each)  # a newer QEMU may have let go of it
    ]
    found.sort(key=lambda model: (-model.hosts, model.deprecated, -model.features, model.name))
    return NamedModels(census, setups, tuple(found))


def _on(group: Group, model: ModelInfo) -> OnClass:
    return OnClass(group, model.usable, tuple(dict.fromkeys(model.unavailable_features)))  # QEMU names a feature for its state too
