"""What a QEMU release brings along: feature words, properties, CPU models and their caches, machine types.

The tables are data/qemu-RELEASE.json, written by tools/qemu_catalog.py. Machine types that distributions added are in
data/qemu-distributions.json, written by tools/qemu_distributions.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

from vcpuid import data
from vcpuid.cpuid.words import MsrWord
from vcpuid.errors import QemuError
from vcpuid.qemu import machine_option, messages
from vcpuid.qemu.kept import kept
from vcpuid.qemu.machine_option import MachineKind, MachineOptions
from vcpuid.qemu.words import FeatureWord, read
from vcpuid.releases import number

TYPE_SUFFIX = "-x86_64-cpu"
"""Ends the name of every CPU type of qemu-system-x86_64."""

HOST_MODELS = frozenset({"host", "max"})
"""Models that take every feature the host can give."""

_DEFAULT_MACHINE = "pc"
"""What QEMU takes where -machine names no type."""

_CACHE_TYPES = {"data": 1, "instruction": 2, "unified": 3}
_CACHE_FIELDS = ("level", "size", "line_size", "associativity", "partitions", "sets", "lines_per_tag", "self_init")
_SHARED = {1: "core", 2: "core", 3: "die"}  # QEMU 7.2's caches do not say; its encoders assume this
_CACHE_FLAGS = ("no_invd_sharing", "inclusive", "complex_indexing")


class Flag(NamedTuple):
    """A feature property: the feature word it is in, and its bits there (kvmclock has two)."""

    word: str
    mask: int


class Property(NamedTuple):
    """A property that is not a feature: its type by QEMU's name, its default, and whether only "max" and "host" have it."""

    type: str
    default: Any
    host_only: bool


class Dependency(NamedTuple):
    """A row of feature_dependencies: without any bit of `mask` in `word`, bits of `needs_mask` in `needs` go."""

    word: str
    mask: int
    needs: str
    needs_mask: int


class SaveArea(NamedTuple):
    """An XSAVE component of x86_ext_save_areas that any bit of `mask` in `word` needs, and its bytes; one may have several rows."""

    number: int
    word: str
    mask: int
    size: int


@dataclass(frozen=True, slots=True)
class Model:
    """One version of a CPU model, flattened: nothing needs to be looked up in older versions.

    `level` and `xlevel` are the least that leaves 0 and 0x80000000 answer; `props` are properties other than these and features.
    """

    name: str
    base: str
    version: int
    deprecated: bool
    vendor: str
    family: int
    model: int
    stepping: int
    model_id: str
    level: int
    xlevel: int
    features: Mapping[str, int]
    props: Mapping[str, Any]
    cache: str | None


@dataclass(frozen=True, slots=True)
class MachineType:
    """A machine type with its options, as far as CPUs care.

    `release` is the version in its name (None: microvm and others that have none), `versions` how models without a version in their name
    are understood ("v1", "latest", or "legacy" as before QEMU 4.1, when there were none), `irqchip` where the interrupt controllers are
    ("on": in the kernel, "off": in QEMU, "split": some in either), `max_cpus` how many vCPUs it takes, `kvm_unset` which features KVM
    leaves as the model has them, `compat` what it sets on CPUs: type of CPU, property, value, in the order in which it is applied.
    `pci_hole64` is how many bytes above 4 GB it keeps for PCI devices (None: it does not ask whether the CPU can address them), `smp`
    what its options set of -smp, `caches` the levels that smp-cache gives, `prefers_sockets` whether -smp fills sockets before cores. Of a
    distribution's machine type, `kvm_more` are further features that its KVM sets, and `own` properties that its build has ahead of time.
    """

    name: str
    release: tuple[int, int] | None
    versions: str
    irqchip: str
    max_cpus: int
    kvm_unset: frozenset[str]
    compat: tuple[tuple[str, str, str], ...]
    pci_hole64: int | None = None
    smp: tuple[tuple[str, str], ...] = ()
    caches: tuple[tuple[str, str], ...] = ()
    prefers_sockets: bool = False
    kvm_more: tuple[tuple[str, str], ...] = ()
    own: tuple[tuple[str, bool], ...] = ()

    @property
    def is_pc(self) -> bool:
        """Whether it is one of the PC machine types, isapc among them."""
        return is_pc(self.name)


