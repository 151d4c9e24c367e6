"""One feature, many spellings: what Linux, KVM, QEMU, libvirt and the manuals call a bit.

`find("avx2")`, `find("X86_FEATURE_XMM3")`, `find("sse4_1")`, `find("CPUID.07H:EBX.avx2 [bit 5]")` and `find("7.0.ebx.5")` all give a
`Feature`; `by_bit` gives the one at a place. Spellings don't care for case, nor for `-` against `_`, nor for a leading `+` or `-`.

A spelling that several features share (QEMU's `ibpb` is AMD's CPUID bit, Linux' `ibpb` is a flag of its own) means, in this order:
a name that a party gives before one that only the manuals' table has; a bit of hardware before a flag of Linux' own before a bug; then by
who says it, QEMU, /proc/cpuinfo, libvirt, Linux' symbol, QEMU's alias; then the lower place. A spelling that begins with X86_FEATURE_
and the like means Linux' symbol alone. `find_all` gives all of them, in that order.

The table is data/features.json, written by tools/features.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from vcpuid import data
from vcpuid.cpuid.features import BUG_WORDS, VMX_WORDS, Feature, LinuxName, QemuName, short_place, short_symbol
from vcpuid.cpuid.words import Bit, CpuidWord, LinuxWord, MsrWord, Register, parse_bit
from vcpuid.errors import InputError


def find(text: str) -> Feature:
    """Find the feature that a spelling means; raises InputError, with names that look alike, where there is none.

    A place without any name gives a Feature without names.
    """
    return find_all(text)[0]


def find_all(text: str) -> tuple[Feature, ...]:
    """Find all features of a spelling, the one that `find` gives first; raises InputError where there is none."""
    table = _table()
    bare = text.strip().lstrip("+-")
    if found := table.by_key.get(_key(bare)):
        return tuple(table.features[number] for _, number in found)
    if (bit := parse_place(bare)) is not None:
        return (by_bit(bit) or Feature(bit),)
    raise InputError(f"no CPU feature is called {text!r}{_suggest(bare)}")


def by_bit(bit: Bit) -> Feature | None:
    """Return the feature at a place, None where no party names it; in Linux' own words, the feature that the newest kernel has there."""
    return _table().by_bit.get(bit)


def all_features() -> tuple[Feature, ...]:
    """Give all of them: CPUID by leaf, feature MSRs, then what only Linux has, by symbol."""
    return _table().features


def spellings(feature: Feature) -> tuple[str, ...]:
    """Give every text for which `find_all` gives the feature: its names, the best first, and its place."""
    names = [text for _, text in sorted(_spell(feature))]
    return tuple(dict.fromkeys([feature.name, *names, short_place(feature.place), str(feature.place)]))


def parse_place(text: str) -> Bit | None:
    """Read a place: all that `words.parse_bit` takes, `msr.10a.0`, `CPUID_LNX_4.6`, and Linux' numbers as `11*32+6` (of the newest kernel).

    QEMU 7.2 and 10.0 log no sub-leaf. Where such a log names the feature, the name tells which sub-leaf it was.
    """
    import re

    if match := re.fullmatch(r"msr\.(?:0x)?([0-9a-f]+)\.(\d+)", text, re.IGNORECASE):
        return Bit(MsrWord(int(match[1], 16)), int(match[2])) if int(match[2]) < 64 else None
    if match := re.fullmatch(r"\(?\s*(\d+)\s*\*\s*32\s*\+\s*(\d+)\s*\)?", text):
        word, position = divmod(int(match[1]) * 32 + int(match[2]), 32)
        return Bit(LinuxWord(_table().words[word]), position) if word < len(_table().words) else None
    if match := re.fullmatch(r"(\w+)(?:\.(\d+)|\s*\[bit (\d+)\])", text):
        bit = Bit(LinuxWord(match[1].upper()), int(match[2] or match[3]))
        return bit if bit in _table().by_bit else None
    place = parse_bit(text)
    named = re.fullmatch(r"CPUID\.[0-9a-f]+h:e[abcd]x\.([\w.-]+)\s*\[bit \d+\]", text, re.IGNORECASE)
    if named is not None and place is not None and isinstance(place.word, CpuidWord):
        for _, number in _table().by_key.get(_key(named[1]), ()):
            meant = _table().features[number].bit
            if meant is not None and isinstance(meant.word, CpuidWord) and _without_index(meant) == _without_index(place):
                return meant
    return place


def _without_index(bit: Bit) -> tuple[object, ...]:
    assert isinstance(bit.word, CpuidWord)
    return bit.word.function, bit.word.register, bit.position


