#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# ruff: noqa
# mypy: ignore-errors
# fmt: off
"""Write what this machine tells of its CPU and its KVM, as a snapshot for vcpuid: python3 vcpuid_collect.py > host.txt

Takes Linux on x86-64 and Python 3.8 or newer, nothing else, and changes nothing. tools/build_collector.py makes this file out of the
modules named in it: what is to change is changed there.
"""

from __future__ import annotations

import argparse
import errno
import errno as _errno
import fcntl
import os
import struct
import sys
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Mapping, NamedTuple, Sequence, overload


# ---------------- vcpuid.errors


class VcpuidError(Exception):
    """Root of the tree."""

    exit_status = 3


class InputError(VcpuidError):
    """Bad input. `source` and `line` say where, when it came from a file (lines count from 1)."""

    def __init__(self, cause: str, *, source: str | None = None, line: int | None = None) -> None:
        self.cause, self.source, self.line = cause, source, line
        where = "" if source is None else f"{source}: " if line is None else f"{source}:{line}: "
        super().__init__(where + cause)


class UnavailableError(VcpuidError):
    """The environment lacks something that the request needs."""

    exit_status = 4


class KvmError(VcpuidError):
    """KVM refuses an ioctl: `errno` as the caller of the ioctl would see it, `reason` in words."""

    exit_status = 1

    def __init__(self, errno: int, reason: str) -> None:
        self.errno, self.reason = errno, reason
        super().__init__(f"{_errno.errorcode.get(errno, errno)}: {reason}")


# ---------------- vcpuid.cpuid.words

INDEXED_FUNCTIONS = frozenset(
    {
        *(0x4, 0x7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1B, 0x1D, 0x1E, 0x1F, 0x20, 0x23, 0x24, 0x29),
        *(0x8000001D, 0x80000020, 0x80000026),
    }
)
"""Leaves of which the manuals (Intel SDM vol. 2A CPUID, AMD APM vol. 3 appendix E) define sub-leaves."""


# ---------------- vcpuid.cpuid.registers

SIGNIFICANT_INDEX = 1
"""KVM_CPUID_FLAG_SIGNIFCANT_INDEX of `Entry.flags`: the entry answers only for its own index (ECX)."""


