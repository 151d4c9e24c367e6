"""data/features.json and data/aliases.json as features: built one at a time, found by any of their names or by their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from functools import cache, cached_property
from typing import Any

from vcpuid import data
from vcpuid.cpuid.features import BUG_WORDS, VMX_WORDS, Feature, LinuxName, QemuName, short_symbol
from vcpuid.cpuid.words import Bit, CpuidWord, MsrWord, Register, Word


class Who(IntEnum):
    """Who says a name, the best first where several features share it."""

    QEMU = 0
    CPUINFO = 1
    LIBVIRT = 2
    SYMBOL = 3
    FULL_SYMBOL = 4
    ALIAS = 5
    MANUAL = 6
    COPY = 7
    OTHER = 8


def key_of(text: str) -> str:
    """Make spellings that differ in case, or in `-` and `_`, the same."""
    return text.lower().replace("_", "-")


def names_of(
    linux: Iterable[Sequence[Any]],
    qemu: Iterable[Sequence[Any]],
    libvirt: str | None,
    manual: str | None,
    copied: Feature | None,
    others: Iterable[str],
) -> Iterator[tuple[Who, str]]:
    """Give all names in these parts of a feature or, as they begin alike, of a row of the table."""
    for name, aliases, *_ in qemu:
        yield Who.QEMU, name
        for alias in aliases:
            yield Who.ALIAS, alias
    for symbol, _, cpuinfo, *_ in linux:
        if cpuinfo:
            yield Who.CPUINFO, cpuinfo
        yield Who.SYMBOL, short_symbol(symbol)
        yield Who.FULL_SYMBOL, symbol
    if libvirt:
        yield Who.LIBVIRT, libvirt
    if manual:
        yield Who.MANUAL, manual
    if copied:
        yield Who.COPY, copied.name
    for name in others:
        yield Who.OTHER, name


class FeatureTable:
    """The table.

    `words` are Linux' words in the newest kernel's order, those of bugs behind them; `hardware` says which register or MSR the words
    that Linux, KVM (CPUID_7_0_EBX) and QEMU (FEAT_7_0_EBX) name stand for; `switches` are QEMU's properties that are no feature bits.
    """

    def __init__(self, raw: dict[str, Any], aliases: Iterable[tuple[str, str]]) -> None:
        self._raw = raw
        self._others: dict[str | None, tuple[str, ...]] = {}
        for place, name in aliases:
            self._others[place] = (*self._others.get(place, ()), name)
        self._rows: list[list[Any]] = raw["rows"]
        self._built: dict[int, Feature] = {}
        self._all: tuple[Feature, ...] = ()
        self._by_key: dict[str, list[int]] = {}
        self._by_place: dict[str, int] = {}
        self._words = {digit: names for digits, names in raw["cpuid_leafs"].items() for digit in digits}
        newest = max(self._words)  # digits come before letters
        self.words: tuple[str, ...] = (*self._words[newest], f"{BUG_WORDS}_1", f"{BUG_WORDS}_2")
        self.hardware: dict[str, Word] = {name: _word(place) for name, place in (raw["linux_words"] | raw["qemu_words"]).items()}
        self.switches = frozenset(raw["qemu_switches"])
        for number, (place, linux, qemu, libvirt, manual, _, *copied) in enumerate(self._rows):
            if place is not None:
                self._by_place[place] = number
            for symbol, index, _, kernels in linux:
                if index is not None:
                    own = f"{self._word(symbol, index, kernels)}.{index % 32}"
                    if own not in self._by_place or newest in kernels:
                        self._by_place[own] = number
            same = self.at(copied[0]) if copied else None
            for _, text in names_of(linux, qemu, libvirt, manual, same, self._others.get(place, ())):
                self._by_key.setdefault(key_of(text), []).append(number)

    def called(self, key: str) -> tuple[Feature, ...]:
        """Return the features with a name of that key, in the table's order."""
        return tuple(self._feature(number) for number in dict.fromkeys(self._by_key.get(key, ())))

    def at(self, place: str) -> Feature | None:
        """Return the feature at a place in the short form."""
        number = self._by_place.get(place)
        return None if number is None else self._feature(number)

    def of_word(self, word: str) -> tuple[Feature, ...]:
        """Return the features of a word, which is a place without its bit."""
        return tuple(self._feature(number) for number in self._by_word.get(word, ()))

    @cached_property
    def _by_word(self) -> dict[str, list[int]]:
        words: dict[str, list[int]] = {}
        for place, number in self._by_place.items():
            words.setdefault(place.rpartition(".")[0], []).append(number)
        return words

    def features(self) -> tuple[Feature, ...]:
        """Return all of them."""
        if not self._all:
            self._all = tuple(self._feature(number) for number in range(len(self._rows)))
        return self._all

    def keys(self) -> Iterable[str]:
        """Return the keys of all names."""
        return self._by_key

    def _feature(self, number: int) -> Feature:
        if number not in self._built:
            place, linux, qemu, libvirt, manual, description, *copied = self._rows[number]
            kernels, releases = self._raw["kernels"], self._raw["qemus"]
            self._built[number] = Feature(
                bit=None if place is None else _bit(place),
                linux_names=tuple(
                    LinuxName(symbol, index, cpuinfo, tuple(kernels[int(d, 36)] for d in digits), self._word(symbol, index, digits))
                    for symbol, index, cpuinfo, digits in linux
                ),
                qemu_names=tuple(
                    QemuName(name, tuple(aliases), tuple(releases[int(d, 36)] for d in digits)) for name, aliases, digits in qemu
                ),
                libvirt=libvirt,
                manual=manual,
                description=description,
                copy_of=self.at(copied[0]) if copied else None,
                others=self._others.get(place, ()),
            )
        return self._built[number]

    def _word(self, symbol: str, index: int | None, kernels: str) -> str | None:
        """Name the word of Linux' arrays that holds a symbol, in the newest of these kernels."""
        if index is None:
            return None
        if symbol.startswith("X86_FEATURE_"):
            name: str = self._words[kernels[-1]][index // 32]
            return name
        return f"{BUG_WORDS}_{index // 32 + 1}" if symbol.startswith("X86_BUG_") else f"{VMX_WORDS}_{index // 32}"


@cache
def table() -> FeatureTable:
    """Return the table, read once a process."""
    return FeatureTable(data.load("features"), data.load("aliases")["rows"])


def _bit(place: str) -> Bit:
    word, _, position = place.rpartition(".")
    return Bit(_word(word), int(position))


def _word(place: str) -> Word:
    head, _, rest = place.partition(".")
    if head == "msr":
        return MsrWord(int(rest, 16))
    index, _, name = rest.partition(".")
    register: Register = name  # type: ignore[assignment]  # the generator writes registers only
    return CpuidWord(int(head, 16), int(index, 16), register)
