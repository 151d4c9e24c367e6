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
