"""What CPUID and the feature MSRs answer, as values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import chain
from struct import pack
from typing import Any, NamedTuple, overload

from vcpuid.cpuid.frozen import FrozenMap
from vcpuid.cpuid.text import characters, up_to_zero
from vcpuid.cpuid.vendors import KVM, twelve
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, REGISTERS, Bit, CpuidWord, leaf_keys

SIGNIFICANT_INDEX = 1
"""KVM_CPUID_FLAG_SIGNIFCANT_INDEX of `Entry.flags`: the entry answers only for its own index (ECX)."""


class Registers(NamedTuple):
    """The four registers that CPUID returns, 32 bits each."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0


NOTHING = Registers()
"""What a leaf answers that is not there."""


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

    @property
    def registers(self) -> Registers:
        """The answer alone."""
        return tuple.__new__(Registers, self[3:])

    def as_dict(self) -> dict[str, object]:
        """For JSON: leaf, sub-leaf and registers in hexadecimal, the registers in eight digits; KVM's flags as a number."""
        registers: dict[str, object] = {register: f"{value:08x}" for register, value in zip(REGISTERS, self[3:], strict=True)}
        return {**leaf_keys(self.function, self.index), "flags": self.flags, **registers}

    def __str__(self) -> str:
        function, index, flags, eax, ebx, ecx, edx = self
        return f"{function:08x}.{index:x} f{flags:x} {eax:08x} {ebx:08x} {ecx:08x} {edx:08x}"


def packed(entries: Sequence[Entry]) -> bytes:
    """Return entries as `CpuidTable.packed` has them."""
    return pack(f"<{1 + 7 * len(entries)}I", len(entries), *chain.from_iterable(entries))


class CpuidTable(Sequence[Entry]):
    """CPUID entries in the order in which KVM or a dump gave them; immutable.

    `get` finds the first entry of a function and index. Where the index does not count (a leaf without sub-leaves, no
    SIGNIFICANT_INDEX), the entry is sub-leaf 0 as well as what it says: QEMU 10.0 leaves an old index there. What a vCPU answers for any
    function and index, by KVM's rules, is `vcpuid.kvm.lookup`.
    """

    __slots__ = ("_by_function", "_by_key", "_entries", "_hash", "_packed", "_stale")
    _by_function: dict[int, tuple[Entry, ...]]
    _by_key: dict[tuple[int, int], Entry]
    _hash: int
    _packed: bytes
    _stale: dict[tuple[int, int], Entry]

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = tuple(entries)

    def __getattr__(self, name: str) -> object:
        """Make an index, or the hash, when it is first asked for: of a pile of dumps, most tables are only listed."""
        if name == "_by_function":
            grouped: dict[int, list[Entry]] = {}
            for entry in self._entries:
                grouped.setdefault(entry.function, []).append(entry)
            self._by_function = {number: tuple(entries) for number, entries in grouped.items()}
        elif name in ("_by_key", "_stale"):
            self._by_key, self._stale = self._index()
        elif name == "_hash":
            self._hash = hash(self._entries)
        elif name == "_packed":
            self._packed = packed(self._entries)
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

    def leaf(self, function: int) -> tuple[Entry, ...]:
        """Return every entry of this function, in the table's order."""
        return self._by_function.get(function, ())

    def by_key(self) -> dict[tuple[int, int], Entry]:
        """Return the entries by leaf and sub-leaf, as a dict of the caller's own; of duplicates, the first."""
        return dict(self._by_key)

    def registers(self, function: int, index: int = 0) -> Registers:
        """Return that entry's registers, all zero where there is none."""
        entry = self._by_key.get((function, index))
        return NOTHING if entry is None else tuple.__new__(Registers, entry[3:])  # twice as fast as by the names of the fields

    def word(self, word: CpuidWord) -> int:
        """Return one register of one leaf, 0 where the table has no such entry."""
        entry = self._by_key.get((word.function, word.index))
        value: int = 0 if entry is None else getattr(entry, word.register)
        return value

    def has(self, bit: Bit) -> bool:
        """Tell whether a bit of a register is set; no bit of an MSR is."""
        return isinstance(bit.word, CpuidWord) and bool(self.word(bit.word) & bit.mask)

    def words(self) -> dict[CpuidWord, int]:
        """Return every register of every entry; of duplicates, the first."""
        return {
            CpuidWord(function, index, register): value
            for (function, index), entry in self._by_key.items()
            for register, value in zip(REGISTERS, entry[3:], strict=True)
        }

    def packed(self) -> bytes:
        """Return the entries as bytes, for digests: their number, then seven little-endian 32-bit words each."""
        return self._packed

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
        return self is other or self._entries == other._entries if isinstance(other, CpuidTable) else NotImplemented

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[CpuidTable], tuple[Any, ...]]:
        return CpuidTable, (self._entries,)

    def __repr__(self) -> str:
        return f"CpuidTable({len(self._entries)} entries)"


class MsrTable(Mapping[int, int]):
    """MSRs by index. `refused` are those that could not be read: KVM lists them and yet does not, or the hardware has none."""

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