class Registers(NamedTuple):
    """The four registers that CPUID returns, 32 bits each."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


class Entry(NamedTuple):
    """One answer of CPUID: struct kvm_cpuid_entry2 without its padding.

    `function` is EAX on entry (the leaf), `index` ECX on entry (the sub-leaf), `flags` KVM's flags.
    """

    function: int
    index: int  # type: ignore[assignment]  # KVM's name; hides tuple.index, which nobody asks of an entry
    flags: int
    eax: int
    ebx: int
    ecx: int
    edx: int

    def __str__(self) -> str:
        return "{:08x}.{:x} f{:x} {:08x} {:08x} {:08x} {:08x}".format(*self)


class CpuidTable(Sequence[Entry]):
    """CPUID entries in the order in which KVM or a dump gave them; immutable.

    `get` finds the first entry of a function and index. Where the index does not count (a leaf without sub-leaves, no
    SIGNIFICANT_INDEX), the entry is sub-leaf 0 as well as what it says: QEMU 10.0 leaves an old index there. What a vCPU answers for any
    function and index, by KVM's rules, is `vcpuid.kvm.lookup`.
    """

    __slots__ = ("_by_function", "_by_key", "_entries", "_stale")
    _by_function: dict[int, tuple[Entry, ...]]
    _by_key: dict[tuple[int, int], Entry]
    _stale: dict[tuple[int, int], Entry]

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = tuple(entries)

    def __getattr__(self, name: str) -> object:
        """Make an index when it is first asked for: of a pile of dumps, most tables are only listed."""
        if name == "_by_function":
            grouped: dict[int, list[Entry]] = {}
            for entry in self._entries:
                grouped.setdefault(entry.function, []).append(entry)
            self._by_function = {number: tuple(entries) for number, entries in grouped.items()}
        elif name in ("_by_key", "_stale"):
            self._by_key, self._stale = self._index()
        return object.__getattribute__(self, name)

    def _index(self) -> tuple[dict[tuple[int, int], Entry], dict[tuple[int, int], Entry]]:
        by_key: dict[tuple[int, int], Entry] = {}
        stale: dict[tuple[int, int], Entry] = {}
        for entry in self._entries:
            function, index, flags = entry[:3]
            if index and not flags & SIGNIFICANT_INDEX and function not in INDEXED_FUNCTIONS and (function, 0) not in by_key:
                stale.setdefault((function, index), entry)
                index = 0
            by_key.setdefault((function, index), entry)
        return by_key, stale

    def get(self, function: int, index: int = 0) -> Entry | None:
        """Return the first entry of this function and index, None where there is none."""
        return self._by_key.get((function, index)) or self._stale.get((function, index))

    @overload
    def __getitem__(self, position: int) -> Entry: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Entry, ...]: ...
    def __getitem__(self, position: int | slice) -> Entry | tuple[Entry, ...]:
        return self._entries[position]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self._entries == other._entries if isinstance(other, CpuidTable) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._entries)

    def __repr__(self) -> str:
        return f"CpuidTable({len(self._entries)} entries)"


class MsrTable(Mapping[int, int]):
    """Feature MSRs by index. `refused` are those that KVM lists and yet did not read."""

    __slots__ = ("_values", "refused")

    def __init__(self, values: Mapping[int, int] | Iterable[tuple[int, int]] = (), refused: Iterable[int] = ()) -> None:
        self._values = dict(values)
        self.refused = tuple(refused)

    def __getitem__(self, index: int) -> int:
        return self._values[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, MsrTable):
            return self._values == other._values and self.refused == other.refused
        return self._values == other if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash((frozenset(self._values.items()), self.refused))

    def __repr__(self) -> str:
        return f"MsrTable({', '.join(f'{i:x}: {v:x}' for i, v in self._values.items())})"


@dataclass(frozen=True)
class Snapshot:
    """What one machine tells of its CPU; parts it did not tell are None or empty.

    `raw` is the CPUID instruction as user space sees it; `supported`, `emulated` and `hyperv` are KVM_GET_SUPPORTED_CPUID,
    KVM_GET_EMULATED_CPUID and KVM_GET_SUPPORTED_HV_CPUID; `msrs` the feature MSRs by KVM's system ioctl; `cpuinfo` lines of
    /proc/cpuinfo on one CPU; `params` kernel module parameters as "kvm_intel.nested"; `named` features that QEMU, libvirt or
    a CPU template tell of by name, without any CPUID, and whether the CPU has them; `table` a table made for KVM_SET_CPUID2; `kept`
    what KVM_GET_CPUID2 gave back after `table` (or, without one, `supported`) was handed to KVM_SET_CPUID2, and `set_result` that call's
    return value. `cpu` and `kernel` say where it was taken; `notes` are free lines.
    """

    raw: CpuidTable = field(default_factory=CpuidTable)
    supported: CpuidTable | None = None
    emulated: CpuidTable | None = None
    hyperv: CpuidTable | None = None
    msrs: MsrTable = field(default_factory=MsrTable)
    cpuinfo: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    params: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    named: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))
    table: CpuidTable | None = None
    kept: CpuidTable | None = None
    set_result: int | None = None
    cpu: str | None = None
    kernel: str | None = None
    notes: tuple[str, ...] = ()


# ---------------- vcpuid.kvm.structs


def _io(number: int, size: int = 0, *, to_kernel: bool = False, from_kernel: bool = False) -> int:
    return (from_kernel << 31) | (to_kernel << 30) | size << 16 | 0xAE << 8 | number


GET_API_VERSION = _io(0x00)
CHECK_EXTENSION = _io(0x03)
GET_SUPPORTED_CPUID = _io(0x05, 8, to_kernel=True, from_kernel=True)
GET_EMULATED_CPUID = _io(0x09, 8, to_kernel=True, from_kernel=True)
GET_MSR_FEATURE_INDEX_LIST = _io(0x0A, 4, to_kernel=True, from_kernel=True)
GET_MSRS = _io(0x88, 8, to_kernel=True, from_kernel=True)
GET_SUPPORTED_HV_CPUID = _io(0xC1, 8, to_kernel=True, from_kernel=True)

NAMES = {value: f"KVM_{name}" for name, value in list(globals().items()) if name.isupper() and isinstance(value, int)}
"""The ioctls' names, for messages."""

