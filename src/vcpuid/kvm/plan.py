"""What KVM does with features when it is loaded, made ready by kernel and vendor module from data/kvm-caps.json and `vcpuid.kvm.rules`.

What becomes of a feature is told by its kind, which is the macro that lists it (arch/x86/kvm/cpuid.c, as of 6.18):

    F, X86_64, ALIASED    offered where the CPU and the host kernel have it (in words that Linux does not keep: where the CPU has it)
    SCATTERED             offered where the CPU has it and the host kernel too, in a place of its own
    PASSTHROUGH           offered where the CPU has it
    SYNTHESIZED           offered where the host kernel has it, whatever CPUID says
    EMULATED, CLAIMED     offered always
    VENDOR                offered where the vendor module adds it
    RUNTIME, none         not offered
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from vcpuid.cpuid import Bit, CpuidWord
from vcpuid.cpuid.words import REGISTERS
from vcpuid.data import load
from vcpuid.kvm import rules
from vcpuid.linux.tables import NOWHERE, Place, Tables, tables
from vcpuid.reasons import Rule
from vcpuid.releases import UPSTREAM, code_of
from vcpuid.releases import number as numbers_of

_HIDDEN = (None, "VENDOR", "RUNTIME")
"""Kinds with which a feature is not offered, unless the vendor module grants it."""


class PlannedWord(NamedTuple):
    """A word of kvm_cpu_caps and the masks of its kinds; `linux` is the number of the host kernel's word, None in KVM's own words.

    `later` are features that only newer kernels list; synthesized and scattered ones come with their place and bit in the host kernel.
    """

    name: str
    word: CpuidWord
    linux: int | None
    known: int
    followed: int
    forced: int
    claimed: int
    vendor: int
    runtime: int
    later: tuple[tuple[int, Rule], ...]
    synthesized: tuple[tuple[int, Place, Bit | None], ...]
    scattered: tuple[tuple[int, Place, Bit | None], ...]


class Term(NamedTuple):
    """One condition of a row: a switch, or a bit of the host kernel's words ("host") or of KVM's ("cap")."""

    kind: str
    switch: str
    word: int
    mask: int
    wanted: bool
    bit: Bit | None


class RowPlan(NamedTuple):
    """A row made ready: the bits it changes and the terms it asks for."""

    action: str
    targets: tuple[tuple[int, int], ...]
    terms: tuple[Term, ...]
    rule: Rule


class CapsPlan(NamedTuple):
    """What one vendor module of one kernel does: words in the kernel's order, then steps. `places` finds a feature's word and mask."""

    words: tuple[PlannedWord, ...]
    steps: tuple[RowPlan, ...]
    places: Mapping[str, tuple[int, int]]
    by_word: Mapping[tuple[int, int], tuple[tuple[int, int], ...]]


@cache
def plan_of(release: str, module: str) -> CapsPlan:
    """Make the tables of a kernel release and the rows of a vendor module ready."""
    data = load("kvm-caps")
    kernels = data["kernels"]
    now = kernels.index(release)
    offered = [_granted(module, kernel) for kernel in kernels]
    names = list(data["words"])
    kinds: dict[str, list[tuple[int, str, str]]] = {name: [] for name in names}
    later: dict[str, dict[str, int]] = {name: {} for name in names}
    places: dict[str, tuple[int, int]] = {}
    for word, bit, name, *by_kernel in data["features"]:
        mask = 1 << bit
        kind = by_kernel[now] or ("VENDOR" if name in offered[now] else None)
        if kind is not None:
            kinds[word].append((mask, name, kind))
        else:
            for newer in _newer(kernels, release):
                if by_kernel[newer] not in _HIDDEN or name in offered[newer]:
                    later[word][kernels[newer]] = later[word].get(kernels[newer], 0) | mask
                    break
        if kind != "ALIASED":
            places[name] = (names.index(word), mask)
    words = tuple(_word(name, data["words"][name], kinds[name], later[name], tables(release)) for name in names)
    by_word: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
    for number, row in enumerate(words):
        key = (row.word.function, row.word.index)
        by_word[key] = (*by_word.get(key, ()), (REGISTERS.index(row.word.register), number))
    steps = tuple(_step(row, places, words, tables(release)) for row in rules.ROWS[module] if row.in_force(release))
    return CapsPlan(words, steps, places, by_word)


def _newer(kernels: list[str], release: str) -> list[int]:
    """Give the places of the kernels that came later, a distribution's apart: nobody goes over to that."""
    code = numbers_of(code_of(release))
    return [at for at, kernel in enumerate(kernels) if kernel in UPSTREAM and numbers_of(kernel) > code]


def _granted(module: str, kernel: str) -> set[str]:
    """The features that a vendor module may add."""
    return {name for row in rules.ROWS[module] if row.action == "grant" and row.in_force(kernel) for name in row.features.split()}


def _word(name: str, place: list[Any], kinds: list[tuple[int, str, str]], later: Mapping[str, int], linux: Tables) -> PlannedWord:
    def mask(*wanted: str) -> int:
        return sum(bit for bit, _, kind in kinds if kind in wanted)

    def bound(wanted: str) -> tuple[tuple[int, Place, Bit | None], ...]:
        found = ((bit, linux.features.get(its, NOWHERE)) for bit, its, kind in kinds if kind == wanted)
        return tuple((bit, place, _bit(place, linux)) for bit, place in found)

    return PlannedWord(
        name=name,
        word=CpuidWord(*place[:3]),
        linux=linux.word_numbers.get(name),
        known=sum(bit for bit, _, _ in kinds),
        followed=mask("F", "X86_64", "ALIASED"),
        forced=mask("EMULATED"),
        claimed=mask("CLAIMED"),
        vendor=mask("VENDOR"),
        runtime=mask("RUNTIME"),
        later=tuple((bits, rules.NOT_YET[release]) for release, bits in later.items()),
        synthesized=bound("SYNTHESIZED"),
        scattered=bound("SCATTERED"),
    )


def _step(row: rules.Row, places: Mapping[str, tuple[int, int]], words: tuple[PlannedWord, ...], linux: Tables) -> RowPlan:
    targets: dict[int, int] = {}
    for name in row.features.split():
        number, mask = places[name]
        targets[number] = targets.get(number, 0) | mask
    return RowPlan(row.action, tuple(targets.items()), tuple(_term(text, places, words, linux) for text in row.when.split()), row.rule)


def _term(text: str, places: Mapping[str, tuple[int, int]], words: tuple[PlannedWord, ...], linux: Tables) -> Term:
    wanted = not text.startswith("!")
    kind, colon, name = text.removeprefix("!").partition(":")
    if not colon:
        return Term("switch", kind, 0, 0, wanted, None)
    if kind == "cap":
        number, mask = places[name]
        return Term("cap", "", number, mask, wanted, Bit(words[number].word, mask.bit_length() - 1))
    place = (linux.features if kind == "host" else linux.bugs).get(name, NOWHERE)
    return Term("host", "", *place, wanted, _bit(place, linux))


def _bit(place: Place, linux: Tables) -> Bit | None:
    """Name a feature or bug of the host kernel, None where that release does not know it."""
    return Bit(linux.words[place.word], place.mask.bit_length() - 1) if place.mask else None
