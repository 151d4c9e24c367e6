"""vcpuid's own file format: one machine a file, one fact a line.

    KIND func.index fFLAGS eax ebx ecx edx      SUP, EMU, HV, TAB, GOT: entries of KVM's ioctls, hexadecimal
    RAW func.index eax ebx ecx edx              the CPUID instruction
    MSR index ok value                          a feature MSR; ok is what KVM_GET_MSRS returned, 1 where it was read
    CPUINFO name value…                         a line of /proc/cpuinfo
    PARAM module.parameter value                a kernel module's parameter
    CPU …, KERNEL …, SETRC n                    where it was taken; KVM_SET_CPUID2's return value for the TAB table, else for SUP (GOT: what it kept)

Lines that begin with `#` and empty ones are skipped. Ahead of the first fact, any other line is a note and is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError

_TABLES = {"SUP": "supported", "EMU": "emulated", "HV": "hyperv", "TAB": "table", "GOT": "kept"}
_LINE_LIMIT = 1 << 16
_ENTRY_LIMIT = 1 << 16


class _Cut(Exception):
    """A line that is not of its kind's form; the text says how."""


def _hex(text: str, what: str, bits: int = 32) -> int:
    try:
        value = int(text, 16)
    except ValueError:
        raise _Cut(f"{what} {text[:40]!r} is not a hexadecimal number") from None
    if not 0 <= value < 1 << bits:
        raise _Cut(f"{what} {text[:40]} does not fit {bits} bits")
    return value


def _place(text: str) -> tuple[int, int]:
    function, dot, index = text.partition(".")
    if not dot:
        raise _Cut(f"{text[:40]!r} is not of the form func.index")
    return _hex(function, "leaf"), _hex(index, "sub-leaf")


def _entry(words: list[str], flagged: bool) -> Entry:
    wanted = 6 if flagged else 5
    if len(words) != wanted:
        raise _Cut(f"{len(words)} fields where {wanted} belong (func.index {'fFLAGS ' if flagged else ''}eax ebx ecx edx)")
    flags = 0
    if flagged:
        if not words[1].startswith("f"):
            raise _Cut(f"{words[1][:40]!r} is not of the form fFLAGS")
        flags = _hex(words[1][1:], "flags")
    eax, ebx, ecx, edx = (_hex(word, "register") for word in words[wanted - 4 :])
    return Entry(*_place(words[0]), flags, eax, ebx, ecx, edx)


class _Reader:
    """Collects the facts of one snapshot."""

    def __init__(self) -> None:
        self.raw: list[Entry] = []
        self.tables: dict[str, list[Entry]] = {}
        self.msrs: dict[int, int] = {}
        self.refused: list[int] = []
        self.cpuinfo: dict[str, str] = {}
        self.params: dict[str, str] = {}
        self.head: dict[str, str] = {}
        self.notes: list[str] = []
        self.set_result: int | None = None
        self.kinds: dict[str, Callable[[str, str], None]] = {
            "RAW": self._raw,
            **dict.fromkeys(_TABLES, self._table),
            "MSR": self._msr,
            "CPUINFO": self._pair,
            "PARAM": self._pair,
            "CPU": self._head,
            "KERNEL": self._head,
            "SETRC": self._set_result,
        }

    def line(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        take = self.kinds.get(kind)
        if take is not None:
            take(kind, rest)
        elif self.raw or self.tables or self.cpuinfo:
            raise _Cut(f"{kind[:40]!r} is not a kind of line that a snapshot has")
        else:
            self.notes.append(line)

    def _raw(self, _kind: str, rest: str) -> None:
        self._room(self.raw).append(_entry(rest.split(), flagged=False))

    def _table(self, kind: str, rest: str) -> None:
        if rest.startswith("ERR "):  # the ioctl failed there: the machine told nothing
            return
        self._room(self.tables.setdefault(kind, [])).append(_entry(rest.split(), flagged=True))

    def _msr(self, _kind: str, rest: str) -> None:
        words = rest.split()
        if len(words) != 3:
            raise _Cut(f"{len(words)} fields where 3 belong (index ok value)")
        index, value = _hex(words[0], "MSR"), _hex(words[2], "value", 64)
        if words[1] == "1":
            self.msrs[index] = value
        else:
            self.refused.append(index)

    def _pair(self, kind: str, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if not name:
            raise _Cut("a name is missing")
        (self.cpuinfo if kind == "CPUINFO" else self.params)[name] = value.strip()

    def _head(self, kind: str, rest: str) -> None:
        if kind in self.head:
            raise _Cut(f"a second {kind} line: a snapshot holds one machine")
        self.head[kind] = rest

    def _set_result(self, _kind: str, rest: str) -> None:
        try:
            self.set_result = int(rest)
        except ValueError:
            raise _Cut(f"{rest[:40]!r} is not a return value") from None

    def _room(self, entries: list[Entry]) -> list[Entry]:
        if len(entries) >= _ENTRY_LIMIT:
            raise _Cut(f"more than {_ENTRY_LIMIT} entries of one kind")
        return entries

    def snapshot(self) -> Snapshot:
        tables = {name: CpuidTable(self.tables[kind]) if kind in self.tables else None for kind, name in _TABLES.items()}
        return Snapshot(
            raw=CpuidTable(self.raw),
            **tables,
            msrs=MsrTable(self.msrs, self.refused),
            cpuinfo=MappingProxyType(self.cpuinfo),
            params=MappingProxyType(self.params),
            set_result=self.set_result,
            cpu=self.head.get("CPU"),
            kernel=self.head.get("KERNEL"),
            notes=tuple(self.notes),
        )


def parse_snapshot(lines: Iterable[str], source: str = "snapshot") -> Snapshot:
    """Read a snapshot from its lines; `source` names it in errors. Raises InputError with the line at fault."""
    reader = _Reader()
    number = 0
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        try:
            if len(text) > _LINE_LIMIT:
                raise _Cut(f"a line of more than {_LINE_LIMIT} characters")
            reader.line(text)
        except _Cut as cut:
            raise InputError(str(cut), source=source, line=number) from None
    if not (reader.raw or reader.tables or reader.cpuinfo or reader.msrs):
        raise InputError("no CPUID in it: a snapshot has RAW, SUP or CPUINFO lines", source=source, line=number or None)
    return reader.snapshot()


def format_snapshot(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines of a snapshot, without line ends; `parse_snapshot` reads them back to an equal value."""
    if snapshot.cpu is not None:
        yield f"CPU {snapshot.cpu}"
    yield from snapshot.notes
    if snapshot.kernel is not None:
        yield f"KERNEL {snapshot.kernel}"
    for name, value in snapshot.cpuinfo.items():
        yield f"CPUINFO {name} {value}"
    for name, value in snapshot.params.items():
        yield f"PARAM {name} {value}"
    for function, index, _, *registers in snapshot.raw:
        yield "RAW {:08x}.{:x} {:08x} {:08x} {:08x} {:08x}".format(function, index, *registers)
    for kind in ("SUP", "EMU", "HV", "TAB"):
        for entry in getattr(snapshot, _TABLES[kind]) or ():
            yield f"{kind} {entry}"
    for msr, content in snapshot.msrs.items():
        yield f"MSR {msr:x} 1 {content:x}"
    for msr in snapshot.msrs.refused:
        yield f"MSR {msr:x} 0 0"
    if snapshot.set_result is not None:
        yield f"SETRC {snapshot.set_result}"
    for entry in snapshot.kept or ():
        yield f"GOT {entry}"
