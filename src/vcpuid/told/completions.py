"""What the facts that a host does not tell could be: the same host, each time with some of them made up.

Two hosts stand at the ends: the one in which nothing is there that is not told, and one in which all is there that could be
(`vcpuid.told.plausible`). Between them each missing leaf and MSR is there alone, and is alone not there; and each missing feature is turned
round, where all is there, of MSRs also where nothing is: some take others away. Features of CPUID that no rule names are only passed on or
dropped, and are turned many at once (`vcpuid.told.together`). What all these answer alike does not depend on what is missing. MSRs by which
Linux knows a feature of its own, and which most processors have, are there unless told, and each is alone not there.

A kernel without tables, between two that have some, could be as either: where the newer one's tables answer otherwise than the older one's,
which stand for it, it is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from vcpuid.cpuid import (
    SIGNIFICANT_INDEX,
    Bit,
    CpuidTable,
    CpuidWord,
    Entry,
    MsrTable,
    MsrWord,
    Registers,
    Snapshot,
    Word,
    bits,
    vendors,
    xfeatures,
)
from vcpuid.cpuid.by_name import PartialTable
from vcpuid.cpuid.changed import changed
from vcpuid.cpuid.feature_words import CONTROL_MSRS
from vcpuid.cpuid.parts import with_cpuid
from vcpuid.cpuid.walk import walk
from vcpuid.cpuid.whole import partly_supported
from vcpuid.cpuid.words import INDEXED_FUNCTIONS, REGISTERS, positions, range_of
from vcpuid.kvm.feature_msrs import PERF_CAPABILITIES, VMX
from vcpuid.linux import behind_kvm, machine, narrow
from vcpuid.linux.boot import booted
from vcpuid.linux.machine import ARCH_CAPABILITIES, MICROCODE, Machine, machine_of
from vcpuid.numbers import U32
from vcpuid.params import MSR
from vcpuid.releases import Release, following
from vcpuid.setup import Setup
from vcpuid.told import plausible
from vcpuid.told.facts import Between, Fact, WholeLeaf
from vcpuid.told.hosts import Completion, Completions
from vcpuid.told.together import batches

_RANGES = frozenset({0, 0x80000000})
_CENTAURS = _RANGES | {0xC0000000}
"""The ranges of leaves that a processor has: Centaur's has one of its own, and Zhaoxin's, which is Centaur's heir."""

_HYPERVISOR = 0x40000000
_XSAVE = 0xD
_KVMS_OWN = frozenset({PERF_CAPABILITIES, *VMX})
"""MSRs of which KVM's answer counts: it is not all worked out of the hardware's, and of the first tells whether perf has counters."""
_FOR_FLAGS = (machine.TEST_CTRL, machine.PPIN_CTL, machine.PLATFORM_INFO, machine.CORE_CAPABILITIES, machine.MISC_FEATURES_ENABLES,
              machine.AMD_PPIN_CTL)  # fmt: skip
"""MSRs on which flags in /proc/cpuinfo depend, and nothing else: cpuid_fault, ring3mwait, intel_ppin, amd_ppin, split_lock_detect."""
_FULL = 0
"""The place of the completion in which everything is made up."""
_NAMED = frozenset(bit for bit in vars(bits).values() if isinstance(bit, Bit))
"""The features that rules name."""

Made = Mapping[Fact, Entry | int]
"""What is made up: of a leaf its entry, of an MSR its value."""


def untold(setup: Setup) -> tuple[Fact, ...]:
    """Name all that is not told of a setup: what its host does not tell, and of a kernel between two with tables what changed there."""
    newer = following(setup.kernel)
    between = () if newer is None else (_between(setup, newer),)
    return () if _is_guest(setup.host) else (*_of_host(setup), *between)


def _between(setup: Setup, newer: Release) -> Fact:
    return Fact(Between(setup.kernel.asked, setup.kernel.tables, newer.tables))


def _of_host(setup: Setup) -> tuple[Fact, ...]:
    """Name the leaves and MSRs that a host does not tell and that a processor like it could have.

    A leaf past the last one of its range, a sub-leaf that its leaf does not list, and an MSR that no leaf announces are told: they are not
    there. Where there are no RAW lines, what KVM supports stands for the processor. Of a guest whose table is told (TAB or GOT lines) all
    is: KVM answers for the rest.
    """
    return (*missing_leaves(setup.host), *_msrs(setup))


