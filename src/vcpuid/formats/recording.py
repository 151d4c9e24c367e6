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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import json_snapshot
from vcpuid.formats.documents import parse_json
from vcpuid.formats.form import Format
from vcpuid.formats.lines import CPU_LIMIT, ENTRY_LIMIT
from vcpuid.numbers import U32, U64, hexadecimal

SCHEMA = "vcpuid/recording/1"
"""The form, by which a recording begins."""

CALL_LIMIT = 1 << 16
"""Calls of a recording: a VMM makes some hundred about CPUID."""

ROW_LIMIT = 1 << 18
"""Bytes of a row: the longest, a snapshot of the host, has some tens of thousands."""

CALL_MSR_LIMIT = 4096
"""MSRs of a call; KVM takes 256 (MAX_IO_MSRS, arch/x86/kvm/x86.c)."""

SUPPORTED, EMULATED, HYPERV = "KVM_GET_SUPPORTED_CPUID", "KVM_GET_EMULATED_CPUID", "KVM_GET_SUPPORTED_HV_CPUID"
SET, SET_OLD, GET, KEPT = "KVM_SET_CPUID2", "KVM_SET_CPUID", "KVM_GET_CPUID2", "kept"
GET_MSRS, SET_MSRS, FEATURE_MSRS = "KVM_GET_MSRS", "KVM_SET_MSRS", "KVM_GET_MSR_FEATURE_INDEX_LIST"
CHECK, _CAP_HYPERV = "KVM_CHECK_EXTENSION", 44
CREATE_VM, CREATE_VCPU = "KVM_CREATE_VM", "KVM_CREATE_VCPU"

_SIGN = re.compile(r'\s*\{\s*(?:"schema"\s*:\s*"vcpuid/recording/|"command"\s*:\s*\[)')
_RESULTS = 1 << 63
_ENTRY_WORDS = 7
_TEXT_LIMIT, _WORDS_LIMIT = 1 << 16, 4096
_T = TypeVar("_T")


class KvmCall(NamedTuple):
    """A call: its line in the file, when it was made, by which process and thread, on which descriptor, and what it returned.

    `table`, `msrs` and `indices` are what it handed over or what came back, in order; `asked` is how many of them were asked for or given.
    `argument` is a capability asked about, a vCPU's number, a frequency in kHz, a permission; `arguments` are those of a capability that is
    enabled. `vcpu` and `vm` tell which one it is, `ran` whether the vCPU had run before, None where nobody knows.
    """

    line: int
    time: float
    pid: int | None
    tid: int
    name: str
    descriptor: int
    result: int
    asked: int | None = None
    table: CpuidTable | None = None
    msrs: tuple[tuple[int, int], ...] = ()
    indices: tuple[int, ...] = ()
    argument: int | None = None
    arguments: tuple[int, ...] = ()
    vcpu: int | None = None
    vm: int | None = None
    ran: bool | None = None

    @property
    def refused(self) -> bool:
        """Whether KVM returned an error."""
        return self.result < 0


class VmmProgram(NamedTuple):
    """A process that spoke to KVM: its program's file, its command line, and what its file says of its version, as far as that is told."""

    name: str
    arguments: tuple[str, ...] = ()
    version: str | None = None


@dataclass(frozen=True)
class RecordedVcpu:
    """A vCPU: its number in its guest, the process and the guest that it is of, and the calls about it in order."""

    number: int
    pid: int | None
    vm: int
    calls: tuple[KvmCall, ...]

    @cached_property
    def sets(self) -> tuple[KvmCall, ...]:
        """Each KVM_SET_CPUID2."""
        return tuple(call for call in self.calls if call.name == SET)

    @cached_property
    def handed(self) -> KvmCall | None:
        """The one that counts: the last that KVM took, else the last of all; None where none was seen."""
        taken = [call for call in self.sets if not call.refused]
        return taken[-1] if taken else self.sets[-1] if self.sets else None

    @cached_property
    def kept(self) -> CpuidTable | None:
        """What KVM kept of it, where somebody asked or looked afterwards."""
        since = 0 if self.handed is None else self.calls.index(self.handed)
        told = [call.table for call in self.calls[since:] if call.name in (GET, KEPT) and not call.refused and call.table is not None]
        return told[-1] if told else None

    @property
    def tells(self) -> bool:
        """Whether a table of it is known."""
        return self.handed is not None or self.kept is not None


