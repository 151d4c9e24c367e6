"""vcpuid's own file format: one machine a file, one fact a line.

    KIND func.index fFLAGS eax ebx ecx edx      SUP, EMU, HV, TAB, GOT: entries of KVM's ioctls, hexadecimal
    RAW func.index eax ebx ecx edx              the CPUID instruction
    MSR index ok value                          a feature MSR; ok is what KVM_GET_MSRS returned, 1 where it was read
    HWMSR index ok value                        an MSR of the hardware; ok is 1 where RDMSR read it, 0 where it raised #GP
    CPUINFO name value…                         a line of /proc/cpuinfo; vulnerability_NAME is what sysfs says of a vulnerability
    PARAM module.parameter value                a kernel module's parameter
    NAMED feature on                            a feature told by name or place (by QEMU, libvirt, a CPU template), or `off`
    CPU …, KERNEL …                             where it was taken
    VMM QEMU release                            the QEMU that is installed there
    SETRC n                                     return value of KVM_SET_CPUID2 for the TAB table, else for SUP (GOT: what it kept)

`KIND empty` is a table without entries, `KIND ERR reason` an ioctl that failed, kept as a note. Lines that begin with `#` and empty ones
are skipped. Ahead of the first fact, any other line is a note and is kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.parts import TABLE_KINDS
from vcpuid.cpuid.registers import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.errors import InputError
from vcpuid.numbers import decimal, digits

_TABLES = {kind: name for kind, name in TABLE_KINDS.items() if kind != "RAW"}
_KINDS = {"MSR", "HWMSR", "CPUINFO", "PARAM", "NAMED", "CPU", "KERNEL", "VMM", "SETRC", *TABLE_KINDS}
_EMPTY = "empty"
_HAS = {"on": True, "off": False}
ENTRY_LIMIT = 4096
"""Entries of a table, in any form: KVM takes 256 (KVM_MAX_CPUID_ENTRIES, arch/x86/include/asm/kvm_host.h), and no processor has as many."""

MSR_LIMIT = 512
"""MSRs of a kind, read or refused: KVM lists some dozens (KVM_GET_MSR_FEATURE_INDEX_LIST), and of a processor's few tell of CPUID."""

CPU_LIMIT = 8192
"""CPUs of a dump, in any form: as many as Linux can run on (NR_CPUS, arch/x86/Kconfig)."""

_NO_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f\ud800-\udfff]")
_TOO_MANY = f"more than {ENTRY_LIMIT} entries in one table: no CPU has as many"
_NOTE_LIMIT = 1000
_LARGEST_RESULT = 1 << 31


class _Cut(Exception):
    """A line that is not of its kind's form; the text says how."""


def _hex(text: str, what: str, bits: int = 32) -> int:
    if len(text) > bits // 4:
        raise _Cut(f"{what} {text[:40]!r} has more than {bits // 4} digits")
    if (number := digits(text, 16, (1 << bits) - 1)) is None:
        raise _Cut(f"{what} {text[:40]!r} is not a hexadecimal number")
    return number


def _place(text: str) -> tuple[int, int]:
    function, dot, index = text.partition(".")
    if not dot:
        raise _Cut(f"{text[:40]!r} is not of the form func.index")
    return _hex(function, "leaf"), _hex(index, "sub-leaf")


_PLAIN = re.compile(
    rf"(?:RAW|({'|'.join(_TABLES)})) ([0-9a-f]{{1,8}})\.([0-9a-f]{{1,8}})(?(1) f([0-9a-f]{{1,8}})|()){' ([0-9a-f]{8})' * 4}", re.ASCII
)
"""An entry as `format_snapshot` writes it, which nearly all lines are; of any other, a field at a time is read and told of."""


_LONGEST_PLAIN = 67
"""Characters of the longest such line."""


