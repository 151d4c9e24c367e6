"""What `strace -v` (with -f for QEMU) shows of a VMM's ioctls about CPUID.

    ioctl(9, KVM_SET_CPUID2, {nent=28, entries=[{function=0x7, index=0, flags=KVM_CPUID_FLAG_SIGNIFCANT_INDEX, eax=0x1, …}, …]}) = 0

Each vCPU, told by its file descriptor, is a CPU: its table and what KVM_SET_CPUID2 returned. What /dev/kvm answered belongs to all of
them. Where a VMM asks or sets again, the last time counts that KVM did not refuse, or the last of all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.sources.formats.form import Format

_FLAGS = {"KVM_CPUID_FLAG_SIGNIFCANT_INDEX": 1, "KVM_CPUID_FLAG_STATEFUL_FUNC": 2, "KVM_CPUID_FLAG_STATE_READ_NEXT": 4}
_SUPPORTED, _EMULATED, _SET = "KVM_GET_SUPPORTED_CPUID", "KVM_GET_EMULATED_CPUID", "KVM_SET_CPUID2"

_NAMES = f"{_SUPPORTED}|{_EMULATED}|{_SET}"
_PID = re.compile(r"(?:\[pid +(\d+)\] |(\d+) +)?(?:[\d:.]+ +)?")
_CALL = re.compile(rf"ioctl\((\d+(?:<[^>]*>)?), ({_NAMES}), (.*)")
_UNFINISHED = " <unfinished ...>"
_RESUMED = "<... ioctl resumed>"
_DONE = re.compile(r"\{nent=(\d+), entries=\[(.*)\]\}\)\s+= (-?\d+)(?: .*)?$")
_REFUSED = re.compile(r"(?:0x[0-9a-f]+|NULL|\{nent=\d+\})\)\s+= -\d+ ")
_HEX = "0x[0-9a-f]{1,8}|0"
_FLAG = f"{_HEX}|{'|'.join(_FLAGS)}"
_ENTRY = re.compile(
    rf"\{{function=({_HEX}), index=({_HEX}), flags=((?:{_FLAG})(?:[|](?:{_FLAG}))*)(?: /\*[^*]*\*/)?,"
    rf" eax=({_HEX}), ebx=({_HEX}), ecx=({_HEX}), edx=({_HEX})\}}(?:, |$)"
)
_SIGN = re.compile(rf"\bioctl\(\d+(?:<[^>\n]*>)?, (?:{_NAMES})\b")


def read(text: str, source: str) -> list[Snapshot]:
    """Read every vCPU; raises InputError for a call that is cut, or shown without its entries."""
    asked: dict[str, CpuidTable] = {}
    vcpus: dict[str, tuple[CpuidTable | None, int | None]] = {}
    for line, descriptor, ioctl, rest in _calls(text):
        if _REFUSED.match(rest):
            continue
        done = _DONE.match(rest)
        if done is None:
            raise InputError(f"{ioctl} is cut", source=source, line=line)
        if done[2] == "...":
            raise InputError("strace was run without -v: the entries are left out", source=source, line=line)
        table = CpuidTable(_entries(done[2], source, line))
        if len(table) != int(done[1]):
            raise InputError(f"{len(table)} entries where {ioctl} tells of {done[1][:10]}", source=source, line=line)
        if ioctl != _SET:
            asked[ioctl] = table
        elif int(done[3]) == 0 or vcpus.get(descriptor, (None, None))[1] != 0:
            vcpus[descriptor] = table, int(done[3])
    if not vcpus and not asked:
        raise InputError("KVM refused every call about CPUID in it", source=source)
    supported, emulated = asked.get(_SUPPORTED), asked.get(_EMULATED)
    cpus = [*vcpus.values()] or [(None, None)]
    return [Snapshot(supported=supported, emulated=emulated, table=table, set_result=result) for table, result in cpus]


def _calls(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield line, file descriptor, ioctl and the rest of each call; one that another thread's interrupted is put together."""
    waiting: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if "ioctl" not in line:
            continue
        head = _PID.match(line)
        pid, call = ("", line) if head is None else (head[1] or head[2] or "", line[head.end() :])
        if call.endswith(_UNFINISHED):
            waiting[pid] = (number, call.removesuffix(_UNFINISHED))
            continue
        if call.startswith(_RESUMED):
            number, begun = waiting.pop(pid, (number, ""))
            call = begun + call.removeprefix(_RESUMED)
        if found := _CALL.match(call):
            yield number, found[1], found[2], found[3]


def _entries(text: str, source: str, line: int) -> Iterator[Entry]:
    end = 0
    while found := _ENTRY.match(text, end):
        end = found.end()
        function, index, flags, *registers = found.groups()
        marks = sum(_FLAGS.get(flag) or int(flag, 16) for flag in flags.split("|"))
        yield Entry(int(function, 16), int(index, 16), marks, *(int(register, 16) for register in registers))
    if end != len(text):
        raise InputError(f"{text[end : end + 40]!r} is not an entry of CPUID", source=source, line=line)


_HOLDS = ("table", "supported", "emulated", "set_result")
FORMAT = Format("strace", "strace -v of a VMM", lambda text: bool(_SIGN.search(text)), read, holds=_HOLDS)