_COUNT = struct.Struct("<II")
_ENTRY = struct.Struct("<7I12x")
_MSR = struct.Struct("<IIQ")


def empty_table(room: int) -> bytearray:
    """Write struct kvm_cpuid2 with room for so many entries."""
    return bytearray(_COUNT.pack(room, 0) + bytes(_ENTRY.size * room))


def unpack_table(buffer: bytes | bytearray) -> CpuidTable:
    """Read struct kvm_cpuid2."""
    count, _ = _COUNT.unpack_from(buffer)
    entries = memoryview(buffer)[_COUNT.size : _COUNT.size + count * _ENTRY.size]
    return CpuidTable(Entry(*fields) for fields in _ENTRY.iter_unpack(entries))


def pack_index_list(room: int) -> bytearray:
    """Write struct kvm_msr_list with room for so many indices."""
    return bytearray(struct.pack("<I", room) + bytes(4 * room))


def unpack_index_list(buffer: bytes | bytearray) -> tuple[int, list[int]]:
    """Read struct kvm_msr_list: how many there are, and those that the buffer holds."""
    (count,) = struct.unpack_from("<I", buffer)
    held = min(count, len(buffer) // 4 - 1)
    return count, list(struct.unpack_from(f"<{held}I", buffer, 4))


def pack_msr(index: int, value: int = 0) -> bytearray:
    """Write struct kvm_msrs with one MSR."""
    return bytearray(_COUNT.pack(1, 0) + _MSR.pack(index, 0, value))


def unpack_msr(buffer: bytes | bytearray) -> int:
    """Read the value of the first MSR in struct kvm_msrs."""
    value: int = _MSR.unpack_from(buffer, _COUNT.size)[2]
    return value


# ---------------- vcpuid.kvm.device

PATH = "/dev/kvm"
_API_VERSION = 12
_CAP_EXT_CPUID = 7
_ROOM = 256
_MOST = 1 << 14
_HELP = {
    errno.ENOENT: "load kvm_intel or kvm_amd, or turn virtualization on in the firmware",
    errno.ENXIO: "load kvm_intel or kvm_amd, or turn virtualization on in the firmware",
    errno.ENODEV: "load kvm_intel or kvm_amd, or turn virtualization on in the firmware",
    errno.EACCES: "add yourself to the kvm group (sudo usermod -aG kvm $USER) and log in again",
    errno.EPERM: "this process or container may not open it",
}


class _Handle:
    """A descriptor of KVM, closed once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _ioctl(self, request: int, argument: int | bytearray = 0) -> int:
        # A buffer must be mutable: fcntl.ioctl copies immutable ones, and refuses those over 1,024 bytes.
        try:
            return fcntl.ioctl(self._descriptor, request, argument)
        except OSError as error:
            raise KvmError(error.errno or 0, f"{NAMES[request]}: {error.strerror}") from None

    def _fill(self, request: int, buffer: bytearray) -> bytearray:
        self._ioctl(request, buffer)
        return buffer

    def _table(self, request: int, room: int = _ROOM) -> CpuidTable:
        """Ask for a table, with more room each time that it does not fit."""
        while True:
            try:
                return unpack_table(self._fill(request, empty_table(room)))
            except KvmError as error:
                if error.errno != errno.E2BIG or room >= _MOST:
                    raise
                room = max(_ROOM, room * 4)


class Kvm(_Handle):
    """The device. Raises UnavailableError where it cannot be opened or is not KVM's on an x86 machine."""

    def __init__(self, path: str = PATH) -> None:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            remedy = _HELP.get(error.errno or 0)
            raise UnavailableError(f"{path}: {error.strerror}{f': {remedy}' if remedy else ''}") from None
        super().__init__(descriptor)
        lack = self._lack(path)
        if lack is not None:
            self.close()
            raise UnavailableError(lack)

    def _lack(self, path: str) -> str | None:
        """Say why the file is not KVM's device for x86, None where it is."""
        try:
            version = self._ioctl(GET_API_VERSION)
        except KvmError as error:
            return f"{path} is not KVM's device: {os.strerror(error.errno)}"
        if version != _API_VERSION:
            return f"{path} speaks version {version} of KVM's interface, not {_API_VERSION}"
        if not self.check_extension(_CAP_EXT_CPUID):
            return f"{path} knows no CPUID: this is not an x86 processor"
        return None

    def supported_cpuid(self) -> CpuidTable:
        """KVM_GET_SUPPORTED_CPUID: what a guest may have."""
        return self._table(GET_SUPPORTED_CPUID)

    def emulated_cpuid(self) -> CpuidTable:
        """KVM_GET_EMULATED_CPUID: what a guest may have besides, at the price of exits."""
        return self._table(GET_EMULATED_CPUID)

    def hyperv_cpuid(self) -> CpuidTable:
        """KVM_GET_SUPPORTED_HV_CPUID, which the device answers since Linux 5.11; KvmError(ENOTTY or EINVAL) where it does not."""
        return self._table(GET_SUPPORTED_HV_CPUID)

    def feature_msrs(self) -> MsrTable:
        """Read the feature MSRs (KVM_GET_MSR_FEATURE_INDEX_LIST), each by itself; those not readable are listed as refused."""
        values: dict[int, int] = {}
        refused = []
        for index in self._feature_indices():
            buffer = pack_msr(index)
            try:
                read = self._ioctl(GET_MSRS, buffer)
            except KvmError:
                read = 0
            if read == 1:
                values[index] = unpack_msr(buffer)
            else:
                refused.append(index)
        return MsrTable(values, refused)

    def _feature_indices(self) -> list[int]:
        room = _ROOM
        while room <= _MOST:
            buffer = pack_index_list(room)
            try:
                return unpack_index_list(self._fill(GET_MSR_FEATURE_INDEX_LIST, buffer))[1]
            except KvmError as error:
                if error.errno != errno.E2BIG:
                    raise
            room = max(room * 2, unpack_index_list(buffer)[0])
        raise KvmError(errno.E2BIG, f"KVM_GET_MSR_FEATURE_INDEX_LIST: more than {_MOST} feature MSRs")

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION: 0 where KVM lacks a capability (KVM_CAP_ number), else what that capability tells."""
        return self._ioctl(CHECK_EXTENSION, capability)


# ---------------- vcpuid.sources.walk

_RANGES = (0, 0x20000000, 0x40000000, 0x80000000, 0x80860000, 0xC0000000)
_HYPERVISORS = range(0x40000000, 0x40010000, 0x100)
_RANGE_LIMIT = 0x400
_SUBLEAF_LIMIT = 0x100
_KVM = Registers(0, 0x4B4D564B, 0x564B4D56, 0x4D)


def walk(cpuid: Cpuid) -> CpuidTable:
    """Ask for every leaf and sub-leaf there is, in ascending order.

    Always ends: of a range at most 1024 leaves are asked, of a leaf at most 257 sub-leaves.
    """
    return CpuidTable(entry for function in _functions(cpuid) for entry in _leaf(cpuid, function))


def _functions(cpuid: Cpuid) -> Iterator[int]:
    for base in sorted({*_RANGES, *_HYPERVISORS}):
        last = _last(base, cpuid(base, 0))
        yield from range(base, last + 1)
        if base in _RANGES and last < base:
            yield base


def _last(base: int, answer: Registers) -> int:
    """Give the last leaf of a range by its first one's answer; less than `base` where there is no such range."""
    if answer == _KVM:  # KVM of old left EAX 0 and meant base + 1 (Linux, Documentation/virt/kvm/x86/cpuid.rst)
        return base + 1
    span = 0xFF if base in _HYPERVISORS else 0xFFFF
    return min(answer.eax, base + _RANGE_LIMIT - 1) if base <= answer.eax <= base + span else base - 1


def _leaf(cpuid: Cpuid, function: int) -> Iterator[Entry]:
    answers: dict[int, Registers] = {}

    def ask(index: int) -> Registers:
        if index not in answers:
            answers[index] = cpuid(function, index)
        return answers[index]

    kept = {0, *SUBLEAVES.get(function, _none)(ask)}
    return (Entry(function, index, 0, *ask(index)) for index in sorted(kept))


def _none(_ask: _Ask) -> Iterable[int]:
    return ()


def _counted(ask: _Ask) -> Iterable[int]:
    """Sub-leaf 0 has the last sub-leaf's number in EAX."""
    return range(1, min(ask(0).eax, _SUBLEAF_LIMIT) + 1)


def _listed(register: str) -> Rule:
    """Sub-leaf 0 has a bit for each sub-leaf in that register; bit 0 is reserved or sub-leaf 0 itself."""
    return lambda ask: _bits(getattr(ask(0), register))


def _until(first: int, register: str, mask: int) -> Rule:
    """From `first` on, sub-leaves follow one another up to one whose type field is 0; that one is asked too."""

    def rule(ask: _Ask) -> Iterator[int]:
        yield from range(first)
        for index in range(first, _SUBLEAF_LIMIT + 1):
            yield index
            if not getattr(ask(index), register) & mask:
                return

    return rule


def _xsave(ask: _Ask) -> Iterable[int]:
    """Sub-leaf 1, and one for each state component that XCR0 (sub-leaf 0 EDX:EAX) or XSS (sub-leaf 1 EDX:ECX) may enable.

    Emulated processors describe components that they then do not enable, and QEMU looks at those (kvm_cpu_xsave_init in QEMU's
    target/i386/kvm/kvm-cpu.c): all that are described are kept.
    """
    user, supervisor = ask(0), ask(1)
    components = (user.edx | supervisor.edx) << 32 | user.eax | supervisor.ecx
    return [1, *(index for index in range(2, 63) if components >> index & 1 or any(ask(index)))]


def _bits(mask: int) -> Iterable[int]:
    return (position for position in range(mask.bit_length()) if mask >> position & 1)


_caches = _until(0, "eax", 0x1F)
_topology = _until(0, "ecx", 0xFF00)

SUBLEAVES: dict[int, Rule] = {
    0x4: _caches,
    0x7: _counted,
    0xB: _topology,
    0xD: _xsave,
    0xF: _listed("edx"),
    0x10: _listed("ebx"),
    0x12: _until(2, "eax", 0xF),
    0x14: _counted,
    0x17: _counted,
    0x18: _counted,
    0x1B: _until(0, "eax", 0xFFF),
    0x1D: _counted,
    0x1E: _counted,
    0x1F: _topology,
    0x20: _counted,
    0x23: _listed("eax"),
    0x24: _counted,
    0x27: _listed("edx"),
    0x28: _listed("ebx"),
    0x29: _counted,
    0x8000001D: _caches,
    0x80000020: _listed("ebx"),
    0x80000026: _topology,
}
"""The leaves that have sub-leaves, each with its rule."""


# ---------------- vcpuid.sources.dev_cpu


@contextmanager
def cpuid_device(cpu: int) -> Iterator[Cpuid]:
    """Open a CPU's device and yield a function that asks it; raises UnavailableError where that is not to be had.

    The position in the file is the question, index << 32 | function, and the 16 bytes there are EAX, EBX, ECX, EDX.
    """
    path = f"/dev/cpu/{cpu}/cpuid"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror} (the kernel module 'cpuid' makes it, and root may read it)") from None

    def cpuid(function: int, index: int = 0) -> Registers:
        try:
            return Registers(*struct.unpack("<4I", os.pread(descriptor, 16, index << 32 | function)))
        except (OSError, struct.error) as error:
            raise UnavailableError(f"{path}: cannot read leaf {function:x}.{index:x}: {error}") from None

    try:
        yield cpuid
    finally:
        os.close(descriptor)


