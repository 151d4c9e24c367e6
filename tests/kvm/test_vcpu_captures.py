"""Every vCPU of tests/captures/guest: tables given to real ones, what they kept, what CPUID returned in their guests.

The files are those that kvm_lookup printed on stock kernels; an in-kernel irqchip is present.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache

import pytest

from support import captures
from vcpuid.cpuid import CpuidTable, Entry, Registers, Snapshot
from vcpuid.errors import KvmError
from vcpuid.kvm.lookup import lookup, seen
from vcpuid.kvm.vcpu import get_cpuid, set_again, set_cpuid
from vcpuid.reasons import Decision, replay

FILES = captures.names("guest")
STATES = [(cr4, apic) for cr4 in (0, 0x40000, 0x440000) for apic in (True, False)]
"""CR4 and the APIC's enable, in the order in which each case goes through them."""


@dataclass
class Case:
    """One table. `got` are the entries of KVM_GET_CPUID2 that are not as set, `guest` the leaves read, `refused` KVM_SET_SREGS's errno, all
    by CR4 and APIC; `again` is KVM_SET_CPUID2's errno once the vCPU has run: with the same table, with leaf 1 ECX bit 0 turned over."""

    name: str
    entries: list[Entry] = field(default_factory=list)
    set_errno: int = 0
    refused: dict[tuple[int, bool], int] = field(default_factory=dict)
    got: dict[tuple[int, bool], list[Entry]] = field(default_factory=dict)
    guest: dict[tuple[int, bool], dict[tuple[int, int], Registers]] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)

    @property
    def table(self) -> CpuidTable:
        return CpuidTable(self.entries)


@dataclass
class Capture:
    """One machine under one kernel."""

    name: str
    kernel: str
    cases: list[Case]

    @property
    def host(self) -> Snapshot:
        """All that the file tells of the machine: its first case is KVM_GET_SUPPORTED_CPUID."""
        return Snapshot(supported=self.cases[0].table, kernel=self.kernel)


def _place(text: str) -> tuple[int, int]:
    function, _, index = text.partition(".")
    return int(function, 16), int(index, 16)


def _entry(words: list[str]) -> Entry:
    return Entry(*_place(words[0]), int(words[1][1:], 16), *(int(word, 16) for word in words[2:]))


@cache
def read(name: str) -> Capture:
    kernel, cases = "", []
    for line in captures.lines(name, "guest"):
        kind, *words = line.split()
        if kind == "KERNEL":
            kernel = words[0]
        elif kind == "CASE":
            cases.append(case := Case(words[0]))
        elif kind == "TAB":
            case.entries.append(_entry(words))
        elif kind == "SETRC":
            case.set_errno = int(words[1])
        elif kind == "SREGS":  # SREGS cr4 40000 apic 0: errno 22
            case.refused[int(words[1], 16), words[3] == "1:"] = int(words[5])
        elif kind == "GOT":
            case.got.setdefault((int(words[0], 16), words[1] == "1"), []).append(_entry(words[2:]))
        elif kind == "GUEST":
            read = case.guest.setdefault((int(words[0], 16), words[1] == "1"), {})
            read[_place(words[2])] = Registers(*(int(word, 16) for word in words[3:]))
        elif kind == "AGAIN":
            case.again[words[0]] = int(words[2])
        else:
            assert kind in ("CPU", "QEMU", "Bochs"), f"{name}: {line!r} is no line of this format"
    return Capture(name, kernel, cases)


CASES = [
    pytest.param(name, line.split()[1], id=f"{name}-{line.split()[1]}")
    for name in FILES
    for line in captures.lines(name, "guest")
    if line.startswith("CASE ")
]


def pick(name: str, case: str) -> tuple[Capture, Case]:
    capture = read(name)
    return capture, next(c for c in capture.cases if c.name == case)


def origin(host: Snapshot) -> dict[str, str | None]:
    return {"kernel": host.kernel, "qemu": None, "vendor": host.vendor}


def kept(capture: Capture, case: Case, cr4: int, apic: bool) -> CpuidTable:
    return set_cpuid(case.table, host=capture.host, kernel=capture.kernel, cr4=cr4, apic=apic).table


def differing(buffer: CpuidTable, table: CpuidTable) -> list[Entry]:
    """What the capture tool prints: entries that are not as the first of the same number was set."""
    return [entry for entry in buffer if table.get(*entry[:2]) != entry]