@dataclass(frozen=True)
class Recording:
    """What was recorded: the command, how (`by`), the kernel, the machine if a snapshot of it is there, and the calls in order.

    `source` is the file's name, for messages.
    """

    source: str
    by: str
    command: tuple[str, ...] = ()
    kernel: str | None = None
    machine: Snapshot | None = None
    calls: tuple[KvmCall, ...] = ()
    programs: Mapping[int | None, VmmProgram] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @cached_property
    def vcpus(self) -> tuple[RecordedVcpu, ...]:
        """Every vCPU of which a table is known, guests in the order in which they came, each's vCPUs by number."""
        found = [vcpu for vcpu in _vcpus(self.calls) if vcpu.tells]
        return tuple(sorted(found, key=lambda vcpu: (vcpu.vm, vcpu.number)))

    @cached_property
    def guests(self) -> tuple[tuple[RecordedVcpu, ...], ...]:
        """The vCPUs by guest."""
        by_vm: dict[int, list[RecordedVcpu]] = {}
        for vcpu in self.vcpus:
            by_vm.setdefault(vcpu.vm, []).append(vcpu)
        return tuple(map(tuple, by_vm.values()))

    @cached_property
    def host(self) -> Snapshot:
        """The host: what its KVM answered the VMM, and the machine as far as it is told; what nobody asked is not told."""
        host = self.machine or Snapshot()
        return replace(
            host,
            supported=self._answer(SUPPORTED) or host.supported,
            emulated=self._answer(EMULATED) or host.emulated,
            hyperv=CpuidTable() if self._lacks_hyperv else self._answer(HYPERV) or host.hyperv,
            msrs=self._feature_msrs() or host.msrs,
            kernel=self.kernel or host.kernel,
            notes=(),
        )

    def program(self, vcpu: RecordedVcpu) -> VmmProgram | None:
        """The program whose vCPU it is."""
        return self.programs.get(vcpu.pid)

    def snapshots(self) -> list[Snapshot]:
        """Give a snapshot for each vCPU, or one where there is none: the host with the table handed over and what was kept of it.

        Raises InputError where the recording tells of no CPUID at all.
        """
        guests = [
            replace(
                self.host,
                table=None if vcpu.handed is None else vcpu.handed.table,
                set_result=None if vcpu.handed is None else vcpu.handed.result,
                kept=vcpu.kept,
                notes=tuple(_remarks(vcpu)),
            )
            for vcpu in self.vcpus
        ]
        if not guests and self.host.supported is None and self.host.emulated is None and not self.host.raw:
            raise InputError("nobody in it spoke to KVM of CPUID", source=self.source)
        return guests or [self.host]

    @property
    def _lacks_hyperv(self) -> bool:
        """Whether KVM said that it has nothing of Hyper-V: a VMM gives a guest none of its leaves then, and asks for none."""
        told = [call.result for call in self.calls if call.name == CHECK and call.argument == _CAP_HYPERV]
        return bool(told) and not any(told)

    def _answer(self, name: str) -> CpuidTable | None:
        """Return the last whole answer to a question about all of this KVM."""
        told = [call.table for call in self.calls if call.name == name and not call.refused and call.table is not None]
        return told[-1] if told else None

    def _feature_msrs(self) -> MsrTable | None:
        """Return the feature MSRs that were asked for: those of the device itself, and not of a vCPU."""
        listed = {index for call in self.calls if call.name == FEATURE_MSRS for index in call.indices}
        vcpus = {(call.pid, call.result) for call in self.calls if call.name == CREATE_VCPU}
        told = {
            index: value
            for call in self.calls
            if call.name == GET_MSRS and (call.pid, call.descriptor) not in vcpus and call.vcpu is None
            for index, value in call.msrs[: max(0, call.result)]
            if not listed or index in listed
        }
        return MsrTable(told) if told else None


def _remarks(vcpu: RecordedVcpu) -> Iterator[str]:
    tables = {call.table for call in vcpu.sets if not call.refused}
    if len(tables) > 1:
        yield "KVM took several tables for this vCPU: the last counts"


def _vcpus(calls: Iterable[KvmCall]) -> list[RecordedVcpu]:
    """Put calls together by vCPU: a descriptor means the last one that was made with its number."""
    current: dict[tuple[int | None, int], tuple[int, int]] = {}
    vms: dict[tuple[object, ...], int] = {}
    found: dict[tuple[int, int, int], tuple[KvmCall, list[KvmCall], int]] = {}
    made: dict[tuple[int | None, int], int] = {}
    for call in calls:
        place = call.pid, call.descriptor
        if call.name == CREATE_VM and not call.refused:
            made[call.pid, call.result] = made.get((call.pid, call.result), 0) + 1
        elif call.name == CREATE_VCPU and not call.refused:
            vm = vms.setdefault((*place, made.get(place, 0)), len(vms))
            current[call.pid, call.result] = vm, call.argument or 0
        elif call.name in (SET, SET_OLD, GET, KEPT, SET_MSRS, GET_MSRS):
            if place not in current:
                if call.name in (GET_MSRS, SET_MSRS):  # of the device itself, or of a vCPU that nobody saw
                    continue
                of = ("vm", call.vm) if call.vm is not None else ("process",)
                vm = vms.setdefault((call.pid, *of), len(vms))
                number = call.vcpu if call.vcpu is not None else sum(of_vm == vm for of_vm, _ in current.values())
                current[place] = vm, number
            vm, number = current[place]
            found.setdefault((vm, number, call.descriptor), (call, [], number))[1].append(call)
    return [RecordedVcpu(number, first.pid, vm, tuple(of)) for (vm, _, _), (first, of, number) in found.items()]


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
