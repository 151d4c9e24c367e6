"""A CPU of which only names are told: the bits of CPUID that these stand for, and which bits are told at all.

/proc/cpuinfo and lscpu print the flags that Linux has on; libvirt, QEMU and XenServer name what is on and what is off. A flag that is
printed is on. One that the kernel would print and does not is off for Linux, and counts as off: the CPUID instruction may say otherwise
where Linux turned it off itself. What has no name there, hidden flags, numbers of leaves and MSRs, is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from vcpuid.cpuid import bits, xfeatures
from vcpuid.cpuid.registers import CpuidTable, Entry, Registers, Snapshot
from vcpuid.cpuid.text import registers_of
from vcpuid.cpuid.vendors import AMD, KINDS, design_of, linux_kind, twelve
from vcpuid.cpuid.words import REGISTERS, Bit, CpuidWord, range_of
from vcpuid.numbers import decimal
from vcpuid.releases import KERNELS

if TYPE_CHECKING:
    from vcpuid.cpuid.features import Feature

REMARK = (
    "the host is told by names, without its CPUID: a flag that its Linux would print and does not counts as off, and what has no name "
    "there is not told"
)
"""What every answer about such a host says."""

GUESTS = (
    "the host's flags are those of a guest (hypervisor is one of them): what its hypervisor hides counts as lacking here, and the "
    "processor may have it"
)
"""What an answer says besides where a guest's own flags are taken for a processor's."""

_ALL = 0xFFFFFFFF

_LINUX_SETS = {
    "intel": {"X86_FEATURE_VNMI"},
    "amd": {"X86_FEATURE_ARAT", "X86_FEATURE_3DNOWPREFETCH", "X86_FEATURE_CPB", "X86_FEATURE_BTC_NO"},
}
"""Flags that Linux also sets by itself on a vendor's processors (`vcpuid.cpuid.notes`): there they say nothing of CPUID."""

_SUMMED_UP = {
    "intel": ((bits.SPEC_CTRL, "ibrs"), (bits.INTEL_STIBP, "stibp"), (bits.SPEC_CTRL_SSBD, "ssbd")),
    "amd": ((bits.AMD_IBRS, "ibrs"), (bits.AMD_IBPB, "ibpb"), (bits.AMD_STIBP, "stibp")),
}
"""Hidden bits, and the flag that Linux shows in their place (init_speculation_control, kernel/cpu/common.c).

The other vendor's bits make it show the same flag, but no hardware has them. AMD's SSBD has several ways, which share the flag.
"""

_COMPONENTS = (
    ("avx", xfeatures.AVX), ("mpx", xfeatures.BNDREGS), ("mpx", xfeatures.BNDCSR), ("avx512f", xfeatures.OPMASK),
    ("avx512f", xfeatures.ZMM_HI256), ("avx512f", xfeatures.HI16_ZMM), ("pku", xfeatures.PKRU), ("amx_tile", xfeatures.TILE_CONFIG),
    ("amx_tile", xfeatures.TILE_DATA),
)  # fmt: skip
"""XSAVE's components that a flag needs (xsave_cpuid_features, kernel/fpu/xstate.c): Linux shows none of these flags without them."""


class PartialTable(CpuidTable):
    """A table of which some bits are told and the others read 0; `told` gives the mask of those that are, of each register."""

    __slots__ = ("_told",)

    def __init__(self, entries: Iterable[Entry], told: Mapping[CpuidWord, int]) -> None:
        super().__init__(entries)
        self._told = dict(told)

    def told(self, word: CpuidWord) -> int:
        """Return which bits of a register are told, be they on or off."""
        return self._told.get(word, 0)

    def like(self, entries: Iterable[Entry]) -> PartialTable:
        """Return a table with other entries of which the same bits are told."""
        return PartialTable(entries, self._told)

    def filled(self, function: int, index: int, could_be: Registers) -> Registers:
        """Return a leaf as it could be: what is told of it, and of the rest what `could_be` has."""
        masks = (self.told(CpuidWord(function, index, register)) for register in REGISTERS)
        pairs = zip(self.registers(function, index), could_be, masks, strict=True)
        return Registers(*(own & mask | other & ~mask for own, other, mask in pairs))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PartialTable) and super().__eq__(other) and self._told == other._told

    def __hash__(self) -> int:
        return super().__hash__()

    def __reduce__(self) -> tuple[type[CpuidTable], tuple[Any, ...]]:
        return PartialTable, (tuple(self), self._told)


