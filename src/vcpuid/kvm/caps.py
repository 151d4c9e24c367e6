"""kvm_cpu_caps: the features that KVM can give to guests, word by word (kvm_set_cpu_caps and its callers in the vendor modules).

A word starts as the CPU's own. What becomes of a bit is told by its kind (data/kvm-caps.json, the kernel's macros):

    F, X86_64, ALIASED    offered where the CPU and the host kernel have it (in words that Linux does not keep: where the CPU has it)
    SCATTERED             offered where the host kernel has it, in a place of its own
    PASSTHROUGH           offered where the CPU has it
    SYNTHESIZED           offered where the host kernel has it, whatever CPUID says
    EMULATED, CLAIMED     offered always
    VENDOR                offered where the vendor module adds it
    RUNTIME, none         not offered

The rows of `vcpuid.kvm.rules` follow, in the kernel's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType
from typing import NamedTuple

from vcpuid import versions
from vcpuid.cpuid import Bit, CpuidWord, Snapshot
from vcpuid.data import load
from vcpuid.kvm import params as parameters
from vcpuid.kvm import rules, xstate
from vcpuid.kvm.hardware import Hardware, setup
from vcpuid.kvm.params import Given
from vcpuid.linux import BootCpu, boot_cpu
from vcpuid.linux.tables import NOWHERE, Place, tables
from vcpuid.path.decisions import Decision, Ledger, Rule

_FOLLOWS_HOST = ("F", "X86_64", "ALIASED")


class _Word(NamedTuple):
    """A word of kvm_cpu_caps and the masks of its kinds; `linux` is the number of the host kernel's word, None in KVM's own words."""

    name: str
    word: CpuidWord
    linux: int | None
    known: int
    followed: int
    forced: int
    claimed: int
    vendor: int
    runtime: int
    synthesized: tuple[tuple[int, Place], ...]
    scattered: tuple[tuple[int, Place], ...]


class _Term(NamedTuple):
    """One condition of a row: a switch, or a bit of the host kernel's words ("host") or of KVM's ("cap")."""

    kind: str
    switch: str
    word: int
    mask: int
    wanted: bool
    bit: Bit | None


class _Step(NamedTuple):
    """A row made ready: the bits it changes and the terms it asks for."""

    action: str
    targets: tuple[tuple[int, int], ...]
    terms: tuple[_Term, ...]
    rule: Rule


class Plan(NamedTuple):
    """What one vendor module of one kernel does: words in the kernel's order, then steps. `places` finds a feature's word and mask."""

    words: tuple[_Word, ...]
    steps: tuple[_Step, ...]
    places: Mapping[str, tuple[int, int]]
    by_word: Mapping[tuple[int, int], tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Caps:
    """kvm_cpu_caps once KVM is loaded, by the kernel's names for words, and why they differ from the CPU's.

    `hardware` tells the vendor module's switches, `boot` the host kernel's view; `xcr0` and `xss` are the XSAVE states that KVM supports.
    """

    words: Mapping[str, int]
    decisions: tuple[Decision, ...]
    boot: BootCpu
    hardware: Hardware
    plan: Plan
    values: tuple[int, ...]
    xcr0: int
    xss: int

    def has(self, feature: str) -> bool:
        """Whether KVM offers a feature (kvm_cpu_cap_has); one that this kernel's KVM does not know it does not offer."""
        word, mask = self.plan.places.get(feature, (0, 0))
        return bool(self.values[word] & mask)


def caps(host: Snapshot, kernel: str = "6.12", params: Given | None = None) -> Caps:
    """Set up KVM on a host, as loading its modules does.

    `host` gives CPUID (`raw`), feature MSRs and lines of /proc/cpuinfo; `params` see `vcpuid.kvm.params`. Raises InputError for a
    parameter or a release that makes no sense. The answers for the last few hosts are kept.
    """
    return _caps(_Same(host), versions.kernel(kernel), tuple((params or {}).items()))


class _Same:
    """A snapshot as a key: equal to itself alone."""

    __slots__ = ("host",)

    def __init__(self, host: Snapshot) -> None:
        self.host = host

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.host is self.host

    def __hash__(self) -> int:
        return id(self.host)


