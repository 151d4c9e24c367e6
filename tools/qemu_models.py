"""CPU models of a QEMU, flattened to one row a version: read from builtin_x86_defs."""

from __future__ import annotations

import re
from typing import Any

from csource import Source
from vcpuid.live.qemu_inquiry import FIELDS, LIMITS, masks

Row = dict[str, Any]
HYPERVISOR = 1 << 31  # CPUID_EXT_HYPERVISOR: x86_cpu_load_model sets it in every model


def _value(text: str) -> Any:
    if text in ("on", "true", "off", "false"):
        return text in ("on", "true")
    return int(text, 0) if re.fullmatch(r"0x[\da-f]+|\d+", text) else text


def source_models(source: Source, rows: list[Row], aliases: dict[str, str]) -> tuple[list[Row], dict[str, Any]]:
    """Flatten builtin_x86_defs: the rows of all versions, and the aliases (name: base name, or name: versioned name)."""
    known = masks(rows, aliases)
    names = [row["name"] for row in rows]
    avx10 = _avx10(source, names)
    models: list[Row] = []
    by_alias: dict[str, Any] = {}
    for definition in source.table("builtin_x86_defs"):
        features = {names[word]: mask for word, mask in definition.get("features", {}).items()}
        features["FEAT_1_ECX"] = features.get("FEAT_1_ECX", 0) | HYPERVISOR
        row: Row = {"name": "", "base": definition["name"], "version": 0, "deprecated": "deprecation_note" in definition}
        row |= {field: definition.get(field, 0) for field in ("vendor", "family", "model", "stepping", "model_id", "level", "xlevel")}
        props: Row = {}
        if version_of_avx10 := definition.get("avx10_version"):
            props["avx10-version"] = version_of_avx10
            _give(features, avx10, version_of_avx10)
        if definition.get("cpuid_0x1f"):
            props["x-force-cpuid-0x1f"] = True
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
                if name == "avx10-version":
                    _give(features, avx10, _value(value))
            cache = version.get("cache_info", cache)
            number = version["version"]
            kept = {word: features[word] for word in names if features.get(word)}
            name = f"{definition['name']}-v{number}"
            models.append({**row, "name": name, "version": number, "features": kept, "props": dict(props), "cache": cache})
            if "alias" in version:
                by_alias[version["alias"]] = name
        by_alias[definition["name"]] = None
    return models, dict(sorted(by_alias.items()))


def _avx10(source: Source, names: list[str]) -> list[tuple[int, dict[str, int]]]:
    """Return what each version of AVX10 brings, in order: since 11.0 a model that has one has its features, and those of older ones."""
    if "builtin_avx10_defs" not in source.variables("AVX10VersionDefinition"):
        return []
    rows = source.table("builtin_avx10_defs")
    return [(row["version"], {names[pair[0]]: pair[1] for pair in row["features"] if pair}) for row in rows]


def _give(features: dict[str, int], avx10: list[tuple[int, dict[str, int]]], version: int) -> None:
    """Add the features of a version of AVX10 to a model's."""
    for number, masks_of_it in avx10:
        if number <= version:
            for word, mask in masks_of_it.items():
                features[word] = features.get(word, 0) | mask