# ---------------- vcpuid.sources.live

# void cpuid(uint32_t function /* edi */, uint32_t index /* esi */, uint32_t answer[4] /* rdx */), System V ABI; RBX is the caller's.
_CODE = bytes.fromhex(
    "f30f1efa"  # endbr64
    "53"  # push rbx
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8 + 4], ebx
    "41894808"  # mov [r8 + 8], ecx
    "4189500c"  # mov [r8 + 12], edx
    "5b"  # pop rbx
    "c3"  # ret
)


def instruction() -> Cpuid:
    """Return a function that executes CPUID on whichever CPU the calling thread runs.

    Its machine code lies in a page of its own, which is written first and made executable then, never both at once. Raises
    UnavailableError where there is no x86-64, or where the system's policy (SELinux, systemd's MemoryDenyWriteExecute) forbids
    executable memory; the kernel's /dev/cpu/N/cpuid (dev_cpu.py) needs none.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        raise UnavailableError("executing CPUID takes Linux on an x86-64 processor and a 64-bit Python")
    try:
        import ctypes
        import mmap

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_EXEC):
            errno = ctypes.get_errno()
            raise OSError(errno, os.strerror(errno))
    except (ImportError, OSError) as error:
        raise UnavailableError(f"no executable memory to put a CPUID instruction in ({error}); try cpu:N, the kernel's device") from None
    four = ctypes.c_uint32 * 4
    call = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))(address)

    def cpuid(function: int, index: int = 0, _page: object = page) -> Registers:  # _page: the code lives as long as the function
        answer = four()
        call(function, index, answer)
        return Registers(*answer)

    return cpuid


@contextmanager
def pinned(cpu: int | None = None) -> Iterator[int]:
    """Keep the calling thread on one CPU: on `cpu`, or else on the first that it may run on; yields which.

    The thread's affinity is as before afterwards, whatever happens. Raises UnavailableError where there is no such CPU or the thread
    may not run on it.
    """
    if sys.platform != "linux":
        raise UnavailableError("choosing a CPU takes Linux")
    before = os.sched_getaffinity(0)
    chosen = min(before) if cpu is None else cpu
    try:
        try:
            os.sched_setaffinity(0, {chosen})
        except (OSError, ValueError, OverflowError):
            raise UnavailableError(f"CPU {chosen}: there is none of that number here, or this process may not run on it") from None
        yield chosen
    finally:
        os.sched_setaffinity(0, before)


# ---------------- vcpuid.sources.proc_cpuinfo

_KEPT = (
    "vendor_id",
    "cpu family",
    "model",
    "model name",
    "stepping",
    "microcode",
    "flags",
    "vmx flags",
    "bugs",
)
"""The lines that a snapshot keeps, under names with `_` for a space; the others are no matter of CPUID, or change."""


def cpuinfo_blocks(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield, for each processor of a /proc/cpuinfo, its number and the lines that a snapshot keeps."""
    number: str | None = None
    lines: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = (part.strip() for part in line.partition(":"))
        if name == "processor":
            if number is not None:
                yield number, lines
            number, lines = value, {}
        elif number is not None and name in _KEPT:
            lines[name.replace(" ", "_")] = "".join(character if character >= " " else "?" for character in value)
    if number is not None:
        yield number, lines