def _is_guest(host: Snapshot) -> bool:
    """Whether it is a guest with a table of its own: where what KVM answers is told as well, it is a host."""
    asked = host.supported is not None or host.emulated is not None or host.hyperv is not None
    return not asked and (host.table is not None or host.kept is not None)


@lru_cache(maxsize=64)
def missing_leaves(host: Snapshot) -> tuple[Fact, ...]:
    """Name the leaves that a host's table should have and has not: its RAW lines or, where it has none, a part of what KVM supports."""
    table = _with_gaps(host)
    return tuple(_leaves(table, host.vendor, _of_kvm(host))) if table and not _is_guest(host) else ()


def _with_gaps(host: Snapshot) -> CpuidTable:
    """Return the table that may lack leaves: the processor's; where that is not told at all, what is there of KVM's, if it is a part."""
    return host.supported or CpuidTable() if _of_kvm(host) else host.raw


def _of_kvm(host: Snapshot) -> bool:
    """Whether a part of what KVM supports is all that is told of a host's CPUID."""
    return not host.raw and partly_supported(host)


def nameless(host: Snapshot) -> tuple[Fact, ...]:
    """Name those of leaves 0 and 1 that are missing, where nothing stands for them: nobody can tell what a party makes of such a processor.

    Leaf 0 tells the vendor and the last leaf, leaf 1 the model: on these hang the rules themselves, and not single features.
    """
    if _of_kvm(host):
        return _unidentified(_with_gaps(host))
    return () if host.supported is not None or not host.raw else first_leaves(host)


def first_leaves(host: Snapshot) -> tuple[Fact, ...]:
    """Name those of leaves 0 and 1 that a host's RAW lines lack, both where it has none: without them nothing is known of its Linux."""
    return _unidentified(host.raw)


def _unidentified(table: CpuidTable) -> tuple[Fact, ...]:
    return tuple(Fact(WholeLeaf(function)) for function, word, mask in _IDENTITY if not _identifies(table, word, mask))


_IDENTITY = ((0, CpuidWord(0, 0, "ebx"), 0xFFFFFFFF), (1, CpuidWord(1, 0, "eax"), 0x0FFF0FF0))
"""Where leaves 0 and 1 tell the vendor, and family and model."""


def _identifies(raw: CpuidTable, word: CpuidWord, mask: int) -> bool:
    return raw.get(word.function) is not None and not (isinstance(raw, PartialTable) and mask & ~raw.told(word))


def tells(host: Snapshot, word: Word, mask: int = 0xFFFFFFFF) -> bool:
    """Tell whether a host's RAW lines, where it has any, say what a register of CPUID holds, be it that the processor has no such leaf.

    Of a register of which single bits are told, `mask` says which matter.
    """
    table = _with_gaps(host)
    if not isinstance(word, CpuidWord) or not table:
        return True
    if isinstance(table, PartialTable):
        return not mask & ~table.told(word)
    told = table.get(word.function, word.index)
    if told is not None:
        return not _blank(table, told)
    return table.get(0) is not None and Fact(WholeLeaf(word.function, word.index)) not in missing_leaves(host)


def _leaves(raw: CpuidTable, vendor: str, of_kvm: bool) -> Iterator[Fact]:
    missing: list[WholeLeaf] = []
    ranges = _CENTAURS if vendor in (vendors.CENTAUR, vendors.ZHAOXIN) else _RANGES
    of_hypervisor = of_kvm or raw.has(bits.HYPERVISOR)

    def ask(function: int, index: int) -> Registers:
        told = raw.get(function, index)
        if told is not None and not isinstance(raw, PartialTable) and not _blank(raw, told):
            return told.registers
        if range_of(function) in ranges or (range_of(function) == _HYPERVISOR and of_hypervisor):
            found = _could_hold(raw, vendor, function, index)
            if found != raw.registers(function, index):
                missing.append(WholeLeaf(function, index))
            return found
        return Registers()

    walk(ask)
    return (Fact(place) for place in dict.fromkeys(missing))


def _could_hold(raw: CpuidTable, vendor: str, function: int, index: int) -> Registers:
    """Return what a leaf could hold that is not told as a whole."""
    found = plausible.leaf(vendor, function, index)
    if not isinstance(raw, PartialTable):
        return found
    if function in (0, 0x80000000):
        last = plausible.last_basic(vendor) if function == 0 else found.eax
        found = found._replace(eax=max(last, raw.registers(function).eax))
    return raw.filled(function, index, found)


