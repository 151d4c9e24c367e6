"""KVM_GET_SUPPORTED_CPUID and its two siblings, against what real kernels answered on 140 machines.

What a capture does not show and the model must be told: those machines were booted with mitigations=off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

import pytest

from support.captures import MACHINES, MITIGATIONS_OFF, host, origin, release
from vcpuid import kvm
from vcpuid.cpuid import CpuidTable
from vcpuid.reasons import Decision, Result, replay


@cache
def answer(name: str) -> Result:
    return kvm.supported(host(name), release(name), MITIGATIONS_OFF)


def lines(table: CpuidTable | None) -> list[str]:
    assert table is not None
    return [str(entry) for entry in table]


def test_there_are_captures_of_both_modules() -> None:
    both = {(module, kernel) for module in ("amd", "int") for kernel in ("5.10", "6.1", "6.12", "6.16", "6.17", "6.18", "7.2", "7.3")}
    assert {(name[4:7], release(name)) for name in MACHINES} == both


@pytest.mark.conformance("KVM supported", origin)
@pytest.mark.parametrize("name", MACHINES)
def test_supported_is_what_the_kernel_answered(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    assert lines(answer(name).table) == lines(host(name).supported)
    fired(f"kvm/{name}", answer(name).decisions)


@pytest.mark.conformance("KVM emulated", origin)
@pytest.mark.parametrize("name", MACHINES)
def test_emulated_is_what_the_kernel_answered(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    result = kvm.emulated(host(name), release(name), MITIGATIONS_OFF)
    assert lines(result.table) == lines(host(name).emulated)
    fired(f"kvm/{name}", result.decisions)


@pytest.mark.conformance("KVM Hyper-V", origin)
@pytest.mark.parametrize("name", MACHINES)
def test_hyperv_is_what_the_kernel_answered(name: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    result = kvm.hyperv_supported(host(name), release(name), MITIGATIONS_OFF)
    assert lines(result.table) == lines(host(name).hyperv)
    fired(f"kvm/{name}", result.decisions)


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_replaying_the_decisions_over_the_cpu_gives_the_table(name: str) -> None:
    raw, result = host(name).raw, answer(name)
    replayed = replay(raw.words(), result.decisions)
    words = result.table.words()
    assert {word: value for word, value in replayed.items() if value} == {word: value for word, value in words.items() if value}


@pytest.mark.long
@pytest.mark.parametrize("name", MACHINES)
def test_every_decision_changes_bits_and_has_a_rule_of_that_kernel(name: str) -> None:
    words = dict(host(name).raw.words())
    for decision in answer(name).decisions:
        before = words.get(decision.word, 0)
        after = before & ~decision.mask | decision.value
        assert (before ^ after) == decision.mask, decision
        words[decision.word] = after
        assert in_force(decision, release(name)), decision


def in_force(decision: Decision, kernel: str) -> bool:
    def number(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    since, until = decision.rule.since, decision.rule.until
    return (since is None or number(since) <= number(kernel)) and (until is None or number(kernel) <= number(until))
