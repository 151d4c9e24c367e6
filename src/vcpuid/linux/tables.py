"""The kernel's own tables, by release: names of features and bugs, scattered bits, dependencies, lists of processor models.

Read from data/linux-*.json (arch/x86/include/asm/cpufeatures.h and arch/x86/kernel/cpu/ of that release), made ready once a process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

from vcpuid.cpuid.words import REGISTERS, Bit, CpuidWord, LinuxWord
from vcpuid.data import load
from vcpuid.releases import KERNELS, UPSTREAM, code_of, number

RANKS = {release: UPSTREAM.index(code_of(release)) for release in KERNELS}
"""Which of two of KERNELS has the younger code."""


class Place(NamedTuple):
    """Where a flag is: the number of its word in x86_capability (the words of bugs follow those of features), and its bit as a mask."""

    word: int
    mask: int


NOWHERE = Place(0, 0)
"""The place of a flag that a release does not know: never set, and setting it changes nothing."""


class Scattered(NamedTuple):
    """A register that holds scattered bits: each mask of it stands for a feature."""

    function: int
    subleaf: int
    register: int
    bits: tuple[tuple[int, str], ...]


class Match(NamedTuple):
    """Which processors a row of a list is about (struct x86_cpu_id); None is any.

    `steppings` and `platforms` are masks; `kind` is the core's type, "atom" or "core".
    """

    vendor: str | None
    family: int | None
    model: int | None
    steppings: int
    kind: str | None
    platforms: int | None
    data: Any


@dataclass(frozen=True, eq=False)
class Tables:
    """All tables of one release, equal where the releases are. `words` and the places count the words of bugs on from those of features.

    `number` is that of the release whose code it is, by which rules are chosen.
    """

    release: str
    number: tuple[int, int]
    words: tuple[CpuidWord | LinuxWord, ...]
    word_numbers: dict[str, int]
    features: dict[str, Place]
    bits: dict[str, Bit]
    bugs: dict[str, Place]
    shown_features: tuple[tuple[str, Place], ...]
    shown_bugs: tuple[tuple[str, Place], ...]
    shown_vmx: tuple[tuple[str, Place], ...]
    scattered: tuple[Scattered, ...]
    depending: dict[str, tuple[str, ...]]
    lists: dict[str, tuple[Match, ...]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tables) and self.release == other.release

    def __hash__(self) -> int:
        return hash(self.release)

    def since(self, release: str) -> bool:
        """Tell whether the kernel is this release or a newer one."""
        return RANKS[self.release] >= RANKS[release]

    def dependents(self, feature: str) -> tuple[tuple[str, str], ...]:
        """Give all features that go when this one goes, each with the feature that takes it along (do_clear_cpu_cap in cpuid-deps.c)."""
        return _dependents(self.release, feature)


@lru_cache(maxsize=1024)
def candidates(release: str, name: str, vendor: str, family: int, model: int) -> tuple[Match, ...]:
    """Give a list's rows that are about this vendor, family and model, in order."""
    return tuple(
        row
        for row in tables(release).lists[name]
        if row.vendor in (None, vendor) and row.family in (None, family) and row.model in (None, model)
    )


@cache
def _dependents(release: str, feature: str) -> tuple[tuple[str, str], ...]:
    depending = tables(release).depending
    gone, order = {feature}, [feature]
    pairs = []
    for cause in order:
        for name in depending.get(cause, ()):
            if name not in gone:
                gone.add(name)
                order.append(name)
                pairs.append((name, cause))
    return tuple(pairs)


@cache
def tables(release: str) -> Tables:
    """Return the tables of a release, one of KERNELS."""
    data = load(f"linux-{release}")
    cpuid = [CpuidWord(*place) if place else LinuxWord(name) for name, place in data["words"]]
    bug_words = 1 + max(word for _, word, _, _ in data["bugs"])
    features = {name: Place(word, 1 << bit) for name, word, bit, _ in data["features"]}
    bugs = {name: Place(len(cpuid) + word, 1 << bit) for name, word, bit, _ in data["bugs"]}
    depending: dict[str, tuple[str, ...]] = {}
    for name, cause in data["deps"]:
        depending[cause] = (*depending.get(cause, ()), name)
    return Tables(
        release=release,
        number=number(code_of(release)),
        words=(*cpuid, *(LinuxWord(f"BUGS_{at + 1}") for at in range(bug_words))),
        word_numbers={name: at for at, (name, _) in enumerate(data["words"])},
        features=features,
        bits={name: Bit(cpuid[word], mask.bit_length() - 1) for name, (word, mask) in features.items()},
        bugs=bugs,
        shown_features=_shown((shown, features[name]) for name, _, _, shown in data["features"]),
        shown_bugs=_shown((shown, bugs[name]) for name, _, _, shown in data["bugs"]),
        shown_vmx=_shown((shown, Place(word, 1 << bit)) for _, word, bit, shown in data["vmx"]),
        scattered=tuple(_scattered(data["scattered"])),
        depending=depending,
        lists={name: tuple(_matches(rows)) for name, rows in data["models"].items()},
    )


def _shown(rows: Iterator[tuple[str | None, Place]]) -> tuple[tuple[str, Place], ...]:
    """Sort what /proc/cpuinfo shows into its order."""
    return tuple(sorted(((name, place) for name, place in rows if name), key=lambda row: row[1]))


def _scattered(rows: list[tuple[str, int, int, str, int]]) -> Iterator[Scattered]:
    registers: dict[tuple[int, int, int], list[tuple[int, str]]] = {}
    for name, function, index, register, bit in rows:
        registers.setdefault((function, index, list[str](REGISTERS).index(register)), []).append((1 << bit, name))
    for key, bits in registers.items():
        yield Scattered(*key, tuple(bits))


def _matches(rows: list[list[Any]]) -> Iterator[Match]:
    for *who, data in rows:
        yield Match._make((*who, frozenset(data) if isinstance(data, list) else data))