def _blank(raw: CpuidTable, entry: Entry) -> bool:
    """Tell whether a component that leaf 0xD lists has no size: programs that make dumps stop asking too early, and write zeros."""
    function, index, *_ = entry
    listed, _, _, upper = raw.registers(_XSAVE)
    return function == _XSAVE and index > 1 and bool((upper << 32 | listed) >> index & 1) and not any(entry.registers)


def _msrs(setup: Setup) -> Iterator[Fact]:
    host, known = setup.host, machine_of(setup)
    table = host.raw or host.supported or CpuidTable()
    amd = host.vendor in vendors.AMD_AND_HYGON
    wanted: list[tuple[int, Bit | None]] = [(MICROCODE, None)]
    if not amd or host.raw.has(bits.HYPERVISOR) or table.has(bits.ARCH_CAPABILITIES):  # of AMD's own processors none has it
        wanted.append((ARCH_CAPABILITIES, bits.ARCH_CAPABILITIES))
    if not amd:
        wanted += [(PERF_CAPABILITIES, None), *((index, bits.VMX) for index in plausible.VMX)]
    for index, announced in wanted:
        there = announced is None or table.has(announced) or not (table and tells(host, announced.word, announced.mask))
        if there and not known.given(index) and (_of_kvm_untold(setup, known, index) or _of_hardware_open(setup, known, index)):
            yield Fact(MsrWord(index))


_OF_HARDWARE = frozenset({MICROCODE, ARCH_CAPABILITIES, *behind_kvm.VMX})
"""MSRs that Linux reads."""


def _of_kvm_untold(setup: Setup, known: Machine, index: int) -> bool:
    """Whether KVM's feature MSR is not told; what KVM makes of VMX's capabilities is not worked out of the hardware's."""
    msrs = setup.host.msrs
    told = index in msrs or index in msrs.refused or (index not in VMX and known.tells(index))
    return not told and (index in _KVMS_OWN or not setup.host.raw)


def _of_hardware_open(setup: Setup, known: Machine, index: int) -> bool:
    """Whether the hardware's MSR is one that Linux reads, and is told neither by itself nor by what was made of it."""
    if index not in _OF_HARDWARE or not setup.host.raw or known.tells(index) or index in setup.host.msrs.refused:
        return False
    must, may = narrow.hardware(setup, index)
    return bool(plausible.msr(index) & may & ~must) or index == MICROCODE


@lru_cache(maxsize=8)
def completions(setup: Setup) -> Completions:
    """Give the hosts that a setup's could be.

    There are none where the host tells all and its kernel has tables, and none where it tells so little that it is `nameless`.
    """
    if nameless(setup.host) or _is_guest(setup.host):
        return Completions()
    facts = _of_host(setup)
    told = with_facts(setup, facts)
    newer = _under_newer(setup, told.made[_FULL].setup if facts else None)
    return replace(told, made=(*told, *_without_flags(setup), *newer))


def _under_newer(setup: Setup, full: Setup | None) -> Iterator[Completion]:
    """Give the host, and that with everything made up, under the kernel that comes next, where the one asked for has no tables."""
    newer = following(setup.kernel)
    if newer is None:
        return
    fact = _between(setup, newer)
    yield Completion((fact,), replace(setup, kernel=newer))
    if full is not None:
        yield Completion((fact,), replace(full, kernel=newer), _FULL)


def _without_flags(setup: Setup) -> Iterator[Completion]:
    """Give the hosts that lack one of the MSRs to which Linux owes a flag; none where the host tells the flags."""
    if not setup.host.raw or ("flags" in setup.host.cpuinfo and not setup.params.linux):
        return
    usual, told = booted(setup).caps, machine_of(setup)
    for index in _FOR_FLAGS:
        if not told.tells(index) and booted(lacking := setup.with_param(f"{MSR}{index:x}", "absent")).caps != usual:
            yield Completion((Fact(MsrWord(index)),), lacking)


def broad(setup: Setup) -> Iterator[Completion]:
    """Give of them those in which a leaf is made up as a whole, for questions about many features at once.

    A feature of a leaf decides about itself and what needs it, which shows there too; a bit of an MSR may take others away.
    """
    return (made for made in completions(setup) if all(_is_broad(fact) for fact in made.facts))


def _is_broad(fact: Fact) -> bool:
    return fact.place.msr not in _FOR_FLAGS if isinstance(fact.place, MsrWord) else fact.position is None