@lru_cache(maxsize=1 << 13)
def _plain(line: str) -> tuple[str, Entry] | None:
    """Read such a line, None where it is none: of many hosts most lines are the same."""
    found = _PLAIN.fullmatch(line)
    if found is None:
        return None
    table, function, index, flags, _, eax, ebx, ecx, edx = found.groups("0")
    numbers = (int(function, 16), int(index, 16), int(flags, 16), int(eax, 16), int(ebx, 16), int(ecx, 16), int(edx, 16))
    return "RAW" if table == "0" else table, Entry(*numbers)


def _entry(text: str, flagged: bool) -> Entry:
    words = text.split()
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


def _is_note(line: str) -> bool:
    """Whether a line, neither empty nor a comment, states no fact about the CPU."""
    kind, _, rest = line.partition(" ")
    return kind not in _KINDS or (kind in _TABLES and rest.startswith("ERR "))


class _Reader:
    """Collects the facts of one snapshot."""

    def __init__(self) -> None:
        self.raw: dict[tuple[int, int], Entry] = {}
        self.tables: dict[str, list[Entry]] = {}
        self.msrs: dict[str, dict[int, int]] = {"MSR": {}, "HWMSR": {}}
        self.refused: dict[str, dict[int, None]] = {"MSR": {}, "HWMSR": {}}
        self.pairs: dict[str, dict[str, str]] = {"CPUINFO": {}, "PARAM": {}, "NAMED": {}}
        self.head: dict[str, str] = {}
        self.notes: list[str] = []
        self.set_result: int | None = None
        self.kinds: dict[str, Callable[[str, str], None]] = {
            "RAW": self._raw,
            **dict.fromkeys(_TABLES, self._table),
            "MSR": self._msr,
            "HWMSR": self._msr,
            "CPUINFO": self._pair,
            "PARAM": self._pair,
            "NAMED": self._pair,
            "CPU": self._head,
            "KERNEL": self._head,
            "VMM": self._vmm,
            "SETRC": self._set_result,
        }

    @property
    def told(self) -> bool:
        """Whether there was a fact about the CPU so far."""
        msrs = any(self.msrs.values()) or any(self.refused.values())
        return bool(self.raw or self.tables or msrs or self.pairs["CPUINFO"] or self.pairs["NAMED"])

    def line(self, line: str) -> None:
        if len(line) <= _LONGEST_PLAIN and (plain := _plain(line)) is not None:
            self._take(*plain)
            return
        kind, _, rest = line.partition(" ")
        if not _is_note(line):
            self.kinds[kind](kind, rest)
        elif self.told and kind not in _KINDS:
            raise _Cut(f"{kind[:40]!r} is not a kind of line that a snapshot has")
        elif len(self.notes) == _NOTE_LIMIT:
            raise _Cut(f"more than {_NOTE_LIMIT} lines that tell nothing of a CPU")
        else:
            self.notes.append(line)

    def _raw(self, kind: str, rest: str) -> None:
        self._take(kind, _entry(rest, flagged=False))

    def _table(self, kind: str, rest: str) -> None:
        if rest == _EMPTY:
            self.tables.setdefault(kind, [])
        else:
            self._take(kind, _entry(rest, flagged=True))

    def _take(self, kind: str, entry: Entry) -> None:
        if kind != "RAW":
            entries = self.tables.setdefault(kind, [])
            if len(entries) == ENTRY_LIMIT:
                raise _Cut(_TOO_MANY)
            entries.append(entry)
            return
        place = entry[:2]
        if place in self.raw:
            raise _Cut(f"a second answer of CPUID {entry.function:x}.{entry.index:x}: a snapshot holds one CPU")
        if len(self.raw) == ENTRY_LIMIT:
            raise _Cut(_TOO_MANY)
        self.raw[place] = entry

    def _msr(self, kind: str, rest: str) -> None:
        msrs, refused = self.msrs[kind], self.refused[kind]
        words = rest.split()
        if len(words) != 3:
            raise _Cut(f"{len(words)} fields where 3 belong (index ok value)")
        index, value = _hex(words[0], "MSR"), _hex(words[2], "value", 64)
        if index in msrs or index in refused:
            raise _Cut(f"a second value of MSR {index:x}")
        if len(msrs) + len(refused) == MSR_LIMIT:
            raise _Cut(f"more than {MSR_LIMIT} {kind} lines: no CPU has as many")
        if words[1] == "1":
            msrs[index] = value
        elif words[1] in ("0", "-1"):
            refused[index] = None
        else:
            raise _Cut(f"{words[1][:40]!r} does not tell whether it was read: 1 where it was, else 0 or -1")

    def _pair(self, kind: str, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if not name:
            raise _Cut("a name is missing")
        if name in self.pairs[kind]:
            raise _Cut(f"a second {kind} line of {name[:40]!r}")
        if kind == "NAMED" and value.strip() not in _HAS:
            raise _Cut(f"{value[:40]!r} is neither on nor off")
        self.pairs[kind][name] = value.strip()

    def _head(self, kind: str, rest: str) -> None:
        if kind in self.head:
            raise _Cut(f"a second {kind} line: a snapshot holds one machine")
        self.head[kind] = rest

    def _vmm(self, kind: str, rest: str) -> None:
        program, _, release = rest.partition(" ")
        if program != "QEMU":
            raise _Cut(f"{program[:40]!r} is no VMM of which a snapshot tells: QEMU is")
        self._head(kind, release)

    def _set_result(self, _kind: str, rest: str) -> None:
        if self.set_result is not None:
            raise _Cut("a second SETRC line")
        if (value := decimal(rest.removeprefix("-"), _LARGEST_RESULT)) is None:
            raise _Cut(f"{rest[:40]!r} is not a return value")
        self.set_result = -value if rest.startswith("-") else value

    def snapshot(self) -> Snapshot:
        tables = {name: CpuidTable(self.tables[kind]) if kind in self.tables else None for kind, name in _TABLES.items()}
        return Snapshot(
            raw=CpuidTable(self.raw.values()),
            **tables,
            msrs=MsrTable(self.msrs["MSR"], self.refused["MSR"]),
            hardware_msrs=MsrTable(self.msrs["HWMSR"], self.refused["HWMSR"]),
            cpuinfo=FrozenMap(self.pairs["CPUINFO"]),
            params=FrozenMap(self.pairs["PARAM"]),
            named=FrozenMap({name: _HAS[value] for name, value in self.pairs["NAMED"].items()}),
            set_result=self.set_result,
            cpu=self.head.get("CPU"),
            kernel=self.head.get("KERNEL"),
            qemu=self.head.get("VMM"),
            notes=tuple(self.notes),
        )


def _ends_within_register(words: list[str]) -> bool:
    return bool(words) and words[0] in TABLE_KINDS and len(words[-1]) < 8


def _ends_within_value(words: list[str]) -> bool:
    """Whether more digits may have followed: the value of an MSR is written without leading zeros."""
    return len(words) == 4 and words[0] in ("MSR", "HWMSR") and words[2] == "1" and len(words[3]) < 16


def parse_snapshot(lines: Iterable[str], source: str = "snapshot") -> Snapshot:
    """Read a snapshot from its lines, with or without their line ends; `source` names it in errors.

    Raises InputError with the line at fault. Where the last line alone lacks its end, it may be cut: there the last register must have
    all its digits, and so must the value of an MSR.
    """
    reader, given = _Reader(), iter(lines)
    first = line = next(given, "")
    number = 0
    for number, line in enumerate(chain((first,), given), 1):
        if not line or line.isspace() or line.startswith("#"):
            continue
        text = line.rstrip("\r\n")
        try:
            reader.line(text)
        except _Cut as cut:
            raise InputError(str(cut), source=source, line=number) from None
    if first.endswith("\n") and not line.endswith("\n"):
        words = line.split()
        if _ends_within_register(words):
            raise InputError("the file is cut within this line", source=source, line=number)
        if _ends_within_value(words):
            cause = "the file may be cut within this value: where it is whole, end its last line with a line break"
            raise InputError(cause, source=source, line=number)
    if not reader.raw and not reader.tables and not reader.pairs["CPUINFO"] and not reader.pairs["NAMED"]:
        cause = "no CPUID in it: neither RAW or SUP lines of a snapshot nor another form that is known"
        raise InputError(cause, source=source, line=number if first else None)
    return reader.snapshot()


def format_snapshot(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines of a snapshot, without line ends; `parse_snapshot` reads them back to an equal value.

    Raises InputError where it would not: a text of several lines or with half of a character, a name with a space, a note that reads as a
    fact, two RAW answers of one leaf, RAW flags, a table of more than ENTRY_LIMIT entries, or more than MSR_LIMIT MSRs.
    """
    _check(snapshot)
    if snapshot.cpu is not None:
        yield f"CPU {snapshot.cpu}"
    yield from snapshot.notes
    if snapshot.kernel is not None:
        yield f"KERNEL {snapshot.kernel}"
    if snapshot.qemu is not None:
        yield f"VMM QEMU {snapshot.qemu}"
    for name, value in snapshot.cpuinfo.items():
        yield f"CPUINFO {name} {value}"
    for name, value in snapshot.params.items():
        yield f"PARAM {name} {value}"
    for name, has in snapshot.named.items():
        yield f"NAMED {name} {'on' if has else 'off'}"
    for function, index, _, eax, ebx, ecx, edx in snapshot.raw:
        yield f"RAW {function:08x}.{index:x} {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}"
    for kind in ("SUP", "EMU", "HV", "TAB"):
        yield from _entries(kind, getattr(snapshot, _TABLES[kind]))
    for kind, msrs in (("MSR", snapshot.msrs), ("HWMSR", snapshot.hardware_msrs)):
        for msr, content in msrs.items():
            yield f"{kind} {msr:x} 1 {content:x}"
        for msr in msrs.refused:
            yield f"{kind} {msr:x} 0 0"
    if snapshot.set_result is not None:
        yield f"SETRC {snapshot.set_result}"
    yield from _entries("GOT", snapshot.kept)


def _entries(kind: str, table: CpuidTable | None) -> Iterator[str]:
    if table is not None:
        yield from (f"{kind} {entry}" for entry in table)
        if not table:
            yield f"{kind} {_EMPTY}"


def _check(snapshot: Snapshot) -> None:
    pairs = [*snapshot.cpuinfo.items(), *snapshot.params.items(), *((name, "on") for name in snapshot.named)]
    head = (snapshot.cpu or "", snapshot.kernel or "", snapshot.qemu or "")
    for text in (*head, *snapshot.notes, *(text for pair in pairs for text in pair)):
        if _NO_TEXT.search(text):
            raise InputError(f"a snapshot cannot hold {text[:40]!r}: it has control characters, or half of a character")
    for name, value in pairs:
        if not name or " " in name or value != value.strip():
            raise InputError(f"a snapshot cannot hold the name {name[:40]!r} with the value {value[:40]!r}")
    for note in snapshot.notes:
        if not note.strip() or note.startswith("#") or not _is_note(note):
            raise InputError(f"a snapshot cannot hold the note {note[:40]!r}: it would not read as one")
    if any(entry.flags for entry in snapshot.raw) or len({entry[:2] for entry in snapshot.raw}) < len(snapshot.raw):
        raise InputError("a snapshot's RAW entries have no flags, and there is one for a leaf and sub-leaf")
    if any(len(getattr(snapshot, name) or ()) > ENTRY_LIMIT for name in TABLE_KINDS.values()):
        raise InputError(f"a snapshot's tables have at most {ENTRY_LIMIT} entries")
    if any(len(table) + len(table.refused) > MSR_LIMIT for table in (snapshot.msrs, snapshot.hardware_msrs)):
        raise InputError(f"a snapshot has at most {MSR_LIMIT} MSRs of a kind")
