"""A recording of what VMMs say to KVM about CPUID, as `vcpuid record` writes it: JSON lines, a call each, behind a first line about all.

    {"schema": "vcpuid/recording/1", "by": "ptrace", "command": ["qemu-system-x86_64", …], "kernel": "6.12.1", "host": {…}}
    {"t": 0.14, "pid": 7, "tid": 7, "call": "KVM_GET_SUPPORTED_CPUID", "fd": 9, "ret": 0, "asked": 128, "nent": 76, "entries": [[0, …], …]}
    {"t": 0.15, "pid": 7, "tid": 9, "call": "KVM_SET_CPUID2", "fd": 15, "ret": 0, "vcpu": 0, "ran": false, "nent": 22, "entries": […]}
    {"t": 0.15, "pid": 7, "tid": 9, "call": "KVM_SET_MSRS", "fd": 15, "ret": 2, "asked": 2, "msrs": [["0x10a", "0x0"], …]}

`t` is in seconds since the beginning, `ret` what the call returned, an error as its negative errno. An entry is function, index, flags, EAX
to EDX. Of a call that hands something to KVM what was given is told, of one that asks KVM what came back. `exe`, `comm`, `argv` and
`program` stand in the first row of a process or thread. `host` is a snapshot of the machine (vcpuid/snapshot/1) without its KVM, which the
rows tell. A row "kept" is no call: what a vCPU kept, read out of the kernel. `vm` there tells vCPUs of one guest from others.

Recordings without a schema in their first line, and with `msrs` as an object, are older ones of the same form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import json_snapshot
from vcpuid.formats.documents import parse_json
from vcpuid.formats.form import Format
from vcpuid.formats.lines import CPU_LIMIT, ENTRY_LIMIT
from vcpuid.formats.recorded_calls import KvmCall, Recording, VmmProgram
from vcpuid.numbers import U32, U64, hexadecimal

SCHEMA = "vcpuid/recording/1"
"""The form, by which a recording begins."""

CALL_LIMIT = 1 << 16
"""Calls of a recording: a VMM makes some hundred about CPUID."""

ROW_LIMIT = 1 << 18
"""Bytes of a row: the longest, a snapshot of the host, has some tens of thousands."""

CALL_MSR_LIMIT = 4096
"""MSRs of a call; KVM takes 256 (MAX_IO_MSRS, arch/x86/kvm/x86.c)."""

_SIGN = re.compile(r'\s*\{\s*(?:"schema"\s*:\s*"vcpuid/recording/|"command"\s*:\s*\[)')
_RESULTS = 1 << 63
_ENTRY_WORDS = 7
_TEXT_LIMIT, _WORDS_LIMIT = 1 << 16, 4096
_T = TypeVar("_T")


def read_recording(text: str, source: str) -> Recording:
    """Read a recording; raises InputError, with the line, where a row is cut or makes no sense."""
    head: dict[str, Any] | None = None
    calls: list[KvmCall] = []
    programs: dict[int | None, VmmProgram] = {}
    notes: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        row = _parsed(line, source, number)
        try:
            if head is None:
                head = _head(row)
            elif "call" in row:
                calls.append(_call(row, number))
                _note_program(row, programs)
            elif "left_out" in row:
                notes.append(f"{_number(row, 'left_out', U64)} more calls are not in it: it had grown too large")
        except ValueError as error:
            raise InputError(str(error), source=source, line=number) from None
        if len(calls) > CALL_LIMIT:
            raise InputError(f"more than {CALL_LIMIT} calls", source=source, line=number)
    assert head is not None  # or nobody would have taken it for a recording
    machine = None if head.get("host") is None else _machine(head["host"], source)
    return Recording(
        source, _text(head, "by") or "ptrace", _texts(head, "command"), _text(head, "kernel"), machine, tuple(calls), programs, tuple(notes)
    )


def _parsed(line: str, source: str, number: int) -> dict[str, Any]:
    if len(line) > ROW_LIMIT:
        raise InputError(f"a row of more than {ROW_LIMIT >> 10} KiB", source=source, line=number)
    try:
        values = parse_json(line, source)
    except InputError as error:
        raise InputError(error.cause, source=source, line=number) from None
    if len(values) != 1 or not isinstance(values[0], dict):
        raise InputError("a row is one JSON object", source=source, line=number)
    return values[0]


def _head(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"its schema is {str(row['schema'])[:80]!r}, and {SCHEMA} is known")
    _texts(row, "command")
    _text(row, "kernel")
    _text(row, "by")
    return row


def _machine(value: object, source: str) -> Snapshot:
    """Read the snapshot in the first line; of a guest's tables there are none."""
    if not isinstance(value, dict):
        raise InputError(f"host is {_shown(value)}, and no snapshot", source=source, line=1)
    try:
        (found,) = json_snapshot.read(json.dumps(value), source)
    except InputError as error:
        raise InputError(f"host: {error.cause}", source=source, line=1) from None
    return replace(found, table=None, kept=None, set_result=None)