def with_facts(setup: Setup, facts: tuple[Fact, ...], *, batched: bool = True) -> Completions:
    """Give the hosts that a setup's could be as far as these facts are concerned, none where there are none.

    Without batches each feature is turned by itself.
    """
    if not facts:
        return Completions()
    making = _Making(_Incomplete(setup, facts), batched)
    full: dict[Fact, Entry | int] = {fact: _all_there(setup, fact) for fact in facts}
    making.base(facts, full, full=True)
    for fact in facts if len(facts) > 1 else ():
        making.one(fact, {fact: full[fact]})
        making.one(fact, {other: value for other, value in full.items() if other != fact}, _FULL)
    making.turn([part for fact in facts for part in _turnable(setup, fact, full[fact])], _FULL)
    bare: dict[Fact, Entry | int] = {}
    controls: list[Fact] = []
    for fact in facts:
        nothing = _nothing(setup, fact)
        if isinstance(fact.place, MsrWord) and (parts := list(_turnable(setup, fact, nothing))):
            own = making.base((fact,), {fact: nothing})  # an MSR that is 0 is another thing than none, of which Linux thinks what is usual
            if fact.place.msr in plausible.VMX:
                bare[fact] = nothing
                controls += parts
            else:
                making.turn(parts, own)
    if controls:
        making.turn(controls, making.base(tuple(bare), bare))
    return Completions(tuple(making.done), making.turned)


class _Making:
    """Completions of a host as they are made, and what is made up in those of which facts are turned."""

    def __init__(self, host: _Incomplete, batched: bool) -> None:
        self._host, self._batched = host, batched
        self._bases: dict[int, Made] = {}
        self.done: list[Completion] = []

    def one(self, fact: Fact, made: Made, against: int | None = None) -> None:
        """Add a host that differs in one fact."""
        self.done.append(Completion((fact,), self._host.telling(made), against))

    def base(self, facts: tuple[Fact, ...], made: Made, *, full: bool = False) -> int:
        """Add a host of which facts are to be turned, and return its place."""
        self._bases[len(self.done)] = made
        self.done.append(Completion(facts, self._host.telling(made), None, full, jointly=len(facts) > 1))
        return len(self.done) - 1

    def turn(self, facts: Iterable[Fact], against: int) -> None:
        """Turn facts of the host at a place, one at a time or in batches."""
        together: list[Fact] = []
        for fact in facts:
            if self._batched and _is_plain(fact):
                together.append(fact)
            else:
                self.done.append(Completion((fact,), self.turned(against, fact), against))
        for batch in batches(together):
            self.done.append(Completion(batch, self._host.telling(_flipped(self._bases[against], batch)), against))

    def turned(self, against: int, fact: Fact) -> Setup:
        """Return the setup in which a fact of the host at a place is turned by itself."""
        return self._host.telling(_flipped(self._bases[against], (fact,)))


def _is_plain(fact: Fact) -> bool:
    """Whether it is a feature of CPUID or a control of VMX that no rule names, so that hardly any reads it together with another.

    Components of XSAVE make up sizes together.
    """
    place, position, _ = fact
    passed_on = place.function != _XSAVE if isinstance(place, CpuidWord) else isinstance(place, MsrWord) and place.msr in plausible.VMX
    return passed_on and (place, position) not in _NAMED


def _flipped(made: Made, facts: Iterable[Fact]) -> Made:
    """Return what is made up with each of these features on where it is off, and off where it is on."""
    over = dict(made)
    for fact in facts:
        place, position, _ = fact
        assert position is not None
        value = over[fact.whole]
        if isinstance(value, int):
            over[fact.whole] = value ^ 1 << position + _shift(place)
        else:
            assert isinstance(place, CpuidWord)
            over[fact.whole] = value._replace(**{place.register: getattr(value, place.register) ^ 1 << position})
    return over


def _shift(place: object) -> int:
    """Return the bits by which controls of VMX stand higher in their MSR than they are counted."""
    return 32 if isinstance(place, MsrWord) and place.msr in CONTROL_MSRS else 0


def _all_there(setup: Setup, fact: Fact) -> Entry | int:
    host = setup.host
    if isinstance(fact.place, WholeLeaf):
        table = _with_gaps(host)
        found = _could_hold(table, host.vendor, *fact.place)
        flags = SIGNIFICANT_INDEX if _of_kvm(host) and fact.place.function in INDEXED_FUNCTIONS else 0
        return Entry(*fact.place, flags, *(_components(table, found) if fact.place == (_XSAVE, 0) else found))
    assert isinstance(fact.place, MsrWord)
    if fact.place.msr == MICROCODE:
        return plausible.microcode(host.raw, host.vendor, setup.kernel.tables)
    value = plausible.msr(fact.place.msr)
    if not host.raw.has(bits.HYPERVISOR):
        value &= ~_lacking(host, fact.place.msr)
    return _narrowed(setup, fact.place.msr, value)


