"""What `strace -v` (with -f for QEMU) shows of a VMM's ioctls about CPUID.

    ioctl(9, KVM_SET_CPUID2, {nent=28, entries=[{function=0x7, index=0, flags=KVM_CPUID_FLAG_SIGNIFCANT_INDEX, eax=0x1, …}, …]}) = 0

Ahead of the call may stand whatever -f, -i, -n, -r, -t and -Y print, the descriptor may have a name (-y, -yy), the ioctl a number (-X).

Each vCPU, told by its file descriptor and the thread where that is told, is a CPU: its table and what KVM_SET_CPUID2 returned. What
/dev/kvm answered belongs to all of them. Where a VMM asks or sets again, the last time counts that KVM did not refuse, or the last of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats.form import Format
from vcpuid.formats.lines import CPU_LIMIT, ENTRY_LIMIT

_FLAGS = {"KVM_CPUID_FLAG_SIGNIFCANT_INDEX": 1, "KVM_CPUID_FLAG_STATEFUL_FUNC": 2, "KVM_CPUID_FLAG_STATE_READ_NEXT": 4}
_SUPPORTED, _EMULATED, _SET = "KVM_GET_SUPPORTED_CPUID", "KVM_GET_EMULATED_CPUID", "KVM_SET_CPUID2"
_NUMBERS = {"0xc008ae05": _SUPPORTED, "0xc008ae09": _EMULATED, "0x4008ae90": _SET}
"""The ioctls as -X raw shows them (include/uapi/linux/kvm.h)."""

_THREAD = re.compile(r"\[pid +([0-9]+)|(?<![^\s>|])(?<![A-Z][a-z]{2} )(?<![A-Z][a-z]{2} {2})([0-9]+)(?=[< ])")
"""Ahead of a call, the first number that is no time or part of one, as the day in `Nov 23 10:20:30`."""

_NAMES = "|".join((_SUPPORTED, _EMULATED, _SET, *_NUMBERS))
_SIGN = re.compile(rf"ioctl\b(?<!\wioctl)\(([0-9]+)(?:<[^(\n]*>)?(?:\(deleted\))?, ({_NAMES})\b(?: /\* \w+ \*/)?")
_UNFINISHED = " <unfinished ...>"
_RESUMED = "<... ioctl resumed>"
_DONE = re.compile(r", \{nent=([0-9]{1,9}), entries=\[(.*)\]\}\s*\)\s+= (-?[0-9]{1,9})(?: .*)?$")
_REFUSED = re.compile(r", (?:0x[0-9a-f]+|NULL|\{nent=[0-9]+\})\s*\)\s+= -[0-9]+ ")
_POINTER = re.compile(r", 0x[0-9a-f]+\s*\)\s+= 0")
_HEX = "0x[0-9a-f]{1,8}|0"
_FLAG = f"{_HEX}|{'|'.join(_FLAGS)}"
_ENTRY = re.compile(
    rf"\{{function=({_HEX}), index=({_HEX}), flags=((?:{_FLAG})(?:[|](?:{_FLAG}))*)(?: /\*[^*]*\*/)?,"
    rf" eax=({_HEX}), ebx=({_HEX}), ecx=({_HEX}), edx=({_HEX})\}}(?:, |$)"
)


class _Call(NamedTuple):
    """An ioctl about CPUID: where it begins, who made it on what, and what follows its name."""

    line: int
    thread: str
    descriptor: str
    ioctl: str
    rest: str


class _Set(NamedTuple):
    """What a vCPU was given, what KVM returned, and what is to be said of that."""

    table: CpuidTable | None = None
    result: int | None = None
    notes: tuple[str, ...] = ()


def read(text: str, source: str) -> list[Snapshot]:
    """Read every vCPU; raises InputError for a call that is cut, or shown without its entries."""
    asked: dict[str, CpuidTable] = {}
    vcpus: dict[tuple[str, str], _Set] = {}
    differing: dict[str, None] = {}
    for call in _calls(text, source):
        if _REFUSED.match(call.rest):
            continue
        table, result = _done(call, source)
        if call.ioctl == _SET:
            vcpu = call.thread, call.descriptor
            vcpus[vcpu] = _after(vcpus.get(vcpu, _Set()), table, result)
            if len(vcpus) > CPU_LIMIT:  # which is refused: further ones would only take memory
                break
        elif result == 0:
            if asked.get(call.ioctl, table) != table:
                differing[f"{call.ioctl} has several answers: the last counts"] = None
            asked[call.ioctl] = table
    if not vcpus and not asked:
        raise InputError("KVM refused every call about CPUID in it", source=source)
    supported, emulated = asked.get(_SUPPORTED), asked.get(_EMULATED)
    return [
        Snapshot(supported=supported, emulated=emulated, table=table, set_result=result, notes=(*differing, *notes))
        for table, result, notes in vcpus.values() or [_Set()]
    ]


def _after(before: _Set, table: CpuidTable, result: int) -> _Set:
    if before.result != 0:
        return _Set(table, result)
    if result != 0 or table == before.table:
        return before
    return _Set(table, result, ("KVM took several tables for this vCPU, or for several with the same descriptor: the last counts",))


def _calls(text: str, source: str) -> Iterator[_Call]:
    """Yield each call about CPUID; one that another thread's interrupted is put together."""
    waiting: dict[str, tuple[int, list[str]]] = {}  # what is said of a call so far, in parts: it may be interrupted over and over
    for number, line in enumerate(text.split("\n"), 1):
        if "ioctl" not in line:
            continue
        found = _THREAD.search(line, 0, line.index("ioctl"))
        thread = (found[1] or found[2]) if found else ""
        begun, resumed, rest = line.partition(_RESUMED)
        if resumed:
            number, parts = waiting.pop(thread, (number, []))
            if not any(parts) and "entries=[" in rest:
                raise InputError("the trace lacks the beginning of this call", source=source, line=number)
            parts.append(rest)
        else:
            parts = [begun]
        if parts[-1].rstrip().endswith(_UNFINISHED):
            parts[-1] = parts[-1].rstrip().removesuffix(_UNFINISHED)
            waiting[thread] = number, parts
        elif found := _SIGN.search("".join(parts)):
            yield _call(number, thread, found)
    for thread, (number, parts) in waiting.items():
        if found := _SIGN.search("".join(parts)):
            yield _call(number, thread, found)