class Catalog:
    """The tables of one release.

    `source` names the program, or the tree, that they were taken from, and `known` says which it was: "program" or "source".
    """

    def __init__(self, release: str) -> None:
        self.release = release
        self.number = number(release)
        self._rows: dict[str, Any] = data.load(f"qemu-{release}")
        self.source: str = self._rows["source"]
        self.known: str = self._rows["known"]
        self.words: tuple[FeatureWord, ...] = tuple(read(row, subleaf_in_label=self.number >= (10, 1)) for row in self._rows["words"])
        self.by_name: dict[str, FeatureWord] = {word.name: word for word in self.words}
        self.aliases: dict[str, str] = self._rows["aliases"]
        self.properties: dict[str, Property] = {name: Property(*row) for name, row in self._rows["properties"].items()}
        self.dependencies: tuple[Dependency, ...] = tuple(Dependency(*row) for row in self._rows["dependencies"])
        self.components: tuple[SaveArea, ...] = tuple(SaveArea(*row) for row in self._rows["xsave"])
        self._described: dict[tuple[str, int], str] = {}

    def describe(self, name: str, position: int) -> str:
        """Spell one bit of a feature word as QEMU does in warnings."""
        found = self._described.get((name, position))
        if found is None:
            found = self._described[name, position] = self.by_name[name].describe(position)
        return found

    @cached_property
    def msrs(self) -> tuple[tuple[str, MsrWord], ...]:
        """The feature words that are MSRs, by name."""
        return tuple((row.name, row.word) for row in self.words if isinstance(row.word, MsrWord))

    @cached_property
    def flags(self) -> dict[str, Flag]:
        """Feature properties by name."""
        found: dict[str, Flag] = {}
        for word in self.words:
            for position, name in word.names.items():
                found[name] = Flag(word.name, (found[name].mask if name in found else 0) | 1 << position)
        return found

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Values of the properties of a CPU that nothing has set."""
        return {name: found.default for name, found in self.properties.items() if found.default is not None}

    def kvm_defaults(self, machine: MachineType) -> list[tuple[Flag, bool]]:
        """Return the features that KVM switches on or off in every model that is not "max" or "host" (kvm_default_props)."""
        on = {"kvm-msi-ext-dest-id"} if machine.irqchip == "split" else set()
        off = {"x2apic"} if machine.irqchip == "off" else set()
        rows = (
            (name, (value == "on" or name in on) and name not in off) for name, value in (*self._rows["kvm_defaults"], *machine.kvm_more)
        )
        return [(self.flags[name], on) for name, on in rows if name not in machine.kvm_unset]

    @cached_property
    def models(self) -> dict[str, Model]:
        """All versions of all models but max, host and base, by their versioned names."""
        return {row["name"]: Model(**row) for row in self._rows["models"]}

    @cached_property
    def model_aliases(self) -> dict[str, str | None]:
        """Names that stand for one version; None where the machine type chooses it."""
        aliases: dict[str, str | None] = self._rows["model_aliases"]
        return aliases

    def resolve_model(self, name: str, machine: MachineType) -> str:
        """Return the versioned name of a model; raises QemuError where there is none of that name."""
        if name in HOST_MODELS or name == "base" or name in self.models:
            return name
        if name not in self.model_aliases:
            raise QemuError(messages.NO_MODEL(name=name))
        fixed = self.model_aliases[name]
        if fixed is not None:
            return fixed
        return f"{name}-v{self._last_versions[name] if machine.versions == 'latest' else 1}"

    def deprecation(self, model: str) -> str | None:
        """Return what to use in place of a deprecated model, as QEMU words it; None of any other, and of max, host and base."""
        notes: dict[str, str] = self._rows.get("deprecations", {})
        return notes.get(self.models[model].base) if model in self.models else None

    @cached_property
    def _last_versions(self) -> dict[str, int]:
        return {model.base: model.version for model in self.models.values()}

    def machine(self, text: str) -> MachineType:
        """Return a machine type by its name or its alias, with the options that follow it; raises QemuError where QEMU refuses.

        PCs, isapc, microvm and nitro are known: Xen's and other special machine types are refused as if QEMU did not have them. Raises
        InputError for an option whose consequences are not modelled.
        """
        rows = self._rows["machines"]
        name, given = (text, []) if text in rows else machine_option.split(text, self.number)
        name = upstream_name(_DEFAULT_MACHINE if name is None else name)
        row = rows.get(name)
        added: list[tuple[str, str, str]] = []
        own: tuple[tuple[str, bool], ...] = ()
        if row is None:
            name, row = next(((full, row) for full, row in rows.items() if row["alias"] == name), (name, None))
        if row is None and (distributed := data.load("qemu-distributions")["machines"].get(name)) is not None:
            row, added, own = self._distributed(distributed)
        if row is None:
            raise QemuError(self._no_machine(name, text))
        release = None if row["release"] is None else number(row["release"])
        oldest = number(row["since"]) if "since" in row else release
        settings = [
            tuple(setting)
            for version, compat in sorted(self._rows["compat"].items(), key=lambda item: number(item[0]), reverse=True)
            if oldest is not None and number(version) >= oldest
            for setting in compat
        ] + added
        board = self._board(name)
        options = machine_option.read(given, name, self._kind(name, board["options"])) if given else MachineOptions()
        return MachineType(
            name=name,
            release=release,
            versions=row["versions"],
            irqchip=options.irqchip or ("split" if row["split_irqchip"] else "on"),
            max_cpus=row["max_cpus"],
            kvm_unset=frozenset(row["kvm_unset"]),
            compat=tuple(settings),
            pci_hole64=board["pci_hole64"],
            smp=options.smp,
            caches=options.caches,
            own=own,
            kvm_more=tuple(row.get("kvm_more", ())),
            prefers_sockets=row.get("prefers_sockets", name.startswith("pc-") and release is not None and release <= (6, 1)),
        )

    def _no_machine(self, name: str, text: str) -> str:
        if self.number < machine_option.KEYVAL:
            return messages.NO_MACHINE_AT(text=text)
        return messages.NO_MACHINE() if self.number < (9, 1) else messages.NO_MACHINE_NAMED(name=name)

    def _distributed(self, found: list[Any]) -> tuple[dict[str, Any], list[tuple[str, str, str]], tuple[tuple[str, bool], ...]]:
        """Put a row of data/qemu-distributions.json into the form of a release's own; and what such a machine sets on CPUs of this release.

        What its QEMU had to set that this one does not know has not come yet; of its own release it is what its build took over
        from later ones. There, what the build's other types set is the contrary of what holds where nothing is set.
        """
        distribution, tree, like, most, split, prefers_sockets, versions, settings, with_kvm = found
        row = {
            "release": like, "since": tree, "versions": versions, "split_irqchip": split, "max_cpus": most,
            "kvm_unset": [name for name, value in with_kvm.items() if value is None],
            "kvm_more": [(name, value) for name, value in with_kvm.items() if value is not None and name in self.flags],
            "prefers_sockets": prefers_sockets,
        }  # fmt: skip
        known = self.flags.keys() | self.aliases.keys() | self.properties.keys()
        own: dict[str, bool] = {}
        if tree == self.release:
            others = (other[-2] for other in data.load("qemu-distributions")["machines"].values() if other[0] == distribution)
            own = {name: value in ("off", "false") for other in others for _, name, value in other if name not in known}
            own |= {name: value in ("on", "true") for _, name, value in settings if name not in known}
        return row, [(kind, name, value) for kind, name, value in settings if name in known], tuple(own.items())

    def _board(self, name: str) -> dict[str, Any]:
        """Return the row of a machine's kind: its release's, an imported QEMU's being that of the newest one that is not newer."""
        boards: dict[str, dict[str, Any]] = data.load("qemu-boards")["boards"]
        known = [release for release in boards if number(release) <= self.number] or [min(boards, key=number)]
        kinds: dict[str, dict[str, Any]] = boards[max(known, key=number)]
        return kinds[next((kind for kind in kinds if name.startswith(kind)), "microvm")]

    def _kind(self, name: str, options: dict[str, str]) -> MachineKind:
        return MachineKind(options, is_pc(name) and self.number >= (10, 0), topology_levels(self.number, name), self.number)

    @cached_property
    def machine_names(self) -> dict[str, str | None]:
        """Machine types' full names, each with its alias."""
        return {name: row["alias"] for name, row in self._rows["machines"].items()}

    def caches(self, model: str) -> dict[str, Any] | None:
        """Return the caches that a model brings along, None where it has none of its own."""
        found = self.models.get(model)
        rows: dict[str, Any] | None = self._rows["caches"][found.cache] if found is not None and found.cache else None
        return rows