def is_named(host: Snapshot) -> bool:
    """Tell whether a snapshot has names of features and no CPUID."""
    tables = (host.raw, host.supported, host.table, host.kept)
    return not any(table is not None and len(table) for table in tables) and ("flags" in host.cpuinfo or bool(host.named))


def remarks(host: Snapshot) -> tuple[str, ...]:
    """Say what an answer about a host stands on where names alone tell of it; nothing of any other host."""
    if not is_named(host):
        return ()
    return (REMARK, GUESTS) if "hypervisor" in host.cpuinfo.get("flags", "").split() else (REMARK,)


def with_named_bits(host: Snapshot, kernels: tuple[str, ...] = KERNELS) -> Snapshot:
    """Return a snapshot of names with the bits that they stand for as its RAW lines; any other as it is.

    `kernels` are the releases of Linux that may have printed its flags: one that is missing is off where each of them would print it.
    """
    return _worked_out(host, kernels) if is_named(host) else host


@lru_cache(maxsize=64)
def _worked_out(host: Snapshot, kernels: tuple[str, ...]) -> Snapshot:
    return replace(host, raw=_Builder(host, kernels).table())


class _Builder:
    """Collects what is told, by register: the bits that are told, and those of them that are on."""

    def __init__(self, host: Snapshot, kernels: tuple[str, ...]) -> None:
        self._told: dict[CpuidWord, int] = {}
        self._on: dict[CpuidWord, int] = {}
        self._lines = host.cpuinfo
        self._vendor = _vendor(host.cpuinfo.get("vendor_id", ""))
        if "flags" in host.cpuinfo:
            self._flags(frozenset(host.cpuinfo["flags"].split()), kernels)
        for name, has in host.named.items():
            for feature in meant(name):
                self._note(feature.place, has)
        self._components()
        self._numbers()

    def table(self) -> PartialTable:
        """Return every leaf of which something is on, and what is told."""
        places = sorted({(word.function, word.index) for word, value in self._on.items() if value})
        entries = (Entry(*place, 0, *(self._on.get(CpuidWord(*place, register), 0) for register in REGISTERS)) for place in places)
        return PartialTable(entries, self._told)

    def _note(self, bit: Bit, on: bool) -> None:
        if isinstance(bit.word, CpuidWord):
            self._set(bit.word, bit.mask if on else 0, bit.mask)

    def _set(self, word: CpuidWord, value: int, told: int = _ALL) -> None:
        self._told[word] = self._told.get(word, 0) | told
        self._on[word] = self._on.get(word, 0) & ~told | value & told

    def _is_on(self, bit: Bit) -> bool:
        assert isinstance(bit.word, CpuidWord)
        return bool(self._on.get(bit.word, 0) & bit.mask)

    def _flags(self, flags: frozenset[str], kernels: tuple[str, ...]) -> None:
        design = design_of(linux_kind(self._vendor))
        own = _LINUX_SETS.get(design, set())
        for place, symbols, names, always in _printed(kernels):
            if not names.isdisjoint(flags):
                if symbols.isdisjoint(own):
                    self._note(place, True)
            elif always:
                self._note(place, False)
        virtual = "hypervisor" in flags
        for whose, rows in _SUMMED_UP.items():
            for bit, flag in rows:
                if flag not in flags:
                    self._note(bit, False)
                elif whose == design and not (virtual and whose == "amd"):  # a hypervisor may give AMD's guests Intel's bit
                    self._note(bit, True)
        self._note(bits.CONSTANT_TSC, "nonstop_tsc" in flags)
        self._note(bits.OSXSAVE, "xsave" in flags)  # Linux turns it on wherever there is XSAVE
        if self._vendor == AMD:  # QEMU makes no copies for Hygon
            for copy, original in _copies():
                if isinstance(original.word, CpuidWord) and self._told.get(original.word, 0) & original.mask:
                    self._note(copy, self._is_on(original))

    def _components(self) -> None:
        """Fill leaf 0xD with what the flags that are on need; the sizes are the same on every processor."""
        if not self._is_on(bits.XSAVE):
            return
        listed, end = xfeatures.LEGACY, xfeatures.LEGACY_AREA
        for name, component in _COMPONENTS:
            if self._is_on(_NEEDED[name]):
                listed |= component
                size, offset, _ = xfeatures.LAYOUT[component]
                end = max(end, offset + size)
                place = (0xD, xfeatures.ComponentPlace.number(component))
                self._set(CpuidWord(*place, "eax"), size)
                self._set(CpuidWord(*place, "ebx"), offset)
        for register, value in zip(REGISTERS, (listed, end, end, 0), strict=True):
            self._set(CpuidWord(0xD, 0, register), value)

    def _numbers(self) -> None:
        """Take vendor, family, model, stepping and name, and count the leaves that are certainly there."""
        eax, told = _signature(self._lines)
        if told:
            self._set(CpuidWord(1, 0, "eax"), eax, told)
        if (name := self._lines.get("model_name")) and name.isascii():
            values = registers_of(name.ljust(48, "\0")[:48])
            words = (CpuidWord(function, 0, register) for function in range(0x80000002, 0x80000005) for register in REGISTERS)
            for word, value in zip(words, values, strict=True):
                self._set(word, value)
        there = [word for word, value in self._on.items() if value]
        sub = max((word.index for word in there if word.function == 7), default=0)
        self._set(CpuidWord(7, 0, "eax"), sub, 0)
        self._on[CpuidWord(7, 0, "eax")] = sub
        for first in (0, 0x80000000):
            last = max((word.function for word in there if range_of(word.function) == first), default=0)
            if last:
                self._on[CpuidWord(first, 0, "eax")] = last
        if (level := _number(self._lines.get("cpuid_level", ""))) is not None:
            word = CpuidWord(0, 0, "eax")
            self._set(word, max(level, self._on.get(word, 0)))
        if self._vendor:
            ebx, edx, ecx = twelve(self._vendor)
            for register, value in (("ebx", ebx), ("ecx", ecx), ("edx", edx)):
                self._set(CpuidWord(0, 0, register), value)  # type: ignore[arg-type]  # names of registers