# ---------------- vcpuid.sources.machine


def observe(cpu: int | None = None, *, device: bool | None = None, kvm: bool | None = None) -> Snapshot:
    """Take a snapshot of this machine, on CPU `cpu` or else the first that this process may run on.

    `device`: whether CPUID comes from the kernel's /dev/cpu/N/cpuid (True) or from executing the instruction (False). `kvm`: whether
    /dev/kvm is asked (True) or not (False). None for either takes what the machine has, and a note in the snapshot says why where it
    lacks something. Raises UnavailableError where what was asked for, or any CPUID at all, is not to be had.
    """
    notes: list[str] = []
    # The kernel's device needs nobody on the CPU that it is asked of; the instruction and KVM answer for the one they run on.
    place = nullcontext(cpu) if device and kvm is False and cpu is not None else pinned(cpu)
    with place as chosen:
        raw = _raw(chosen, device, notes)
        answers = _kvm(kvm, notes)
    cpuinfo = read_cpuinfo(chosen)
    return Snapshot(
        raw=raw,
        **answers._asdict(),
        cpuinfo=MappingProxyType(cpuinfo),
        params=MappingProxyType(read_params()),
        cpu=cpuinfo.get("model_name"),
        kernel=os.uname().release,
        notes=tuple(notes),
    )


