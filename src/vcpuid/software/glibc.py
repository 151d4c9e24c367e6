"""Which variants of its string functions a glibc takes on a CPU, and why (data/glibc-RELEASE.json, by tools/glibc_tables.py).

The table's rows are "conditions, result". A condition is a usable feature or a preference; `!` before it: must not hold; `cpu:NAME` the bit
of CPUID whether usable or not; `xcr0:MASK` states that the operating system must have enabled; `level:N` the highest basic leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from vcpuid.cpuid import CpuidWord, Registers, parse_bit
from vcpuid.data import load
from vcpuid.errors import InputError
from vcpuid.releases import number
from vcpuid.software import tuning
from vcpuid.software.cpu import SoftwareCpu

RELEASES = ("2.36", "2.41")
"""Releases with tables: those of Debian 12 and 13."""

_NOT_READ_OF_STRANGERS = (0x1, 0x80000001, 0x80000007, 0x80000008)
_LEVELS = (
    ("CMOV", "CX8", "cpu:FPU", "FXSR", "MMX", "SSE", "SSE2"),
    ("CMPXCHG16B", "LAHF64_SAHF64", "POPCNT", "SSE3", "SSSE3", "SSE4_1", "SSE4_2"),
    ("AVX", "AVX2", "BMI1", "BMI2", "F16C", "FMA", "LZCNT", "MOVBE"),
    ("AVX512F", "AVX512BW", "AVX512CD", "AVX512DQ", "AVX512VL"),
)
"""get_isa_level, sysdeps/x86/get-isa-level.h."""

_NOT_BETTER = frozenset({"Prefer_ERMS", "Prefer_FSRM", "RTM"})
"""A row that lacks one of these is nothing to wish for: the preferences are the user's own (tunables), RTM's variants do more work."""

_XSAVE = ("XSAVE", "XSAVEOPT", "XSAVEC", "XGETBV_ECX_1", "XFD")


class Pick(NamedTuple):
    """A function's variant. `needs` are the conditions of the row that held; `better` is the row before it that lacks least, one feature
    at least, and what it lacks: features, and preferences with `!` before those that stand in the way. None where there is none."""

    function: str
    variant: str
    needs: tuple[str, ...]
    better: tuple[str, tuple[str, ...]] | None


@dataclass(frozen=True, slots=True)
class Glibc:
    """struct cpu_features of one glibc on one CPU: what it may use, what it prefers, its level, and what it picks."""

    release: str
    usable: frozenset[str]
    preferred: frozenset[str]
    isa: int
    picks: tuple[Pick, ...] = field(repr=False)

    @property
    def starts(self) -> bool:
        """Whether programs of Debian start at all: its libc.so.6 is marked as needing the baseline."""
        return self.isa > 0

    def variant(self, function: str) -> str:
        """Return the variant of a function; KeyError for one that has no variants."""
        return {pick.function: pick.variant for pick in self.picks}[function]


def is_preference(term: str) -> bool:
    """Tell glibc's preferences, which have small letters in their names, from features of the CPU."""
    return not term.lstrip("!").isupper()


