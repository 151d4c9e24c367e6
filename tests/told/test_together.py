"""Features that are turned many at once say of themselves what each says alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.captures import MACHINES, host, some
from vcpuid import Setup, hazards, kvm
from vcpuid.answers import flags, vulnerabilities
from vcpuid.answers.certainty import open_bits, starting
from vcpuid.answers.fate import places
from vcpuid.answers.handed import handed
from vcpuid.answers.survey import cpuid_features, words_of
from vcpuid.cpuid import CpuidTable, CpuidWord, MsrTable
from vcpuid.cpuid.bits import HYPERVISOR
from vcpuid.errors import NotToldError, RefusedError
from vcpuid.path.pipeline import others, paths, resolve, warned
from vcpuid.told import completions as module
from vcpuid.told.completions import completions
from vcpuid.told.facts import Fact
from vcpuid.told.tables import of_kvm
from vcpuid.told.together import Together, batches
from vcpuid.vmm.known import named

FEATURES = cpuid_features()[::3]


def facts(number: int) -> list[Fact]:
    return [Fact(CpuidWord(7, count // 32, "eax"), count % 32) for count in range(number)]


@given(st.integers(0, 700))
def test_no_two_facts_are_in_the_same_batches_and_these_are_few(number: int) -> None:
    spread = batches(facts(number))
    codes = {fact: tuple(place for place, batch in enumerate(spread) if fact in batch) for fact in facts(number)}
    assert len(set(codes.values())) == len(codes)
    assert len(spread) <= number if number < 18 else 2 * len(spread) <= number


@given(st.integers(20, 300), st.data())
def test_who_is_behind_a_change_is_found_however_many_are(number: int, data: st.DataObject) -> None:
    given_, spread = facts(number), batches(facts(number))
    behind = data.draw(st.sets(st.sampled_from(given_), max_size=5))
    unknown = data.draw(st.sets(st.integers(0, len(spread) - 1), max_size=3))
    changed = sum(1 << place for place, batch in enumerate(spread) if place not in unknown and not behind.isdisjoint(batch))
    asked: list[Fact] = []

    def changes(fact: Fact) -> bool:
        asked.append(fact)
        return fact in behind

    found = Together(spread).behind(changed, sum(1 << place for place in unknown), changes)
    assert set(found) == behind
    if len(behind) < 2 and not unknown:
        assert not asked


def test_a_change_that_another_hides_in_a_batch_is_found_alone() -> None:
    """Two features in a batch that is not changed, since what one takes away the other gives."""
    spread = batches(facts(30))
    one, two = spread[0][:2]
    changed = sum(1 << place for place, batch in enumerate(spread) if (one in batch) != (two in batch))
    assert set(Together(spread).behind(changed, 0, lambda fact: fact in (one, two))) == {one, two}


def answers(setup: Setup, cpu: str) -> Mapping[str, object]:
    """All that is said not to be told of a host and of a guest on it."""
    vmm = named()
    found: dict[str, object] = {
        "kvm": dict(of_kvm(setup, lambda other: kvm.supported(other).table)),
        "starts": starting(cpu, setup, vmm),
        "warnings": (warned(cpu, setup, vmm).certain, dict(warned(cpu, setup, vmm).not_told)),
        "flags": dict(flags.told(setup).not_told),
        "files": vulnerabilities.told(setup),
    }
    try:
        path = resolve(cpu, host=setup)
        found["table"] = dict(handed(cpu, setup, vmm).not_told)
    except (NotToldError, RefusedError):
        return found
    found["hazards"] = hazards.of_path(path)
    found["bits"] = open_bits(path, words_of(FEATURES))
    for position, step in enumerate(path.trace.steps[1:], 1):
        for feature in FEATURES:
            bits = places(feature, step, setup.kernel.tables)
            found[f"{feature.name} at {step.party}"] = path.beside.changing(position, bits)
    return found


def forget() -> None:
    for function in (completions, others, paths, warned):
        function.cache_clear()


CPUS = ("host", "max,-avx", "EPYC-Genoa", "SapphireRapids,enforce", "qemu64,+npt,+sgx")
LEFT = (2, 3, 8, 20)
"""Leaves of a dump that are left, of which the rest was lost."""


@pytest.mark.long
@pytest.mark.parametrize(("name", "cpu", "left", "guest"), some(product(MACHINES[::9], CPUS, LEFT, (False, True)), 127))
def test_turned_together_features_say_what_each_says_alone(
    name: str, cpu: str, left: int, guest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hypervisor's guest any control of VMX may be missing."""
    whole = host(name)
    bare = replace(whole, supported=None, emulated=None, hyperv=None, kept=None, set_result=None, cpuinfo={}, msrs=MsrTable())
    raw = [entry._replace(ecx=entry.ecx | HYPERVISOR.mask * guest) if entry.function == 1 else entry for entry in whole.raw[:left]]
    setup = Setup.of(replace(bare, raw=CpuidTable(raw)))
    forget()
    found = answers(setup, cpu)
    made = completions(setup)
    monkeypatch.setattr(module, "batches", lambda of: [(one,) for one in of])
    forget()
    assert found == answers(setup, cpu)
    assert made.batched
    assert len(made) < 0.8 * len(completions(setup))
    forget()
