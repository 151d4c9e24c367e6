"""QEMU's replies over QMP: query-cpu-model-expansion, which tells a CPU's features by name and has no CPUID.

    {"return": {"model": {"name": "base", "props": {"avx2": true, "sse4.1": true, …}}}}

What comes of it is a partial snapshot: the features that QEMU's tables know, each with QEMU's name for it (of aliases, the main one).
Other replies and events around it, as in libvirt's test data, are passed over, and so are lines that are no JSON: qmp-shell's greeting and
what was typed behind its prompt.
"""

from __future__ import annotations

import re
from functools import cache

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_json
from vcpuid.formats.form import Format, line_begins

_REPLY = r"(?:\(QEMU\) ?)*[ \t]*(?=\{)"
_behind = re.compile(r"\s*(?=\{)").match
_below = re.compile(f"^{_REPLY}", re.MULTILINE).search
_begins = line_begins(_REPLY)


def read(text: str, source: str) -> list[Snapshot]:
    """Read the CPU of every expansion; raises InputError where there is none, or two properties for one feature disagree."""
    cpus = []
    for value in parse_json(text, source, lambda text, place: _behind(text, place) or _below(text, place)):
        reply = value.get("return") if isinstance(value, dict) else None
        model = reply.get("model") if isinstance(reply, dict) else None
        if isinstance(model, dict) and isinstance(model.get("props"), dict):
            cpus.append(_cpu(model, source))
    if not cpus:
        raise InputError("no reply to query-cpu-model-expansion in it", source=source)
    return cpus


def _cpu(model: dict[str, object], source: str) -> Snapshot:
    props = model["props"]
    assert isinstance(props, dict)
    named: dict[str, bool] = {}
    for prop, value in props.items():
        name = _main_names().get(prop)
        if name is not None and isinstance(value, bool) and named.setdefault(name, value) != value:
            raise InputError(f"{prop} is {value}, which its other name contradicts", source=source)
    title = props.get("model-id") or model.get("name")
    lines = {line: str(props[prop]) for line, prop in _LINES.items() if _is_line(props.get(prop))}
    return Snapshot(named=named, cpuinfo=lines, cpu=title.strip() if isinstance(title, str) and title.isprintable() else None)


_LINES = {"vendor_id": "vendor", "cpu_family": "family", "model": "model", "stepping": "stepping", "cpuid_level": "level"}
"""QEMU's properties that /proc/cpuinfo has a line for."""


def _is_line(value: object) -> bool:
    """Tell whether a property's value can be a line: a number, or a vendor's name."""
    number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 32
    return number or (isinstance(value, str) and len(value) == 12 and value.isprintable())


@cache
def _main_names() -> dict[str, str]:
    """Give the main name for each name of a feature that any release of QEMU has."""
    from vcpuid.cpuid.names import all_features

    return {name: qemu.name for feature in all_features() for qemu in reversed(feature.qemu_names) for name in (qemu.name, *qemu.aliases)}


def _recognises(text: str) -> bool:
    return '"return"' in text and _begins(text)


FORMAT = Format("qmp", "QEMU's query-cpu-model-expansion", _recognises, read, holds=("named", "cpu"))
