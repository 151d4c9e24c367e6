"""CPU models of a QEMU, flattened to one row a version: read from builtin_x86_defs, or asked of the program over QMP."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from csource import Source
from vcpuid.qemu.qmp import Qmp

Row = dict[str, Any]
HYPERVISOR = 1 << 31  # CPUID_EXT_HYPERVISOR: x86_cpu_load_model sets it in every model
FIELDS = {"family": "family", "model": "model", "stepping": "stepping", "model-id": "model_id", "vendor": "vendor"}
LIMITS = {"min-level": "level", "min-xlevel": "xlevel", "level": "level", "xlevel": "xlevel"}


def masks(rows: list[Row], aliases: dict[str, str]) -> dict[str, tuple[str, int]]:
    """Return what every feature property stands for: a word and the bits in it."""
    found: dict[str, tuple[str, int]] = {}
    for row in rows:
        for bit, name in row["bits"].items():
            found[name] = (row["name"], found.get(name, ("", 0))[1] | 1 << int(bit))
    return found | {alias: found[name] for alias, name in aliases.items() if name in found}


def _value(text: str) -> Any:
    if text in ("on", "true", "off", "false"):
        return text in ("on", "true")
    return int(text, 0) if re.fullmatch(r"0x[\da-f]+|\d+", text) else text


def source_models(source: Source, rows: list[Row], aliases: dict[str, str]) -> tuple[list[Row], dict[str, Any]]:
    """Flatten builtin_x86_defs: the rows of all versions, and the aliases (name: base name, or name: versioned name)."""
    known = masks(rows, aliases)
    names = [row["name"] for row in rows]
    models: list[Row] = []
    by_alias: dict[str, Any] = {}
    for definition in source.table("builtin_x86_defs"):
        features = {names[word]: mask for word, mask in definition.get("features", {}).items()}
        features["FEAT_1_ECX"] = features.get("FEAT_1_ECX", 0) | HYPERVISOR
        row: Row = {"name": "", "base": definition["name"], "version": 0, "deprecated": "deprecation_note" in definition}
        row |= {field: definition.get(field, 0) for field in ("vendor", "family", "model", "stepping", "model_id", "level", "xlevel")}
        props: Row = {"avx10-version": definition["avx10_version"]} if definition.get("avx10_version") else {}
        cache = definition.get("cache_info")
        versions = [version for version in definition.get("versions", []) if version] or [{"version": 1}]
        for version in versions:
            if isinstance(version, list):
                version = {"version": version[0]}
            for name, value in (pair for pair in version.get("props", []) if pair):
                if name in known:
                    word, mask = known[name]
                    features[word] = features.get(word, 0) & ~mask | (mask if _value(value) else 0)
                elif name in FIELDS:
                    row[FIELDS[name]] = _value(value)
                elif name in LIMITS:
                    row[LIMITS[name]] = _value(value)
                else:
                    props[name] = _value(value)
            cache = version.get("cache_info", cache)
            number = version["version"]
            kept = {word: features[word] for word in names if features.get(word)}
            name = f"{definition['name']}-v{number}"
            models.append({**row, "name": name, "version": number, "features": kept, "props": dict(props), "cache": cache})
            if "alias" in version:
                by_alias[version["alias"]] = name
        by_alias[definition["name"]] = None
    return models, dict(sorted(by_alias.items()))


def asked_models(
    qemu: Qmp,
    rows: list[Row],
    table: dict[str, Any],
    needs: list[list[Any]],
    known_models: list[Row],
    known_aliases: dict[str, Any],
    model_caches: dict[str, str],
    empty_host: Callable[[str], list[str]],
) -> tuple[list[Row], dict[str, Any]]:
    """Ask the program for every model it has, and keep of `known_models` (those of the nearest tree) what QMP does not show.

    A model's feature shows in its expansion unless a feature that it depends on is off, so each model is expanded with all such features
    forced on, and with all but one; a bit counts where it is on without being forced. `model_caches` names the caches of models that the
    tree does not have.
    """
    flags = masks(rows, {})
    owners = {(row["name"], int(bit)): name for row in rows for bit, name in row["bits"].items()}
    forcing = sorted({owners[word, bit] for word, mask, _, _ in needs for bit in range(64) if mask >> bit & 1 and (word, bit) in owners})
    off = dict.fromkeys(flags, False)
    by_name = {row["name"]: row for row in known_models}
    families = {row["base"]: row for row in known_models}
    base = qemu.expand("base", off)
    plain = [name for name in table if name in base and name not in FIELDS and name not in LIMITS]
    models: list[Row] = []
    by_alias: dict[str, Any] = {}
    newest: dict[tuple[str, int], str] = {}
    for definition in sorted(qemu.ask("query-cpu-definitions"), key=lambda d: (len(d["name"]), d["name"])):
        name = definition["name"]
        match = re.fullmatch(r"(.+)-v(\d+)", name)
        if name in ("base", "max", "host"):
            continue
        if match is None or definition.get("alias-of"):
            by_alias[name] = None if definition.get("alias-of") == f"{name}-v1" else definition.get("alias-of")
            continue
        features: dict[str, int] = {}
        for forced in ([], forcing, *([f for f in forcing if f != left] for left in forcing)):
            for flag, value in qemu.expand(name, dict.fromkeys(forced, True)).items():
                if value is True and flag in flags and flag not in forced:
                    word, mask = flags[flag]
                    features[word] = features.get(word, 0) | mask
        least = qemu.expand(name, off)
        named = {row["name"]: sum(1 << int(bit) for bit in row["bits"]) for row in rows}
        if match[1] in families:
            unnamed = {word: mask & ~named[word] for word, mask in families[match[1]]["features"].items()}
        else:
            unnamed = {}
            for line in empty_host(f"{name},+vmx,+svm"):
                bit = re.search(r"MSR\((\w+)h\) \[bit (\d+)\]", line)
                if bit:
                    word = next(row["name"] for row in rows if row.get("msr") == int(bit[1], 16))
                    unnamed[word] = unnamed.get(word, 0) | 1 << int(bit[2])
        merged = {row["name"]: features.get(row["name"], 0) | unnamed.get(row["name"], 0) for row in rows}
        props = {prop: least[prop] for prop in plain if least[prop] != base[prop] and prop != "legacy-cache"}
        cache = None
        if not least["legacy-cache"]:
            number = int(match[2])
            cache = model_caches.get(name) or by_name.get(name, {}).get("cache") or newest.get((match[1], number - 1))
            if cache is None:
                raise SystemExit(f"{name} has caches that no older version has: name them in --extra, under model_caches")
            newest[match[1], number] = cache
        model: Row = {"name": name, "base": match[1], "version": int(match[2]), "deprecated": definition.get("deprecated", False)}
        model |= {field: least[prop] for prop, field in (("vendor", "vendor"), ("family", "family"), ("model", "model"))}
        model |= {"stepping": least["stepping"], "model_id": least["model-id"], "level": least["min-level"], "xlevel": least["min-xlevel"]}
        model |= {"features": {word: mask for word, mask in merged.items() if mask}, "props": props, "cache": cache}
        models.append(model)
    order = {name: place for place, name in enumerate(families)}
    models.sort(key=lambda row: (order.get(row["base"], len(order)), row["base"], row["version"]))
    unknown = {name for name, target in known_aliases.items() if target} - set(by_alias)
    if unknown:
        print(f"aliases that the program no longer has: {sorted(unknown)}")
    return models, dict(sorted(by_alias.items()))