@pytest.mark.conformance("vCPU", lambda name, case: origin(read(name).host))
@pytest.mark.parametrize(("name", "case"), CASES)
def test_what_a_vcpu_keeps(name: str, case: str) -> None:
    capture, wanted = pick(name, case)
    if wanted.set_errno:
        with pytest.raises(KvmError) as refusal:
            set_cpuid(wanted.table, host=capture.host, kernel=capture.kernel)
        assert refusal.value.errno == wanted.set_errno
        assert not wanted.guest
        return
    for cr4, apic in STATES:
        if (cr4, apic) in wanted.refused:
            with pytest.raises(KvmError) as refusal:
                kept(capture, wanted, cr4, apic)
            assert refusal.value.errno == wanted.refused[cr4, apic]
            continue
        buffer = get_cpuid(kept(capture, wanted, cr4, apic), kernel=capture.kernel)
        assert differing(buffer, wanted.table) == wanted.got.get((cr4, apic), [])


@pytest.mark.conformance("vCPU", lambda name, case: origin(read(name).host))
@pytest.mark.parametrize(("name", "case"), CASES)
def test_what_the_guest_reads(name: str, case: str) -> None:
    capture, wanted = pick(name, case)
    assert set(wanted.guest) == set(STATES if not wanted.set_errno else ()) - set(wanted.refused)
    for (cr4, apic), leaves in wanted.guest.items():
        table = kept(capture, wanted, cr4, apic)
        assert {place: lookup(table, *place, kernel=capture.kernel) for place in leaves} == leaves


@pytest.mark.long
@pytest.mark.conformance("vCPU", lambda name, case: origin(read(name).host))
@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_table_set_again_after_the_vcpu_ran(name: str, case: str) -> None:
    capture, wanted = pick(name, case)
    if wanted.set_errno:
        assert not wanted.again
        return
    cr4, apic = [state for state in STATES if state not in wanted.refused][-1]
    now = kept(capture, wanted, cr4, apic)
    changed = [entry._replace(ecx=entry.ecx ^ 1) if entry == wanted.table.get(1) else entry for entry in wanted.table]
    for which, table in (("same", wanted.table), ("changed", CpuidTable(changed))):
        errno = 0
        try:
            taken = set_again(now, table, host=capture.host, kernel=capture.kernel, cr4=cr4, apic=apic).table
            assert taken == (now if which == "same" else kept(capture, replace(wanted, entries=list(table)), cr4, apic))
        except KvmError as refusal:
            errno = refusal.errno
        if which in wanted.again:
            assert errno == wanted.again[which]
        else:
            assert wanted.table.get(1) is None, "the tool leaves the second try out only where there is no leaf 1"


@pytest.mark.long
@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_decisions_replay_to_what_is_kept(name: str, case: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    capture, wanted = pick(name, case)
    for cr4, apic in STATES:
        if wanted.set_errno or (cr4, apic) in wanted.refused:
            continue
        result = set_cpuid(wanted.table, host=capture.host, kernel=capture.kernel, cr4=cr4, apic=apic)
        assert replay(wanted.table.words(), result.decisions) == result.table.words()
        read_by_guest = seen(result.table, kernel=capture.kernel)
        assert replay(result.table.words(), read_by_guest.decisions) == read_by_guest.table.words()
        read = wanted.guest[cr4, apic].keys()
        fired(f"guest/{name}, {case}", result.decisions)
        fired(f"guest/{name}, {case}", (d for d in read_by_guest.decisions if (d.word.function, d.word.index) in read))


def test_nothing_is_missing() -> None:
    cases = [case for name in FILES for case in read(name).cases]
    assert len(FILES) == 29
    assert len(cases) == 29 * 21
    assert sum(len(leaves) for case in cases for leaves in case.guest.values()) == 158_968


@pytest.mark.conformance("vCPU", captures.origin)
@pytest.mark.parametrize("name", captures.MACHINES)
def test_what_a_fresh_vcpu_keeps_of_the_supported_table(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    host = captures.host(name)
    assert host.supported is not None
    assert host.kept is not None
    assert host.set_result == 0
    result = set_cpuid(host.supported, host=host, kernel=host.kernel)
    assert get_cpuid(result.table, kernel=host.kernel) == host.kept
    fired(f"kvm/{name}", result.decisions)