def _call(row: dict[str, Any], line: int) -> KvmCall:
    time = row.get("t", 0)
    if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time < U32:
        raise ValueError(f"t {_shown(time)} is no time in seconds")
    name = _text(row, "call") or ""
    table = _optional(row, "entries", _table)
    asked = next((_number(row, key, U32) for key in ("asked", "nent", "n") if row.get(key) is not None), None)
    if table is not None and row.get("nent") is not None and len(table) > _number(row, "nent", U32):
        raise ValueError(f"{len(table)} entries where {name} tells of {row['nent']}")
    return KvmCall(
        line,
        float(time),
        _optional(row, "pid", lambda _: _number(row, "pid", U32)),
        _number(row, "tid", U32),
        name,
        _result(row, "fd", U32),
        _result(row, "ret", _RESULTS),
        asked,
        table,
        _optional(row, "msrs", _msrs) or (),
        _optional(row, "indices", _indices) or (),
        next((_number(row, key, U64) for key in ("arg", "cap") if row.get(key) is not None), None),
        tuple(_items(row, "args", 4, U64)),
        _optional(row, "vcpu", lambda _: _number(row, "vcpu", U32)),
        _optional(row, "vm", lambda _: _number(row, "vm", U32)),
        _optional(row, "ran", _yes),
    )


def _note_program(row: dict[str, Any], programs: dict[int | None, VmmProgram]) -> None:
    name, pid = _text(row, "exe"), row.get("pid")
    if name is not None and pid not in programs:
        programs[pid] = VmmProgram(name, _texts(row, "argv"), _text(row, "program"))


def _optional(row: dict[str, Any], key: str, read: Callable[[Any], _T]) -> _T | None:
    value = row.get(key)
    return None if value is None else read(value)


def _whole(value: object, what: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{what} {_shown(value)} is no number from {least} to {most:#x}")
    return value


def _shown(value: object) -> str:
    """Spell a value for a message: of lists and objects, which may be deep, what they are."""
    return f"a {type(value).__name__}" if isinstance(value, list | tuple | dict) else str(value)[:40]


def _number(row: dict[str, Any], key: str, most: int) -> int:
    return _whole(row.get(key), key, 0, most)


def _result(row: dict[str, Any], key: str, most: int) -> int:
    return _whole(row.get(key), key, -most, most)


def _items(row: dict[str, Any], key: str, limit: int, most: int) -> Iterator[int]:
    value = row.get(key, [])
    if not isinstance(value, list) or len(value) > limit:
        raise ValueError(f"{key} is no list of at most {limit}")
    for item in value:
        yield _whole(item, key, 0, most)


def _text(row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    if value is not None and (not isinstance(value, str) or len(value) > _TEXT_LIMIT):
        raise ValueError(f"{key} is no text")
    return value


def _texts(row: dict[str, Any], key: str) -> tuple[str, ...]:
    value = row.get(key)
    value = [] if value is None else value
    if not isinstance(value, list) or len(value) > _WORDS_LIMIT or not all(isinstance(text, str) for text in value):
        raise ValueError(f"{key} is no list of texts")
    return tuple(value)


def _yes(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"ran {_shown(value)} is neither true nor false")
    return value


def _table(value: object) -> CpuidTable:
    if not isinstance(value, list) or len(value) > ENTRY_LIMIT:
        raise ValueError(f"entries is no list of at most {ENTRY_LIMIT}")
    return CpuidTable(map(_entry, value))


def _entry(value: object) -> Entry:
    if not isinstance(value, list) or len(value) != _ENTRY_WORDS:
        raise ValueError(f"an entry has function, index, flags and four registers, not {_shown(value)}")
    return Entry(*(_whole(word, "a word of an entry", 0, U32) for word in value))


def _msrs(value: object) -> tuple[tuple[int, int], ...]:
    pairs = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(pairs, list) or len(pairs) > CALL_MSR_LIMIT:
        raise ValueError(f"msrs is no list of at most {CALL_MSR_LIMIT}")
    return tuple(map(_msr, pairs))


def _msr(pair: object) -> tuple[int, int]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise ValueError(f"an MSR is its index and its value, not {_shown(pair)}")
    return _hex(pair[0], U32), _hex(pair[1], U64)


def _indices(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > CALL_MSR_LIMIT:
        raise ValueError(f"indices is no list of at most {CALL_MSR_LIMIT}")
    return tuple(_hex(index, U32) for index in value)


def _hex(text: object, most: int) -> int:
    found = hexadecimal(text, most) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{_shown(text)!r} is no hexadecimal number up to {most:#x}")
    return found


def read(text: str, source: str) -> list[Snapshot]:
    """Read every vCPU; raises InputError as `read_recording` does, and where there are too many."""
    recording = read_recording(text, source)
    if len(recording.vcpus) > CPU_LIMIT:
        raise InputError(f"more than {CPU_LIMIT} CPUs", source=source)
    found = recording.snapshots()
    return [replace(snapshot, notes=(*recording.notes, *snapshot.notes)) for snapshot in found]


_HOLDS = ("table", "supported", "emulated", "hyperv", "msrs", "kept", "set_result")
FORMAT = Format("recording", "a recording of vcpuid record", lambda text: bool(_SIGN.match(text)), read, holds=_HOLDS)