@lru_cache(maxsize=16)
def _caps(same: _Same, kernel: str, params: tuple[tuple[str, int | str | bool], ...]) -> Caps:
    host = same.host
    mine, linux = parameters.split(dict(params))
    boot = boot_cpu(host, kernel, linux)
    hardware = setup(host, boot, mine)
    plan = plan_of(kernel, hardware.module)
    ledger = Ledger()
    values, held = _start(plan, host, boot, ledger)
    for step in plan.steps:
        _take(step, plan, values, held, boot, hardware, ledger)
    xss = _set_up_xss(plan, host, values, boot, ledger)
    for number, left in enumerate(held):
        if left:
            ledger.clear(plan.words[number].word, left, left, rules.OTHER_VENDOR)
    return Caps(
        words=MappingProxyType({word.name: value for word, value in zip(plan.words, values, strict=True)}),
        decisions=tuple(ledger.decisions),
        boot=boot,
        hardware=hardware,
        plan=plan,
        values=tuple(values),
        xcr0=xstate.supported_xcr0(boot, host.raw, hardware),
        xss=xss,
    )


def _start(plan: Plan, host: Snapshot, boot: BootCpu, ledger: Ledger) -> tuple[list[int], list[int]]:
    """Bring every word from the CPU's value to what its kinds leave; the second list holds VENDOR bits that wait for the vendor module."""
    raw, host_words = host.raw, boot.caps
    values, held = [], []
    for _, word, linux, known, followed, forced, claimed, vendor, runtime, synthesized, scattered in plan.words:
        value = raw.word(word)
        if value:
            if value & ~known:
                value = ledger.clear(word, value, value & ~known, rules.NOT_LISTED)
            if value & runtime:
                value = ledger.clear(word, value, runtime, rules.RUNTIME)
        missing = followed if linux is None else followed & ~host_words[linux]
        if linux is None:
            missing = 0
        for mask, place in scattered:
            if not host_words[place.word] & place.mask:
                missing |= mask
        added = 0
        for mask, place in synthesized:
            if host_words[place.word] & place.mask:
                added |= mask
            else:
                missing |= mask
        if value & missing:
            value = ledger.clear(word, value, missing, rules.HOST_KERNEL)
        if forced & ~value:
            value = ledger.set(word, value, forced, rules.EMULATED)
        if claimed & ~value:
            value = ledger.set(word, value, claimed, rules.CLAIMED)
        if added & ~value:
            value = ledger.set(word, value, added, rules.SYNTHESIZED)
        held.append(value & vendor)
        values.append(value & ~vendor)
    return values, held


def _take(step: _Step, plan: Plan, values: list[int], held: list[int], boot: BootCpu, hardware: Hardware, ledger: Ledger) -> None:
    """Do one row."""
    action, targets, terms, rule = step
    cause = None
    holds = True
    for kind, switch, word, mask, wanted, bit in terms:
        if kind == "switch":
            found = switch in hardware.on
        elif kind == "host":
            found = bool(boot.caps[word] & mask)
        else:
            found = bool(values[word] & mask)
        if found is not wanted:
            holds, cause = False, bit
            break
        cause = cause or bit
    if not holds and action != "grant":
        return
    for number, mask in targets:
        before = values[number] | held[number]
        name = plan.words[number].word
        if action == "clear" or not holds:
            ledger.clear(name, before, mask, rule, cause)
            values[number] &= ~mask
        else:
            ledger.set(name, before, mask, rule, cause)
            values[number] |= mask
        held[number] &= ~mask


def _set_up_xss(plan: Plan, host: Snapshot, values: list[int], boot: BootCpu, ledger: Ledger) -> int:
    """kvm_setup_xss_caps: without the states of control-flow enforcement in IA32_XSS, its features go too. Returns IA32_XSS."""

    def has(feature: str) -> bool:
        number, mask = plan.places.get(feature, (0, 0))
        return bool(values[number] & mask)

    xss = xstate.supported_xss(boot, host.raw, xsaves=has("XSAVES"), shstk=has("SHSTK"), ibt=has("IBT"))
    if xss != xstate.CET:
        for feature in ("SHSTK", "IBT"):
            if has(feature):
                number, mask = plan.places[feature]
                values[number] = ledger.clear(plan.words[number].word, values[number], mask, rules.XSS)
    return xss