def _raw(cpu: int, device: bool | None, notes: list[str]) -> CpuidTable:
    if not device:
        try:
            return walk(instruction())
        except UnavailableError as error:
            if device is False:
                raise
            notes.append(f"CPUID is the kernel's, from /dev/cpu/{cpu}/cpuid: {error}")
    with cpuid_device(cpu) as cpuid:
        return walk(cpuid)


class _Answers(NamedTuple):
    """KVM's part of a snapshot; the names are the snapshot's."""

    supported: CpuidTable | None = None
    emulated: CpuidTable | None = None
    hyperv: CpuidTable | None = None
    msrs: MsrTable = MsrTable()


def _kvm(wanted: bool | None, notes: list[str]) -> _Answers:
    """Ask KVM on the CPU that the thread is pinned to, since its answers have that CPU's APIC ID."""
    if wanted is False:
        return _Answers()
    try:
        with Kvm() as kvm:
            return _Answers(
                supported=kvm.supported_cpuid(),
                emulated=_table("EMU", kvm.emulated_cpuid, notes),
                hyperv=_table("HV", kvm.hyperv_cpuid, notes),
                msrs=kvm.feature_msrs(),
            )
    except (UnavailableError, KvmError) as error:
        if wanted:
            raise UnavailableError(str(error)) from None
        notes.append(f"nothing of KVM: {error}")
        return _Answers()


