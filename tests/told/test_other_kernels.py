"""What one kernel's KVM answered is no other kernel's answer, and no MSR of the hardware: it tells of them as far as KVM's rules do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import pytest

from support.captures import MACHINES, MITIGATIONS_OFF, host, release, some
from vcpuid import Setup, Snapshot, Stack, explain, resolve
from vcpuid.answers.certainty import open_bits
from vcpuid.answers.flags import told
from vcpuid.answers.survey import cpuid_features, words_of
from vcpuid.cpuid import CpuidWord, MsrWord
from vcpuid.kvm.feature_msrs import feature_msrs, known_arch_capabilities
from vcpuid.reasons import read_register

pytestmark = pytest.mark.filterwarnings("ignore::vcpuid.errors.RemarkWarning")

WORDS = words_of(cpuid_features())
PAIRS = [(one, other) for one in MACHINES for other in MACHINES if one != other and one.partition("@")[0] == other.partition("@")[0]]


def asked(name: str) -> Snapshot:
    """A captured machine with what its KVM answered, and no table for a guest."""
    return replace(host(name), table=None, kept=None, set_result=None)


def under(name: str, kernel: str) -> Setup:
    return Setup.of(asked(name), Stack(kernel, params=MITIGATIONS_OFF))


@cache
def guest(name: str) -> Mapping[CpuidWord, int]:
    """What a guest reads on a machine under its own kernel."""
    seen = resolve("host", host=under(name, release(name))).trace.steps[-1].after
    return {word: read_register(seen, word) for word in WORDS}


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_no_feature_msr_of_another_kernel_passes_for_this_one_s(one: str, other: str) -> None:
    setup, truth = under(one, release(other)), host(other).msrs
    told_, (value, mask) = feature_msrs(setup).table, known_arch_capabilities(setup)
    assert not setup.host.msrs
    assert {index: found for index, found in told_.items() if index != 0x10A and index in truth and truth[index] != found} == {}
    assert truth[0x10A] & mask == value & mask


@pytest.mark.long
@pytest.mark.parametrize(("one", "other"), some(PAIRS, 5))
def test_what_is_certain_under_another_kernel_is_so_there(one: str, other: str) -> None:
    path, truth = resolve("host", host=under(one, release(other))), guest(other)
    hidden, seen = open_bits(path, WORDS), path.trace.steps[-1].after
    differing = {word: read_register(seen, word) ^ truth[word] for word in WORDS}
    assert {word: mask for word, mask in differing.items() if mask & ~hidden.get(word, 0)} == {}


@pytest.mark.parametrize("name", MACHINES)
def test_the_lines_of_cpuinfo_where_they_are_lost_are_the_printed_ones_or_not_told(name: str) -> None:
    printed = host(name).cpuinfo
    found = told(Setup.of(replace(asked(name), cpuinfo={}), Stack(release(name), params=MITIGATIONS_OFF)))
    open_ = {answer.what for answer in found.not_told}
    for line, names in found.info._asdict().items():
        differing = set(printed.get(line, "").split()) ^ set(names)
        assert {name for name in differing if (name if line == "flags" else f"{line.replace('_', ' ')}: {name}") not in open_} == set()


def test_kvm_tells_of_a_bug_what_its_rule_lets_through() -> None:
    found = told(Setup.of(replace(asked("kvm-intel.sapphire_rapids-xfd@7.3"), cpuinfo={}), Stack("7.3")))
    open_ = {answer.what for answer in found.not_told}
    assert "bugs: itlb_multihit" in open_  # KVM sets PSCHANGE_MC_NO itself
    assert not open_ & {"bugs: cpu_meltdown", "bugs: mds", "bugs: spec_store_bypass", "ibrs_enhanced"}
    assert "mds" in found.info.bugs


@pytest.mark.parametrize(
    ("name", "flag", "given"),
    [
        ("kvm-intel.corei7_icelake_u-rnd10@6.12", "cpuid_fault", {"msr.ce": 1 << 31, "msr.140": 0}),
        ("kvm-intel.corei7_icelake_u-rnd10@6.12", "split_lock_detect", {"msr.33": 0}),
        ("kvm-intel.corei7_skylake_x@6.12", "intel_ppin", {"msr.4e": 2}),
    ],
)
def test_a_flag_that_an_msr_decides_is_not_told_without_it(name: str, flag: str, given: dict[str, int]) -> None:
    raw = Snapshot(raw=host(name).raw, kernel="6.12")
    open_ = {answer.what: answer.depends for answer in told(Setup.of(raw)).not_told}
    assert {fact.place.msr for fact in open_[flag] if isinstance(fact.place, MsrWord)} == {int(msr[4:], 16) for msr in given}
    assert explain(flag, host=raw).stages[1].value is None
    known = told(Setup.of(raw, Stack(params=given)))
    assert flag in known.info.flags
    assert flag not in {answer.what for answer in known.not_told}