def glibc(cpu: SoftwareCpu, release: str = RELEASES[-1], hwcaps: str = "") -> Glibc:
    """Say what a glibc makes of a CPU; `hwcaps` is what GLIBC_TUNABLES=glibc.cpu.hwcaps would hold, as `-AVX2,-ERMS`.

    Raises InputError for a release without tables and for a name that this release does not take there.
    """
    if release not in RELEASES:
        raise InputError(f"no tables of glibc {release}: {' and '.join(RELEASES)} are known")
    table = load(f"glibc-{release}")
    stranger = cpu.vendor not in tuning.KNOWN

    def leaf(function: int, index: int) -> Registers:
        unread = stranger and function in _NOT_READ_OF_STRANGERS
        return Registers() if unread else cpu.leaf(function, index)

    def bit(name: str) -> bool:
        word, mask = _places(release)[name]
        return bool(getattr(leaf(word.function, word.index), word.register) & mask)

    usable: set[str] = set()
    holds = _condition(bit, cpu, usable)
    for conditions, feature in table["usable"]:
        if all(map(holds, conditions.split())):
            usable.add(feature)
    isa = _isa(holds)  # before tuning and tunables, which do not change it
    tuned = tuning.tune(cpu.vendor, leaf(1, 0).eax, bit, usable.__contains__, number(release))
    usable -= tuned.removed
    usable |= tuned.added
    for word in filter(None, hwcaps.split(",")):
        _tunable(word, table["tunables"], usable, tuned.preferred)
    _without_xsave(usable, table["without_xsave"])
    known = _condition(bit, cpu, usable | tuned.preferred)
    picks = tuple(_pick(function, table["resolvers"][resolver], known) for function, resolver in table["functions"].items())
    return Glibc(release, frozenset(usable), frozenset(tuned.preferred), isa, picks)


@cache
def _places(release: str) -> dict[str, tuple[CpuidWord, int]]:
    table = load(f"glibc-{release}")
    found = {}
    for name, place in (table["features"] | table["others"]).items():
        bit = parse_bit(place)
        assert bit is not None
        assert isinstance(bit.word, CpuidWord)
        found[name] = (bit.word, bit.mask)
    return found


def _condition(bit: Callable[[str], bool], cpu: SoftwareCpu, given: set[str]) -> Callable[[str], bool]:
    level = cpu.table.registers(0).eax

    def holds(condition: str) -> bool:
        if condition.startswith("!"):
            return not holds(condition[1:])
        kind, _, value = condition.rpartition(":")
        if kind == "cpu":
            return bit(value)
        if kind == "xcr0":
            return not int(value, 16) & ~cpu.xcr0
        return level >= int(value, 16) if kind == "level" else value in given

    return holds


def _isa(holds: Callable[[str], bool]) -> int:
    isa = 0
    for conditions in _LEVELS:
        if not all(map(holds, conditions)):
            break
        isa += 1
    return isa


def _tunable(word: str, names: dict[str, str | None], usable: set[str], preferred: set[str]) -> None:
    name = word.removeprefix("-")
    need = names.get(name, word)
    if need == word or (need is None and name == word):
        raise InputError(f"glibc.cpu.hwcaps takes no {word!r}: a feature with - before it, or a preference")
    if name != word:
        (usable if need is None else preferred).discard(name)
    elif not need or need in usable:
        preferred.add(name)


def _without_xsave(usable: set[str], dropped: Iterable[str]) -> None:
    """Take away all that needs XSAVE where it was put off (the end of init_cpu_features)."""
    if "OSXSAVE" not in usable:
        usable.difference_update(_XSAVE)
    if not usable & {"XSAVE", "XSAVEC"}:
        usable.difference_update(dropped)


def _pick(function: str, rows: list[tuple[str, str]], holds: Callable[[str], bool]) -> Pick:
    better: tuple[str, tuple[str, ...]] | None = None
    for conditions, variant in rows:
        terms = tuple(conditions.split())
        lacking = tuple(dict.fromkeys(_cause(term, holds) for term in terms if not holds(term)))
        if not lacking:
            return Pick(function, variant, terms, better)
        worth_having = _NOT_BETTER.isdisjoint(lacking) and not all(map(is_preference, lacking))
        nearer = better is None or len(lacking) < len(better[1]) or (len(lacking) == len(better[1]) and lacking != better[1])
        if worth_having and nearer:
            better = variant, lacking
    raise AssertionError(f"{function}: the last row of a resolver has no conditions")


def _cause(term: str, holds: Callable[[str], bool]) -> str:
    """A preference that glibc derives from a feature is not there because the feature is not."""
    return "AVX2" if term == "AVX_Fast_Unaligned_Load" and not holds("AVX2") else term