def _table(kind: str, ask: Callable[[], CpuidTable], notes: list[str]) -> CpuidTable | None:
    """Ask for a table that older kernels do not give."""
    try:
        return ask()
    except KvmError as error:
        notes.append(f"{kind} ERR {error}")
        return None


def read_cpuinfo(cpu: int) -> dict[str, str]:
    """Read the lines of /proc/cpuinfo about one CPU that a snapshot keeps; empty where the kernel does not tell."""
    return next((lines for number, lines in cpuinfo_blocks(_text("/proc/cpuinfo")) if number == str(cpu)), {})


def read_params() -> dict[str, str]:
    """Read the parameters of KVM's modules that this process may read, as {"kvm_intel.nested": "Y"}."""
    params: dict[str, str] = {}
    for module in _names("/sys/module"):
        if module == "kvm" or module.startswith("kvm_"):
            folder = f"/sys/module/{module}/parameters"
            for name in _names(folder):
                if value := _text(f"{folder}/{name}").strip():
                    params[f"{module}.{name}"] = " ".join(value.split())
    return params


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


# ---------------- vcpuid.sources.parts

_ROWS = (
    ("raw", "RAW", "the CPUID instruction's answers"),
    ("table", "TAB", "the table for KVM_SET_CPUID2"),
    ("kept", "GOT", "the table that KVM kept"),
    ("supported", "SUP", "KVM_GET_SUPPORTED_CPUID"),
    ("emulated", "EMU", "KVM_GET_EMULATED_CPUID"),
    ("hyperv", "HV", "KVM_GET_SUPPORTED_HV_CPUID"),
)