_NEEDED = {"avx": bits.AVX, "mpx": bits.MPX, "avx512f": bits.AVX512F, "pku": bits.PKU, "amx_tile": bits.AMX_TILE}


def _vendor(text: str) -> str:
    return next((name for name in KINDS if name.strip() == text.strip()), text if len(text) <= 12 and text.isascii() else "")


def _number(text: str) -> int | None:
    return decimal(text, 999_999_999)


def _signature(lines: Mapping[str, str]) -> tuple[int, int]:
    """Return EAX of leaf 1 and the mask of what is told of it: nothing without family and model."""
    family, model, stepping = (_number(lines.get(line, "")) for line in ("cpu_family", "model", "stepping"))
    if family is None or model is None or family > 0xF + 0xFF or model > 0xFF:
        return 0, 0
    high = min(family, 0xF)
    eax = (family - high) << 20 | model >> 4 << 16 | high << 8 | (model & 0xF) << 4
    return (eax, _ALL & ~0xF) if stepping is None or stepping > 0xF else (eax | stepping, _ALL)


@cache
def _printed(kernels: tuple[str, ...]) -> tuple[tuple[Bit, frozenset[str], frozenset[str], bool], ...]:
    """List the bits of CPUID that /proc/cpuinfo has a name for: the place, symbols, names, and whether each kernel prints one of them."""
    from vcpuid.cpuid.names import all_features

    found = []
    for feature in all_features():
        if isinstance(feature.place.word, CpuidWord):
            names = [name for name in feature.linux_names if name.cpuinfo is not None and name.number is not None]
            if names:
                printing = {kernel for name in names for kernel in name.kernels}
                spelled = frozenset(name.cpuinfo for name in names if name.cpuinfo is not None)
                found.append((feature.place, frozenset(name.symbol for name in names), spelled, printing.issuperset(kernels)))
    return tuple(found)


@cache
def _copies() -> tuple[tuple[Bit, Bit], ...]:
    """Give the bits of leaf 1 that AMD's processors repeat in leaf 0x80000001, the copy first."""
    from vcpuid.cpuid.names import all_features

    return tuple((feature.place, feature.copy_of.place) for feature in all_features() if feature.copy_of is not None)


def meant(name: str) -> tuple[Feature, ...]:
    """Return every bit that QEMU or libvirt call so, since QEMU has names for two; else what the name means best.

    An unknown name means none.
    """
    from vcpuid.cpuid.names import meant as any_of

    found = any_of(name)
    exact = [feature for feature in found if feature.bit is not None and name in (feature.libvirt, *(n.name for n in feature.qemu_names))]
    return tuple(exact) or found[:1]