VULNERABILITIES = "/sys/devices/system/cpu/vulnerabilities"
VULNERABILITY = "vulnerability_"
"""What the names of lines begin with that a snapshot keeps of files in this folder."""

_READ_OF_CPUINFO = ("flags", "vmx_flags", "bugs", "microcode")
"""The lines of /proc/cpuinfo that rules read; the model's name, say, is for people."""


@dataclass(frozen=True)
class Snapshot:
    """What one machine tells of its CPU; parts it did not tell are None or empty.

    `raw` is the CPUID instruction as user space sees it; `supported`, `emulated` and `hyperv` are KVM_GET_SUPPORTED_CPUID,
    KVM_GET_EMULATED_CPUID and KVM_GET_SUPPORTED_HV_CPUID; `msrs` the feature MSRs by KVM's system ioctl; `hardware_msrs` MSRs as RDMSR
    reads them on the host, refused where it raises #GP; `cpuinfo` lines of /proc/cpuinfo on one CPU, and as `vulnerability_mds` what
    sysfs says of each vulnerability; `params` kernel module parameters as "kvm_intel.nested"; `named` features that QEMU, libvirt or a
    CPU template tell of by name, without any CPUID, and whether the CPU has them; `table` a table made for KVM_SET_CPUID2; `kept` what
    KVM_GET_CPUID2 gave back after `table` (or, without one, `supported`) was handed to KVM_SET_CPUID2, and `set_result` that call's
    return value. `cpu` and `kernel` say where it was taken, `qemu` which QEMU starts guests there; `notes` are free lines.

    It is immutable and can be pickled. Two snapshots are equal where all of this is; `fingerprint` is the same where the rules cannot tell
    them apart, and is what hashes and caches go by.
    """

    raw: CpuidTable = field(default_factory=CpuidTable)
    supported: CpuidTable | None = None
    emulated: CpuidTable | None = None
    hyperv: CpuidTable | None = None
    msrs: MsrTable = field(default_factory=MsrTable)
    hardware_msrs: MsrTable = field(default_factory=MsrTable)
    cpuinfo: Mapping[str, str] = field(default_factory=FrozenMap)
    params: Mapping[str, str] = field(default_factory=FrozenMap)
    named: Mapping[str, bool] = field(default_factory=FrozenMap)
    table: CpuidTable | None = None
    kept: CpuidTable | None = None
    set_result: int | None = None
    cpu: str | None = None
    kernel: str | None = None
    qemu: str | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("cpuinfo", "params", "named"):
            given = getattr(self, name)
            if not isinstance(given, FrozenMap):
                object.__setattr__(self, name, FrozenMap(given))

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @cached_property
    def fingerprint(self) -> str:
        """32 hexadecimal digits over what the parties' rules read: KVM's and the processor's tables, MSRs, flags, parameters, the kernel.

        It is the same in every process and on every machine. Where a snapshot was taken, notes, and tables made for guests do not count.
        """
        digest = blake2b(digest_size=16)
        for table in (self.raw, self.supported, self.emulated, self.hyperv):
            digest.update(b"-" if table is None else table.packed())
        lines = tuple((name, self.cpuinfo[name]) for name in _READ_OF_CPUINFO if name in self.cpuinfo)
        digest.update(repr((sorted(self.msrs.items()), lines, sorted(self.params.items()), self.kernel)).encode())
        hardware = self.hardware_msrs
        if hardware or hardware.refused:
            digest.update(repr((sorted(hardware.items()), sorted(hardware.refused))).encode())
        return digest.hexdigest()

    @property
    def vendor(self) -> str:
        """The twelve characters of leaf 0, for example GenuineIntel; empty where leaf 0 is not known."""
        leaf0 = self.raw.get(0) or (self.supported.get(0) if self.supported is not None else None)
        return "" if leaf0 is None else vendor_name(leaf0.registers)


def brand_string(table: CpuidTable) -> str:
    """Spell the processor's name of leaves 0x80000002 to 0x80000004 up to its first zero character, blanks around it included."""
    return up_to_zero(*(value for function in (0x80000002, 0x80000003, 0x80000004) for value in table.registers(function)))


def vendor_name(leaf: Registers | Entry) -> str:
    """Spell the vendor of leaf 0 (EBX, EDX, ECX), or of any leaf that names one in that order."""
    return characters(leaf.ebx, leaf.edx, leaf.ecx).rstrip("\0")


def hypervisor_name(leaf: Registers | Entry) -> str:
    """Spell the hypervisor that the first leaf of a range from 0x40000000 on names (EBX, ECX, EDX)."""
    return characters(leaf.ebx, leaf.ecx, leaf.edx).rstrip("\0")


def is_kvm_guest(table: CpuidTable) -> bool:
    """Tell whether CPUID was read in a guest of KVM, whether or not that plays Hyper-V too."""
    return any(table.registers(base).ebx == _KVMK for base in (0x40000000, 0x40000100))


_KVMK = twelve(KVM)[0]
