from __future__ import annotations

import pytest

from vcpuid.cpuid import CpuidTable, CpuidWord, Entry, Registers
from vcpuid.errors import InputError
from vcpuid.probe import INSTRUCTIONS, instructions_of, override
from vcpuid.probe.advertised import advertises, places, shows

ALL_ONES = Registers(*[0xFFFFFFFF] * 4)


def one(feature: str) -> tuple:  # type: ignore[type-arg]
    return instructions_of([feature])


def test_the_leaves_that_are_asked() -> None:
    wanted = places(INSTRUCTIONS)
    assert {(0, 0), (1, 0), (7, 0), (7, 1), (0xD, 1), (0x80000000, 0), (0x80000001, 0), (0x80000008, 0)} <= set(wanted)
    assert wanted == sorted(set(wanted))


@pytest.mark.parametrize(
    ("feature", "limits", "advertised"),
    [
        ("avx2", {(0, 0): 7}, True),
        ("avx2", {(0, 0): 6}, False),
        ("avx_vnni", {(0, 0): 7, (7, 0): 1}, True),
        ("avx_vnni", {(0, 0): 7, (7, 0): 0}, False),
        ("sse4a", {(0, 0): 7, (0x80000000, 0): 0x80000001}, True),
        ("clzero", {(0, 0): 7, (0x80000000, 0): 0x80000007}, False),
    ],
)
def test_a_leaf_counts_up_to_the_limit(feature: str, limits: dict[tuple[int, int], int], advertised: bool) -> None:
    seen = dict.fromkeys(places(INSTRUCTIONS), ALL_ONES)
    for place, limit in limits.items():
        seen[place] = ALL_ONES._replace(eax=limit)
    assert advertises(seen, one(feature)[0]) == advertised


def test_forcing_and_hiding_change_the_bit_and_no_other() -> None:
    table = CpuidTable([Entry(0, 0, 0, 0xD, 1, 2, 3), Entry(1, 0, 0, 1, 2, 3, 4), Entry(7, 0, 1, 0, 0x20, 0, 0)])
    forced = override(table, force=["rtm"])
    assert forced.word(CpuidWord(7, 0, "ebx")) == 0x820
    assert forced[:2] == table[:2]
    assert override(forced, hide=["rtm"]) == table
    assert shows(forced, one("rtm")[0])
    assert not shows(table, one("rtm")[0])


def test_what_is_forced_is_not_hidden() -> None:
    table = CpuidTable([Entry(0, 0, 0, 7, 0, 0, 0), Entry(7, 0, 1, 0, 0xFFFFFFFF, 0, 0)])
    changed = override(table, force=["avx2"], hide=["all"])
    assert changed.word(CpuidWord(7, 0, "ebx")) & 0x820 == 0x20


def test_a_missing_leaf_is_added_within_the_limits() -> None:
    table = CpuidTable([Entry(0, 0, 0, 1, 0, 0, 0), Entry(0x80000000, 0, 0, 0x80000001, 0, 0, 0)])
    changed = override(table, force=["avx_vnni", "avx2", "clzero"])
    seen = {place: changed.registers(*place) for place in places(INSTRUCTIONS)}
    assert all(advertises(seen, one(feature)[0]) for feature in ("avx_vnni", "avx2", "clzero"))
    assert override(table, hide=["all"]) == table


def test_everything_forced_is_everything_shown() -> None:
    changed = override(CpuidTable([Entry(0, 0, 0, 1, 0, 0, 0), Entry(0x80000000, 0, 0, 0, 0, 0, 0)]), force=["all"])
    seen = {place: changed.registers(*place) for place in places(INSTRUCTIONS)}
    assert all(advertises(seen, instruction) for instruction in INSTRUCTIONS)


def test_only_bits_of_cpuid_can_be_shown() -> None:
    for name in ("rdctl-no", "split_lock_detect"):
        with pytest.raises(InputError, match="no bit of CPUID"):
            override(CpuidTable(), force=[name])
