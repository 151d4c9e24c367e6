"""Laws of the linux party, over processors that nobody built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcpuid.cpuid import CpuidTable, Entry, MsrTable, Snapshot
from vcpuid.cpuid.long_mode import in_64_bit_mode
from vcpuid.linux import boot_cpu, cpuinfo
from vcpuid.reasons import replay
from vcpuid.releases import KERNELS, UPSTREAM, code_of

VENDORS = [
    (0x756E6547, 0x6C65746E, 0x49656E69),
    (0x68747541, 0x444D4163, 0x69746E65),
    (0x6F677948, 0x656E6975, 0x6E65476E),
    (0x746E6543, 0x736C7561, 0x48727561),
    (0x68532020, 0x20206961, 0x68676E61),
    (0, 0, 0),
]
LEAVES = [
    (1, 0), (6, 0), (7, 0), (7, 1), (7, 2), (0xA, 0), (0xB, 0), (0xD, 0), (0xD, 1), (0xF, 0), (0xF, 1), (0x10, 0), (0x12, 0), (0x15, 0),
    (0x1A, 0), (0x1C, 0), (0x40000000, 0), (0x80000001, 0), (0x80000007, 0), (0x80000008, 0), (0x8000000A, 0), (0x8000001E, 0),
    (0x8000001F, 0), (0x80000021, 0), (0x80000022, 0), (0xC0000000, 0), (0xC0000001, 0),
]  # fmt: skip
REGISTER = st.integers(0, 2**32 - 1)
OPTIONS = [
    "mitigations=off", "noxsave", "nopcid", "clearcpuid=sse2,64", "setcpuid=avx512f,rtm", "fred=on", "tsx=on", "tsx=auto", "pti=on",
    "nopku", "nospectre_v2", "gather_data_sampling=force",
]  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")
"""Many options change nothing on processors of two leaves, and that is remarked on."""


@st.composite
def hosts(draw: st.DrawFn) -> Snapshot:
    ebx, ecx, edx = draw(st.sampled_from(VENDORS))
    entries = [
        Entry(0, 0, 0, draw(st.integers(0, 0x24)), ebx, ecx, edx),
        Entry(0x80000000, 0, 0, draw(st.sampled_from([0, 0x80000008, 0x80000021, 0x80000026])), 0, 0, 0),
    ]
    for function, index in LEAVES:
        if draw(st.booleans()):
            entries.append(Entry(function, index, 0, *draw(st.tuples(REGISTER, REGISTER, REGISTER, REGISTER))))
    msrs = draw(st.dictionaries(st.sampled_from([0x8B, 0x10A, 0x482, 0x48B, 0x48C]), st.integers(0, 2**64 - 1)))
    return in_64_bit_mode(Snapshot(raw=CpuidTable(entries), msrs=MsrTable(msrs)))


@given(hosts(), st.sampled_from(KERNELS), st.lists(st.sampled_from(OPTIONS), unique=True))
def test_the_decisions_account_for_every_change(host: Snapshot, kernel: str, options: list[str]) -> None:
    cpu = boot_cpu(host, kernel, {"cmdline": " ".join(options)})
    words = cpu.words()
    before = {word: value for word, value in host.raw.words().items() if word in words}
    after = replay(before, cpu.decisions)
    assert {word: value for word, value in after.items() if value} == {word: value for word, value in words.items() if value}


@pytest.mark.long
@given(hosts(), st.sampled_from(KERNELS), st.lists(st.sampled_from(OPTIONS), unique=True))
def test_a_decision_names_only_bits_that_it_changes(host: Snapshot, kernel: str, options: list[str]) -> None:
    cpu = boot_cpu(host, kernel, {"cmdline": " ".join(options)})
    words = {word: host.raw.word(word) if hasattr(word, "function") else 0 for word in cpu.words()}
    for word, mask, value, *_ in cpu.decisions:
        assert mask
        assert value & ~mask == 0
        assert (words[word] ^ value) & mask == mask
        words[word] = words[word] & ~mask | value


@given(hosts(), st.sampled_from(KERNELS))
def test_a_rule_is_used_only_by_releases_that_have_it(host: Snapshot, kernel: str) -> None:
    for decision in boot_cpu(host, kernel).decisions:
        rule, code = decision.rule, UPSTREAM.index(code_of(kernel))
        begun = rule.since is None or UPSTREAM.index(rule.since) <= code
        ended = rule.until is not None and UPSTREAM.index(rule.until) < code
        assert kernel in rule.also or (begun and not ended and kernel not in rule.lacking)


@pytest.mark.long
@given(hosts(), st.sampled_from(KERNELS))
def test_words_hold_32_bits_and_lines_name_nothing_twice(host: Snapshot, kernel: str) -> None:
    cpu = boot_cpu(host, kernel)
    assert all(0 <= value < 2**32 for value in (*cpu.caps, *cpu.vmx))
    for line in cpuinfo(host, kernel):
        assert len(line) == len(set(line))
