"""The laws of decisions (reasons/ledger.py), for any sequence of rules on any words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vcpuid.cpuid import CpuidWord, LinuxWord, MsrWord, Word
from vcpuid.linux.rules import ALWAYS as RULE
from vcpuid.reasons import Action, Ledger, replay

WORDS: list[Word] = [CpuidWord(7, 0, "ebx"), CpuidWord(0xD, 1, "eax"), MsrWord(0x10A), LinuxWord("CPUID_LNX_1")]
values = st.integers(0, 2**32 - 1)
steps = st.lists(st.tuples(st.sampled_from(["clear", "keep", "set", "compute", "copy"]), st.sampled_from(WORDS), values), max_size=30)
befores = st.fixed_dictionaries(dict.fromkeys(WORDS, values))


def run(before: dict[Word, int], script: list[tuple[str, Word, int]]) -> tuple[dict[Word, int], Ledger]:
    ledger, words = Ledger(), dict(before)
    for method, word, value in script:
        words[word] = getattr(ledger, method)(word, words[word], value, RULE)
    return words, ledger


@given(befores, steps)
def test_replaying_the_decisions_gives_the_output(before: dict[Word, int], script: list[tuple[str, Word, int]]) -> None:
    after, ledger = run(before, script)
    assert replay(before, ledger.decisions) == after


@given(befores, steps)
def test_every_changed_bit_is_named_and_its_last_decision_holds_its_value(
    before: dict[Word, int], script: list[tuple[str, Word, int]]
) -> None:
    after, ledger = run(before, script)
    for word in WORDS:
        for mask in (1 << position for position in range(32)):
            about = [d for d in ledger.decisions if d.word == word and d.mask & mask]
            if (before[word] ^ after[word]) & mask:
                assert about
            if about:
                assert about[-1].value & mask == after[word] & mask


@given(befores, steps)
def test_a_decision_changes_every_bit_that_it_names(before: dict[Word, int], script: list[tuple[str, Word, int]]) -> None:
    _, ledger = run(before, script)
    words: dict[Word, int] = dict(before)
    for decision in ledger.decisions:
        assert decision.mask
        assert (words[decision.word] ^ decision.value) & decision.mask == decision.mask
        words = replay(words, [decision])


@given(values, values)
def test_each_method_does_what_its_name_says(before: int, mask: int) -> None:
    word = WORDS[0]
    assert Ledger().clear(word, before, mask, RULE) == before & ~mask
    assert Ledger().keep(word, before, mask, RULE) == before & mask
    assert Ledger().set(word, before, mask, RULE) == before | mask
    for method, action in (("clear", Action.CLEARED), ("set", Action.SET), ("compute", Action.COMPUTED), ("copy", Action.COPIED)):
        ledger = Ledger()
        getattr(ledger, method)(word, before, mask, RULE)
        assert {d.action for d in ledger.decisions} <= {action}
        assert all(not d.value & ~d.mask for d in ledger.decisions)
