"""Replays on the model what real vCPUs were put through in tests/captures/vcpu, step by step: oracle/kvm_states.c tells the lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial

import pytest

from support import captures
from vcpuid.cpuid import CpuidTable, Entry, Registers, Snapshot
from vcpuid.errors import KvmError
from vcpuid.kvm.lookup import lookup, seen
from vcpuid.kvm.vcpu import set_again, set_cpuid
from vcpuid.kvm.vcpu_state import VcpuState
from vcpuid.reasons import Decision, replay

FILES = captures.names("vcpu")
HLT, QUIRKS, OLD_QUIRKS, MISC_ENABLE, INVTSC_CONTROL = "143", "213", "116", "1a0", "40000118"

Lines = list[list[str]]


def entry(words: list[str]) -> Entry:
    function, _, index = words[0].partition(".")
    return Entry(int(function, 16), int(index, 16), int(words[1][1:], 16), *(int(word, 16) for word in words[2:]))


def split(name: str) -> tuple[Snapshot, dict[str, Lines]]:
    """The machine, and each case's lines as words."""
    kernel, flags, supported = "", "", []
    cases: dict[str, Lines] = {}
    for line in captures.lines(name, "vcpu"):
        kind, *words = line.split()
        if kind == "KERNEL":
            kernel = words[0]
        elif kind == "CPUINFO":
            flags = " ".join(words[1:])
        elif kind == "SUP":
            supported.append(entry(words))
        elif kind == "CASE":
            lines = cases.setdefault(words[0], [])
        elif kind not in ("CPU", "QEMU", "END"):
            lines.append([kind, *words])
    return Snapshot(supported=CpuidTable(supported), kernel=kernel, cpuinfo={"flags": flags}), cases


CASES = [pytest.param(name, case, id=f"{name}-{case}") for name in FILES for case in split(name)[1]]


def origin(name: str, case: str) -> dict[str, str | None]:
    host, _ = split(name)
    return {"kernel": host.kernel, "qemu": None, "vendor": host.vendor}


class Replay:
    """A vCPU of the model that goes through the same steps; each step that answers is compared."""

    def __init__(self, host: Snapshot, lines: Lines, noted: Callable[[Iterable[Decision]], None]) -> None:
        self.noted = noted
        self.host, self.kernel = host, host.kernel or ""
        self.state = VcpuState(constant_tsc="constant_tsc" in host.cpuinfo["flags"].split())
        self.cr4, self.apic, self.ran = 0, True, False
        self.table = CpuidTable([entry(words) for kind, *words in lines if kind == "TAB"])
        self.khz = next((int(words[0]) for kind, *words in lines if kind == "KHZ"), None)

    def kept(self) -> CpuidTable:
        result = set_cpuid(self.table, host=self.host, kernel=self.kernel, cr4=self.cr4, apic=self.apic, state=self.state)
        assert replay(self.table.words(), result.decisions) == result.table.words()
        self.decisions = result.decisions
        return result.table

    def step(self, kind: str, words: list[str], got: list[Entry]) -> None:
        {"CAP": self.cap, "XEN": self.xen, "SET": self.set, "SREGS": self.sregs, "XCR0": self.xcr0, "MSR": self.msr}.get(kind, self.none)(
            words
        )
        if kind == "GET":
            kept = self.kept()
            assert len(kept) == int(words[0])
            assert [e for e in kept if self.table.get(*e[:2]) != e] == got
            self.noted(self.decisions)
        if kind == "GUEST":
            self.guest(words)

    def none(self, words: list[str]) -> None:
        pass

    def cap(self, words: list[str]) -> None:
        assert words[:2] in ([HLT, "2"], [QUIRKS, "10"], [OLD_QUIRKS, "10"])
        if words[2] == "0":
            self.state = replace(self.state, hlt_in_guest=True) if words[0] == HLT else replace(self.state, mwait_quirk=False)

    def xen(self, words: list[str]) -> None:
        self.state = replace(self.state, xen_enabled=words == ["0"])

    def set(self, words: list[str]) -> None:
        errno = 0
        try:
            if self.ran:
                set_again(self.kept(), self.table, host=self.host, kernel=self.kernel, cr4=self.cr4, apic=self.apic, state=self.state)
            elif words == ["7"]:
                set_cpuid(CpuidTable([*self.table, Entry(0x2000, 0, 0, 1, 2, 3, 4)]), kernel=self.kernel)
            else:
                self.kept()
        except KvmError as refusal:
            errno = refusal.errno
        assert errno == int(words[0])

    def sregs(self, words: list[str]) -> None:
        before = self.cr4, self.apic
        self.cr4, self.apic = int(words[0], 16), words[1] == "1"
        if words[2] != "0":
            with pytest.raises(KvmError) as refusal:
                self.kept()
            assert refusal.value.errno == int(words[2])
            self.cr4, self.apic = before

    def xcr0(self, words: list[str]) -> None:
        if words[1] == "0":
            self.state = replace(self.state, xcr0=int(words[0], 16))

    def msr(self, words: list[str]) -> None:
        assert words[0] in (MISC_ENABLE, INVTSC_CONTROL)
        if words[2] == "1":
            on = {"mwait_enabled": True} if words[0] == MISC_ENABLE else {"invtsc_control": 1}
            self.state = replace(self.state, **on)  # type: ignore[arg-type]

    def guest(self, words: list[str]) -> None:
        self.ran, self.state = True, replace(self.state, tsc_khz=self.khz)
        function, _, index = words[0].partition(".")
        answer = Registers(*(int(word, 16) for word in words[1:]))
        kept = self.kept()
        assert lookup(kept, int(function, 16), int(index, 16), kernel=self.kernel, state=self.state) == answer
        read = seen(kept, kernel=self.kernel, state=self.state)
        assert replay(kept.words(), read.decisions) == read.table.words()
        place = int(function, 16), int(index, 16)
        self.noted(d for d in (*self.decisions, *read.decisions) if (d.word.function, d.word.index) == place)


def steps(lines: Lines) -> Iterator[tuple[str, list[str], list[Entry]]]:
    """Each line with the GOT lines that follow it."""
    for number, (kind, *words) in enumerate(lines):
        if kind not in ("GOT", "TAB", "KHZ"):
            got = []
            for other, *fields in lines[number + 1 :]:
                if other != "GOT":
                    break
                got.append(entry(fields))
            yield kind, words, got


@pytest.mark.conformance("vCPU", origin)
@pytest.mark.parametrize(("name", "case"), CASES)
def test_a_vcpu_in_every_state(name: str, case: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    host, cases = split(name)
    vcpu = Replay(host, cases[case], partial(fired, f"vcpu/{name}, {case}"))
    for kind, words, got in steps(cases[case]):
        vcpu.step(kind, words, got)


def test_nothing_is_missing() -> None:
    assert [len(split(name)[1]) for name in FILES] == [13] * 12