def _narrowed(setup: Setup, index: int, value: int) -> int:
    """Leave of an MSR what a host's KVM and /proc/cpuinfo do not rule out, and add what they demand."""
    must, may = narrow.hardware(setup, index) if setup.host.raw else behind_kvm.Bounds()
    return value & may | must


def _components(raw: CpuidTable, leaf: Registers) -> Registers:
    """Let sub-leaf 0 of leaf 0xD list the components of XCR0 that its other sub-leaves describe, as far as they are told."""
    listed, end = xfeatures.LEGACY, xfeatures.LEGACY_AREA
    for number in range(2, 63):
        told = raw.get(_XSAVE, number)
        size, offset, flags, _ = plausible.leaf("", _XSAVE, number) if told is None else told.registers
        if size and not flags & xfeatures.IN_XSS:
            listed |= 1 << number
            end = max(end, offset + size & U32)  # as Linux and KVM add: only a broken CPUID is larger
    return leaf._replace(eax=listed & U32, ebx=end, ecx=end, edx=listed >> 32)


def _lacking(host: Snapshot, index: int) -> int:
    """Return the VMX controls of an MSR that no processor has had without a feature of CPUID which this one does not have.

    A hypervisor may withhold either from its guests.
    """
    return sum(control for bit, control in plausible.with_feature(index) if tells(host, bit.word, bit.mask) and not host.raw.has(bit))


def _nothing(setup: Setup, fact: Fact) -> int:
    return _narrowed(setup, fact.place.msr, 0) if isinstance(fact.place, MsrWord) else 0


def _turnable(setup: Setup, fact: Fact, value: Entry | int) -> Iterator[Fact]:
    """Name the features of a leaf or of an MSR that may be otherwise than in `value`.

    Of the VMX capability MSRs only where any control may be missing: where a hypervisor made them, and before Nehalem, the first that had
    EPT and SSE4.2. Later processors with VMX have all had the controls that KVM looks for (`vcpuid.kvm.vmx`).
    """
    any_control = setup.host.raw.has(bits.HYPERVISOR) or not setup.host.raw.has(bits.XMM4_2)
    if isinstance(fact.place, WholeLeaf):
        for register in REGISTERS:
            word = CpuidWord(*fact.place, register)
            told = setup.host.raw.told(word) if isinstance(setup.host.raw, PartialTable) else 0
            yield from (Fact(word, position) for position in positions(plausible.features_of(word) & ~told))
    elif isinstance(fact.place, MsrWord) and (fact.place.msr not in plausible.VMX or any_control):
        assert isinstance(value, int)
        for position in positions(plausible.features_of(fact.place)):
            turned = value ^ 1 << position
            if turned == _narrowed(setup, fact.place.msr, turned):
                yield Fact(fact.place, position - _shift(fact.place))


class _Incomplete:
    """A setup whose host does not tell some facts; whether an MSR is KVM's or the hardware's is the same whatever is made up of it."""

    def __init__(self, setup: Setup, facts: tuple[Fact, ...]) -> None:
        self._setup, known = setup, machine_of(setup)
        msrs = [fact.place.msr for fact in facts if isinstance(fact.place, MsrWord)]
        self._of_kvm = {index for index in msrs if _of_kvm_untold(setup, known, index)}
        self._hardware = {index for index in msrs if _of_hardware_open(setup, known, index)}

    def telling(self, made: Made) -> Setup:
        """Return the setup on a host that tells besides what is made up."""
        host = self._setup.host
        leaves = [value for value in made.values() if isinstance(value, Entry)]
        msrs = {fact.place.msr: value for fact, value in made.items() if isinstance(fact.place, MsrWord) and isinstance(value, int)}
        of_kvm = {index: value for index, value in msrs.items() if index in self._of_kvm}
        hardware = {index: value for index, value in msrs.items() if index in self._hardware}
        kvm, own = host.msrs, host.hardware_msrs
        return self._setup.with_host(
            replace(
                with_cpuid(host, changed(_with_gaps(host), leaves)) if leaves else host,
                msrs=MsrTable({**kvm, **of_kvm}, kvm.refused) if of_kvm else kvm,
                hardware_msrs=MsrTable({**own, **hardware}, own.refused) if hardware else own,
            )
        )
