"""Asks a QEMU program for its catalog: models, properties and machine types, as rows of data/qemu-RELEASE.json.

What the monitor does not tell is taken from the catalog of the nearest release: what features depend on, sizes of XSAVE components,
defaults under KVM, what machine types set, bits without a name, and the caches of models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from vcpuid.errors import QemuError

Row = dict[str, Any]
Progress = Callable[[str, int, int], None]

FIELDS = {"family": "family", "model": "model", "stepping": "stepping", "model-id": "model_id", "vendor": "vendor"}
LIMITS = {"min-level": "level", "min-xlevel": "xlevel", "level": "level", "xlevel": "xlevel"}

_NO_FEATURES = frozenset({"realized", "hotplugged", "hotpluggable"})
_VERSIONED = re.compile(r"(.+)-v([0-9]+)")
_UNVERSIONED = ("isapc", "microvm", "nitro")
"""Machine types without a release in their names that are known."""
_PC = re.compile(r"pc-(?:q35|i440fx)-(?:([0-9]+)\.([0-9]+))?")


class Asker(Protocol):
    """A monitor; `vcpuid.live.qmp.Qmp` is one."""

    @property
    def version(self) -> Mapping[str, Any]:
        """The version that QEMU greets with."""

    def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command and return its result; raises QemuError."""

    def expand(self, model: str, properties: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return a model's properties, some of them set first."""


def masks(rows: list[Row], aliases: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Return what every feature property stands for: a word and the bits in it."""
    found: dict[str, tuple[str, int]] = {}
    for row in rows:
        for bit, name in row["bits"].items():
            found[name] = (row["name"], found.get(name, ("", 0))[1] | 1 << int(bit))
    return found | {alias: found[name] for alias, name in aliases.items() if name in found}


def catalog_of(qemu: Asker, nearest: Row, name: str, progress: Progress, hidden: Iterable[str] = ()) -> tuple[Row, list[str]]:
    """Return a program's catalog, and what it has that could not be learned, each in a sentence.

    `nearest` is the catalog of the release that stands in for what the monitor does not tell; `name` is what the new one is to be
    called; `progress` is told which model is being asked for, its number and how many there are; `hidden` is as in `ask_models`. Raises
    QemuError.
    """
    version = ".".join(str(qemu.version["qemu"][part]) for part in ("major", "minor", "micro"))
    package = f" ({qemu.version['package']})" if qemu.version.get("package") else ""
    listed = {row["name"]: row for row in qemu.ask("qom-list-properties", typename="max-x86_64-cpu")}
    remarks: list[str] = []
    properties, strange = _properties(listed, nearest)
    if strange:
        remarks.append(f"features whose bits the monitor does not tell, left out: {' '.join(strange)}")
    lost: list[str] = []

    def caches(model: str, known: str | None) -> str | None:
        if known is None:
            lost.append(model)
        return known

    models, aliases = ask_models(
        qemu, nearest["words"], properties, nearest["dependencies"], nearest["models"], caches=caches, progress=progress, hidden=hidden
    )
    if lost:
        remarks.append(f"models whose own caches the monitor does not tell, given the legacy ones: {' '.join(lost)}")
    machines, guessed = _machines(qemu, nearest["machines"], version)
    if guessed:
        remarks.append(f"machine types taken to set what this release's own sets: {' '.join(guessed)}")
    row = {
        **nearest,
        "release": name,
        "source": f"QEMU {version}{package}, asked over QMP; what QMP does not tell is that of QEMU {nearest['release']}",
        "properties": properties,
        "aliases": {alias: target for alias, target in nearest["aliases"].items() if alias in listed},
        "models": models,
        "model_aliases": aliases,
        "machines": machines,
    }
    return row, remarks


def _properties(listed: Mapping[str, Row], nearest: Row) -> tuple[Row, list[str]]:
    """Properties that are no features, by the nearest release's table where it has them; and features that it does not know."""
    features = masks(nearest["words"], nearest["aliases"])
    table: Row = {}
    strange: list[str] = []
    for name, row in sorted(listed.items()):
        if name in features or name in nearest["aliases"]:
            continue
        if name in nearest["properties"]:
            kind, default, host_only = nearest["properties"][name]
            table[name] = [kind, row.get("default-value", default), host_only]
        elif row["type"] == "bool" and "default-value" not in row and name not in _NO_FEATURES:
            strange.append(name)
        else:
            table[name] = [row["type"], row.get("default-value"), False]
    return table, strange


def _machines(qemu: Asker, known: Mapping[str, Row], version: str) -> tuple[dict[str, Row], list[str]]:
    """PCs, isapc, microvm and nitro; a distribution's own types (pc-q35-rhel9.4.0) are taken for those of the program's release."""
    release = ".".join(version.split(".")[:2])
    guessed: list[str] = []
    found: dict[str, Row] = {}
    for machine in sorted(qemu.ask("query-machines"), key=lambda machine: str(machine["name"])):
        name = machine["name"]
        match = _PC.match(name)
        if match is None and name not in _UNVERSIONED:
            continue
        row = known.get(name)
        if row is None:
            if match is not None and match[1] is None:
                guessed.append(name)
            own = release if match is None or match[1] is None else f"{match[1]}.{match[2]}"
            row = {"release": own, "versions": "v1", "split_irqchip": False, "kvm_unset": []}
        found[name] = {**row, "alias": machine.get("alias"), "max_cpus": machine["cpu-max"]}
    return found, guessed


def ask_models(
    qemu: Asker,
    rows: list[Row],
    table: Mapping[str, Any],
    needs: list[list[Any]],
    known: list[Row],
    *,
    caches: Callable[[str, str | None], str | None],
    unnamed: Callable[[str], dict[str, int]] = lambda _name: {},
    hidden: Iterable[str] = (),
    progress: Progress = lambda _name, _number, _count: None,
) -> tuple[list[Row], dict[str, str | None]]:
    """Ask the program for every version of every model, and for the names that stand for them.

    A model's feature shows in its expansion unless a feature that it depends on is off, so each model is expanded with all such features
    forced on, and with all but one; a bit counts where it is on without being forced. `known` are the models of a near release: of theirs
    are the bits that have no name. `unnamed` gives those of a model that `known` lacks. `caches` is given a model with caches of its own
    and what is known of them (None where nothing is), and names them. `hidden` are features that the accelerator turns off in every model;
    a model has those that its like in `known` has, and all of them without one.
    """
    flags = masks(rows, {})
    owners = {(row["name"], int(bit)): name for row in rows for bit, name in row["bits"].items()}
    forcing = sorted({owners[word, bit] for word, mask, _, _ in needs for bit in range(64) if mask >> bit & 1 and (word, bit) in owners})
    off = dict.fromkeys(flags, False)
    by_name = {row["name"]: row for row in known}
    families = {row["base"]: row for row in known}
    named = {row["name"]: sum(1 << int(bit) for bit in row["bits"]) for row in rows}
    base, off = _expand_base(qemu, off)
    forcing = [flag for flag in forcing if flag in off]
    plain = [name for name in table if name in base and name not in FIELDS and name not in LIMITS]
    models: list[Row] = []
    aliases: dict[str, str | None] = {}
    newest: dict[tuple[str, int], str | None] = {}
    definitions = sorted(qemu.ask("query-cpu-definitions"), key=lambda d: (len(d["name"]), d["name"]))
    for number, definition in enumerate(definitions, 1):
        name = definition["name"]
        progress(name, number, len(definitions))
        match = _VERSIONED.fullmatch(name)
        if name in ("base", "max", "host"):
            continue
        if match is None or definition.get("alias-of"):
            aliases[name] = None if definition.get("alias-of") == f"{name}-v1" else definition.get("alias-of")
            continue
        features: dict[str, int] = {}
        for forced in ([], forcing, *([f for f in forcing if f != left] for left in forcing)):
            for flag, value in qemu.expand(name, dict.fromkeys(forced, True)).items():
                if value is True and flag in flags and flag not in forced:
                    word, mask = flags[flag]
                    features[word] = features.get(word, 0) | mask
        least = qemu.expand(name, off)
        family = families.get(match[1])
        blank = unnamed(name) if family is None else {word: mask & ~named[word] for word, mask in family["features"].items()}
        merged = {row["name"]: features.get(row["name"], 0) | blank.get(row["name"], 0) for row in rows}
        like = by_name.get(name, family)
        for word, mask in (flags[flag] for flag in hidden if flag in flags):
            merged[word] |= mask if like is None else mask & like["features"].get(word, 0)
        props = {prop: least[prop] for prop in plain if least[prop] != base[prop] and prop != "legacy-cache"}
        cache = None
        if not least["legacy-cache"]:
            version = int(match[2])
            cache = caches(name, by_name.get(name, {}).get("cache") or newest.get((match[1], version - 1)))
            newest[match[1], version] = cache
        model: Row = {"name": name, "base": match[1], "version": int(match[2]), "deprecated": definition.get("deprecated", False)}
        model |= {field: least[prop] for prop, field in (("vendor", "vendor"), ("family", "family"), ("model", "model"))}
        model |= {"stepping": least["stepping"], "model_id": least["model-id"], "level": least["min-level"], "xlevel": least["min-xlevel"]}
        model |= {"features": {word: mask for word, mask in merged.items() if mask}, "props": props, "cache": cache}
        models.append(model)
    order = {name: place for place, name in enumerate(families)}
    models.sort(key=lambda row: (order.get(row["base"], len(order)), row["base"], row["version"]))
    return models, dict(sorted(aliases.items()))


def _expand_base(qemu: Asker, off: dict[str, bool]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Expand the model without features; and the features that this program takes, since a near release may name more."""
    taken = {name: value for name, value in off.items() if name in qemu.expand("base")}
    if not taken:
        raise QemuError("this QEMU's models have no features that vcpuid knows")
    return qemu.expand("base", taken), taken