@cache
def catalog(release: str) -> Catalog:
    """Return a release's tables, read once a process."""
    return Catalog(release)


@kept(1024)
def machine(release: str, text: str) -> MachineType:
    """Return the machine type of a -machine argument, its options included; raises what `Catalog.machine` does."""
    return catalog(release).machine(text)


def resolve_machine(release: str, name: str) -> str:
    """Return the full name of a machine type (q35 is pc-q35-11.1 in QEMU 11.1); raises QemuError."""
    return machine(release, name).name


def is_pc(name: str) -> bool:
    """Tell whether a machine type's full name is that of a PC."""
    return name.startswith("pc-") or name == "isapc"


def topology_levels(release: tuple[int, int], name: str) -> frozenset[str]:
    """Return the levels of -smp that a machine type has."""
    levels = {"sockets", "cores", "threads"}
    if is_pc(name):
        levels |= {"dies"} if release < (9, 1) else {"dies", "modules"}
    return frozenset(levels)


_PVE = re.compile(r"(pc-(?:q35|i440fx)-[0-9.]{1,20}|q35|pc)\+pve[0-9]{1,9}")


def upstream_name(name: str) -> str:
    """Return a machine type without the version that Proxmox VE adds to it: its QEMU takes pc-q35-9.2+pve1 for pc-q35-9.2."""
    match = _PVE.fullmatch(name)
    return name if match is None else match[1]


def max_cpus(release: str, name: str) -> int:
    """Return how many vCPUs a machine type takes."""
    return machine(release, name).max_cpus


@cache
def caches(release: str, model: str) -> tuple[tuple[Any, ...], ...] | None:
    """Return a model's L1D, L1I, L2 and L3, None where it has none of its own.

    Each is (type, level, size, line size, ways, partitions, sets, lines a tag, self-initialising, no invalidation of shared caches,
    inclusive, complex indexing, level of sharing); the type is 1 for data, 2 for instructions, 3 for both.
    """
    found = catalog(release).caches(model)
    if found is None:
        return None
    fields = (*_CACHE_FIELDS, *_CACHE_FLAGS)
    return tuple(
        (_CACHE_TYPES[row["type"]], *(row.get(field, 0) for field in fields), row.get("share_level", _SHARED[row["level"]]))
        for row in (found[part] for part in ("l1d", "l1i", "l2", "l3"))
    )
