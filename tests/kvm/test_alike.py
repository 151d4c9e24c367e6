"""What is worked out of KVM's answers is shared by hosts of which the same was read, and by no others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support.captures import host
from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, MsrTable
from vcpuid.kvm.alike import Alike
from vcpuid.kvm.answers import Answers, kvm_says
from vcpuid.setup import Setup

HOST = host("kvm-intel.corei7_skylake_x@6.12")


def says(*entries: Entry, msr: int | None = None) -> Answers:
    """Return the answers of the host with some leaves, and with an MSR, otherwise."""
    over = {entry[:2]: entry for entry in entries}
    raw = CpuidTable(over.get(entry[:2], entry) for entry in HOST.raw)
    msrs = HOST.msrs if msr is None else MsrTable({**HOST.msrs, 0x10A: msr})
    return kvm_says(Setup.of(replace(HOST, raw=raw, msrs=msrs)))


def leaf(function: int, eax: int) -> Entry:
    return Entry(function, 0, 0, eax, 0, 0, 0)


READS: dict[str, tuple[Callable[[Answers], object], Answers]] = {
    "registers": (lambda asked: asked.raw.registers(0x15), says(leaf(0x15, 9))),
    "word": (lambda asked: asked.raw.word(CpuidWord(0x15, 0, "eax")), says(leaf(0x15, 9))),
    "get": (lambda asked: asked.raw.get(0x15), says(leaf(0x15, 9))),
    "leaf": (lambda asked: asked.raw.leaf(0x15), says(leaf(0x15, 9))),
    "all of it": (lambda asked: tuple(asked.raw), says(leaf(0x15, 9))),
    "its words": (lambda asked: asked.raw.words(), says(leaf(0x15, 9))),
    "its size": (lambda asked: sum(1 for _ in asked.raw.by_key()) + asked.raw.registers(0x15).eax, says(leaf(0x15, 9))),
    "an MSR": (lambda asked: asked.msrs.get(0x10A, 0), says(msr=5)),
    "an MSR by its index": (lambda asked: asked.msrs[0x10A], says(msr=5)),
    "the MSRs": (lambda asked: dict(asked.msrs), says(msr=5)),
}


@pytest.mark.parametrize("read", READS)
def test_a_host_that_differs_in_what_was_read_is_asked_itself(read: str) -> None:
    work, other = READS[read]
    asked: list[object] = []

    def make(shown: Answers) -> object:
        asked.append(work(shown))
        return asked[-1]

    alike: Alike[object] = Alike(10)
    assert alike.made("a", says(), make) == work(says())
    assert alike.made("a", says(), make) is asked[0]
    assert alike.made("a", other, make) == work(other) != asked[0]
    assert alike.made("a", other, make) is asked[1]
    assert alike.made("b", says(), make) is asked[2]
    assert len(asked) == 3


def test_a_host_that_differs_elsewhere_shares() -> None:
    asked: list[int] = []

    def make(shown: Answers) -> int:
        first = shown.raw.registers(0x80000008).eax
        asked.append(first if first else shown.raw.registers(0x15).eax)
        return asked[-1]

    alike: Alike[int] = Alike(10)
    assert alike.made("a", says(), make) == alike.made("a", says(leaf(0x15, 9)), make)
    assert len(asked) == 1
    assert alike.made("a", says(leaf(0x80000008, 0)), make) == says().raw.registers(0x15).eax
    assert alike.made("a", says(leaf(0x80000008, 0), leaf(0x15, 9)), make) == 9
    assert len(asked) == 3


def test_nothing_else_of_a_host_can_be_looked_at() -> None:
    for part in ("host", "setup", "xcr0", "feature_msrs"):
        with pytest.raises(AttributeError):
            Alike[object](10).made("a", says(), lambda shown, part=part: getattr(shown, part))


def test_so_many_are_kept_and_no_more() -> None:
    alike: Alike[int] = Alike(3)
    made = [alike.made("a", says(leaf(0x15, number)), lambda shown: shown.raw.registers(0x15).eax) for number in range(10)]
    assert made == list(range(10))
    assert alike._count <= 3


def test_what_is_raised_is_not_kept() -> None:
    def refuse(shown: Answers) -> int:
        raise ValueError(shown.vendor)

    alike: Alike[int] = Alike(3)
    with pytest.raises(ValueError, match="GenuineIntel"):
        alike.made("a", says(), refuse)
    assert alike.made("a", says(), lambda shown: len(shown.vendor)) == 12
