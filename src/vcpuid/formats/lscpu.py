"""What util-linux' lscpu prints of a host, in English: names of flags and no CPUID, as /proc/cpuinfo has them; also as JSON, with -J.

Vendor ID:                       GenuineIntel
CPU family:                      6
Flags:                           fpu vme de pse tsc msr
"""

from __future__ import annotations

import re

from vcpuid.cpuid import Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.documents import parse_json
from vcpuid.formats.form import Format
from vcpuid.formats.proc_cpuinfo import plain

_KEPT = {
    "Vendor ID": "vendor_id", "CPU family": "cpu_family", "Model": "model", "Model name": "model_name", "Stepping": "stepping",
    "Flags": "flags",
}  # fmt: skip
"""The lines that /proc/cpuinfo has too, with the names that a snapshot has for these."""

_LINE = re.compile(rf"^[ \t]*({'|'.join(_KEPT)}):([^\n]*)$", re.MULTILINE)
_SIGN = re.compile(r'(?:\n|^)[ \t]*(?:Flags:[ \t]|"field":[ \t]*"Flags:")|\{"field":[ \t]*"Flags:"')


def read(text: str, source: str) -> list[Snapshot]:
    """Read the lines; raises InputError where the flags are missing or the text ends within them."""
    if text.lstrip().startswith("{"):
        told = _fields(parse_json(text, source))
    else:
        if not text.endswith("\n") and text[text.rfind("\n") + 1 :].lstrip().startswith("Flags:"):
            raise InputError("the text ends within this line, and may be cut", source=source, line=text.count("\n") + 1)
        told = _LINE.findall(text)
    lines: dict[str, str] = {}
    for name, value in told:
        shown = plain(value.strip(" \t"))
        if name in _KEPT and lines.setdefault(_KEPT[name], shown) != shown:
            raise InputError(f"it tells {name} twice, and not the same: it is of two machines, or damaged", source=source)
    if not lines.get("flags"):
        raise InputError("it has no flags: it is cut, or not of an x86 processor", source=source)
    return [Snapshot(cpuinfo=lines, cpu=lines.get("model_name"))]


def _fields(node: object) -> list[tuple[str, str]]:
    """Find each {"field": …, "data": …}, however deep lscpu nests them."""
    found: list[tuple[str, str]] = []
    todo = [node]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            field, data = part.get("field"), part.get("data")
            if isinstance(field, str) and isinstance(data, str):
                found.append((field.rstrip(":"), data))
            todo.extend(part.values())
        elif isinstance(part, list):
            todo.extend(part)
    return found


FORMAT = Format("lscpu", "lscpu", lambda text: bool(_SIGN.search(text)), read, holds=("cpuinfo", "cpu"))