@cache
def plan_of(release: str, module: str) -> Plan:
    """Make the tables of a kernel release and the rows of a vendor module ready."""
    data = load("kvm-caps")
    column = 3 + data["kernels"].index(release)
    linux = tables(release)
    rows = [row for row in rules.ROWS[module] if _in_force(row, release)]
    granted = {name for row in rows if row.action == "grant" for name in row.features.split()}
    kinds: dict[str, list[tuple[int, str, str]]] = {}
    places: dict[str, tuple[int, int]] = {}
    names = list(data["words"])
    for row in data["features"]:
        word, bit, name, kind = row[0], row[1], row[2], row[column]
        if kind is None and name in granted:
            kind = "VENDOR"
        if kind is not None:
            kinds.setdefault(word, []).append((1 << bit, name, kind))
        if kind != "ALIASED":
            places[name] = (names.index(word), 1 << bit)
    words = tuple(_word(name, data["words"][name], kinds.get(name, []), linux.word_numbers, linux.features) for name in names)
    by_word: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, word in enumerate(words):
        position = ("eax", "ebx", "ecx", "edx").index(word.word.register)
        by_word.setdefault((word.word.function, word.word.index), []).append((position, number))
    steps = tuple(_step(row, places, words, release) for row in rows)
    return Plan(words, steps, places, {place: tuple(found) for place, found in by_word.items()})


def _in_force(row: rules.Row, release: str) -> bool:
    number = versions.number
    return number(row.since) <= number(release) and (row.until is None or number(release) <= number(row.until))


def _word(
    name: str, place: list[int | str], kinds: list[tuple[int, str, str]], numbers: Mapping[str, int], features: Mapping[str, Place]
) -> _Word:
    def mask(*wanted: str) -> int:
        return sum(bit for bit, _, kind in kinds if kind in wanted)

    def bound(wanted: str) -> tuple[tuple[int, Place], ...]:
        return tuple((bit, features.get(feature, NOWHERE)) for bit, feature, kind in kinds if kind == wanted)

    function, index, register, _ = place
    return _Word(
        name=name,
        word=CpuidWord(function, index, register),  # type: ignore[arg-type]
        linux=numbers.get(name),
        known=sum(bit for bit, _, _ in kinds),
        followed=mask(*_FOLLOWS_HOST),
        forced=mask("EMULATED"),
        claimed=mask("CLAIMED"),
        vendor=mask("VENDOR"),
        runtime=mask("RUNTIME"),
        synthesized=bound("SYNTHESIZED"),
        scattered=bound("SCATTERED"),
    )


def _step(row: rules.Row, places: Mapping[str, tuple[int, int]], words: tuple[_Word, ...], release: str) -> _Step:
    targets: dict[int, int] = {}
    for name in row.features.split():
        number, mask = places[name]
        targets[number] = targets.get(number, 0) | mask
    return _Step(row.action, tuple(targets.items()), tuple(_term(text, places, words, release) for text in row.when.split()), row.rule)


def _term(text: str, places: Mapping[str, tuple[int, int]], words: tuple[_Word, ...], release: str) -> _Term:
    wanted = not text.startswith("!")
    kind, colon, name = text.removeprefix("!").partition(":")
    linux = tables(release)
    if not colon:
        return _Term("switch", kind, 0, 0, wanted, None)
    if kind == "cap":
        number, mask = places[name]
        return _Term("cap", "", number, mask, wanted, Bit(words[number].word, mask.bit_length() - 1))
    place = (linux.features if kind == "host" else linux.bugs).get(name, NOWHERE)
    bit = Bit(linux.words[place.word], place.mask.bit_length() - 1) if place.mask else None
    return _Term("host", "", *place, wanted, bit)