# Who says a name, the best first; see the module's docstring.
_QEMU, _CPUINFO, _LIBVIRT, _SYMBOL, _ALIAS, _MANUAL, _COPY = range(7)

_Rank = tuple[bool, int, int]


class _Table(NamedTuple):
    features: tuple[Feature, ...]
    by_bit: dict[Bit, Feature]
    by_key: dict[str, list[tuple[_Rank, int]]]
    words: tuple[str, ...]


@cache
def _table() -> _Table:
    """Build the index; about ten milliseconds, once a process."""
    raw = data.load("features")
    kernels, releases = raw["kernels"], raw["qemus"]
    words = {digit: names for digits, names in raw["cpuid_leafs"].items() for digit in digits}
    runs: dict[str, tuple[str, ...]] = {}
    features: list[Feature] = []
    by_bit: dict[Bit, Feature] = {}
    by_key: dict[str, list[tuple[_Rank, int]]] = {}
    for place, linux, qemu, libvirt, manual, description, *copy_of in raw["rows"]:
        linux_names = []
        for symbol, number, cpuinfo, digits in linux:
            run = runs.get(digits) or runs.setdefault(digits, tuple(kernels[int(digit)] for digit in digits))
            linux_names.append(LinuxName(symbol, number, cpuinfo, run, _array_word(symbol, number, words[digits[-1]])))
        qemu_names = [
            QemuName(name, tuple(aliases), tuple(releases[int(digit)] for digit in digits)) for name, aliases, digits in qemu
        ]
        bit = None if place is None else _parse_row_place(place)
        copied = by_bit[_parse_row_place(copy_of[0])] if copy_of else None
        feature = Feature(bit, tuple(linux_names), tuple(qemu_names), libvirt, manual, description, copied)
        for rank, text in _spell(feature):
            by_key.setdefault(_key(text), []).append((rank, len(features)))
        features.append(feature)
        if bit is not None:
            by_bit[bit] = feature
        for linux_name in linux_names:
            if (own := linux_name.place) is not None and (own not in by_bit or linux_name.kernels[-1] == kernels[-1]):
                by_bit[own] = feature
    for key, ranked in by_key.items():
        if len(ranked) > 1:
            best: dict[int, _Rank] = {}
            for rank, number in ranked:
                best[number] = min(rank, best.get(number, rank))
            by_key[key] = sorted((rank, number) for number, rank in best.items())
    return _Table(tuple(features), by_bit, by_key, (*words[str(len(kernels) - 1)], f"{BUG_WORDS}_1", f"{BUG_WORDS}_2"))


def _spell(feature: Feature) -> Iterator[tuple[_Rank, str]]:
    """Give the names of a feature, each with the rank it has among features of the same name: the lower the better."""
    kind = 2 if feature.is_bug else 1 if feature.bit is None else 0
    for qemu in feature.qemu_names:
        yield (False, kind, _QEMU), qemu.name
        for alias in qemu.aliases:
            yield (False, kind, _ALIAS), alias
    for linux in feature.linux_names:
        if linux.cpuinfo:
            yield (False, kind, _CPUINFO), linux.cpuinfo
        yield (False, kind, _SYMBOL), short_symbol(linux.symbol)
        # In full, a symbol means the bit that Linux' own array has, before one that KVM alone gives the same name.
        yield (False, linux.number is None, _SYMBOL), linux.symbol
    if feature.libvirt:
        yield (False, kind, _LIBVIRT), feature.libvirt
    if feature.manual:
        yield (True, kind, _MANUAL), feature.manual
    if feature.copy_of:
        yield (True, kind, _COPY), feature.copy_of.name


def _key(text: str) -> str:
    return text.lower().replace("_", "-")


def _parse_row_place(place: str) -> Bit:
    parts = place.split(".")
    if parts[0] == "msr":
        return Bit(MsrWord(int(parts[1], 16)), int(parts[2]))
    register: Register = parts[2]  # type: ignore[assignment]  # the generator writes registers only
    return Bit(CpuidWord(int(parts[0], 16), int(parts[1], 16), register), int(parts[3]))


def _array_word(symbol: str, number: int | None, words: list[str]) -> str | None:
    if number is None:
        return None
    if symbol.startswith("X86_FEATURE_"):
        return words[number // 32]
    return f"{BUG_WORDS}_{number // 32 + 1}" if symbol.startswith("X86_BUG_") else f"{VMX_WORDS}_{number // 32}"


def _suggest(text: str) -> str:
    import difflib

    near = difflib.get_close_matches(_key(text), _table().by_key, n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(near)}?" if near else ""