TABLE_KINDS = {kind: name for name, kind, _ in _ROWS}
"""The names, by the words with which lines of a snapshot's file begin."""


# ---------------- vcpuid.sources.snapshot

_TABLES = {kind: name for kind, name in TABLE_KINDS.items() if kind != "RAW"}
_KINDS = {"MSR", "CPUINFO", "PARAM", "NAMED", "CPU", "KERNEL", "SETRC", *TABLE_KINDS}
_EMPTY = "empty"
ENTRY_LIMIT = 4096
"""Entries of a table, in any form: KVM takes 256 (KVM_MAX_CPUID_ENTRIES, arch/x86/include/asm/kvm_host.h), and no processor has as many."""


def _is_note(line: str) -> bool:
    """Whether a line, neither empty nor a comment, states no fact about the CPU."""
    kind, _, rest = line.partition(" ")
    return kind not in _KINDS or (kind in _TABLES and rest.startswith("ERR "))


def format_snapshot(snapshot: Snapshot) -> Iterator[str]:
    """Yield the lines of a snapshot, without line ends; `parse_snapshot` reads them back to an equal value.

    Raises InputError where it would not: a text of several lines or with half of a character, a name with a space, a note that reads as a
    fact, two RAW answers of one leaf, RAW flags or a table of more than ENTRY_LIMIT entries.
    """
    _check(snapshot)
    if snapshot.cpu is not None:
        yield f"CPU {snapshot.cpu}"
    yield from snapshot.notes
    if snapshot.kernel is not None:
        yield f"KERNEL {snapshot.kernel}"
    for name, value in snapshot.cpuinfo.items():
        yield f"CPUINFO {name} {value}"
    for name, value in snapshot.params.items():
        yield f"PARAM {name} {value}"
    for name, has in snapshot.named.items():
        yield f"NAMED {name} {'on' if has else 'off'}"
    for function, index, _, *registers in snapshot.raw:
        yield "RAW {:08x}.{:x} {:08x} {:08x} {:08x} {:08x}".format(function, index, *registers)
    for kind in ("SUP", "EMU", "HV", "TAB"):
        yield from _entries(kind, getattr(snapshot, _TABLES[kind]))
    for msr, content in snapshot.msrs.items():
        yield f"MSR {msr:x} 1 {content:x}"
    for msr in snapshot.msrs.refused:
        yield f"MSR {msr:x} 0 0"
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
    for text in (snapshot.cpu or "", snapshot.kernel or "", *snapshot.notes, *(text for pair in pairs for text in pair)):
        if any((character < " " and character != "\t") or "\ud800" <= character <= "\udfff" for character in text):
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


# ---------------- vcpuid.sources.collector


def main() -> int:
    """Write a snapshot of this machine to standard output; returns the exit status, as vcpuid's own commands do."""
    parser = argparse.ArgumentParser(
        prog="vcpuid_collect",
        description="Write what this machine tells of its CPU and its KVM to standard output, as a snapshot for vcpuid.",
    )
    parser.add_argument("--cpu", type=int, metavar="N", help="the CPU whose answers are taken (the first one allowed)")
    try:
        snapshot = observe(parser.parse_args().cpu)
        text = "".join(line + "\n" for line in format_snapshot(snapshot))
    except VcpuidError as error:
        print("vcpuid_collect:", error, file=sys.stderr)
        return error.exit_status
    for note in snapshot.notes:
        print("vcpuid_collect:", note, file=sys.stderr)
    sys.stdout.buffer.write(text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