def _call(line: int, thread: str, found: re.Match[str]) -> _Call:
    return _Call(line, thread, found[1], _NUMBERS.get(found[2], found[2]), found.string[found.end() :])


def _done(call: _Call, source: str) -> tuple[CpuidTable, int]:
    """Give the entries of a call and what it returned."""
    done = _DONE.match(call.rest)
    if done is None:
        cause = "has no entries: strace could not show them" if _POINTER.match(call.rest) else "is cut"
        raise InputError(f"{call.ioctl} {cause}", source=source, line=call.line)
    count, entries = int(done[1]), done[2]
    if entries == "...":
        raise InputError("strace was run without -v: the entries are left out", source=source, line=call.line)
    if count > ENTRY_LIMIT:
        raise InputError(f"more than {ENTRY_LIMIT} entries in one table", source=source, line=call.line)
    table = CpuidTable(_entries(entries, source, call.line))
    if len(table) != count:
        raise InputError(f"{len(table)} entries where {call.ioctl} tells of {count}", source=source, line=call.line)
    return table, int(done[3])


def _entries(text: str, source: str, line: int) -> Iterator[Entry]:
    end = 0
    while found := _ENTRY.match(text, end):
        end = found.end()
        function, index, flags, *registers = found.groups()
        marks = 0
        for flag in flags.split("|"):
            marks |= _FLAGS.get(flag) or int(flag, 16)
        yield Entry(int(function, 16), int(index, 16), marks, *(int(register, 16) for register in registers))
    if end != len(text):
        raise InputError(f"{text[end : end + 40]!r} is not an entry of CPUID", source=source, line=line)


_HOLDS = ("table", "supported", "emulated", "set_result")
FORMAT = Format("strace", "strace -v of a VMM", lambda text: bool(_SIGN.search(text)), read, holds=_HOLDS)
