"""data/provenance.json: facts that were looked up, a row a rule; what the rules' own tables contradict is refused."""

from __future__ import annotations

import pytest

from support.tools import load_tool
from vcpuid.data import load
from vcpuid.errors import InputError
from vcpuid.linux.rules import ALWAYS, SYSFAST
from vcpuid.reasons import Rule
from vcpuid.reasons.history import NOTHING, History, Provenance, history
from vcpuid.releases import UPSTREAM

PROVENANCE = load_tool("provenance")


def test_the_table_is_what_the_rows_say() -> None:
    assert PROVENANCE.table(PROVENANCE.rows(), PROVENANCE.by_id()) == PROVENANCE.TABLE.read_text(encoding="utf-8"), (
        "run tools/provenance.py"
    )


def test_most_rules_have_a_release_and_many_a_commit() -> None:
    rows = [Provenance(*row) for row in load("provenance")["rules"].values()]
    assert sum(row.since is not None for row in rows) > 150
    assert sum(row.commit is not None for row in rows) > 100
    assert all(row.evidence for row in rows)
    assert all(row.commit for row in rows if row.subject)  # a subject of which only the beginning was seen is left out


@pytest.mark.parametrize(
    ("rule", "told", "fault"),
    [
        (ALWAYS, Provenance(since="9.0"), "7.3 is older than 9.0, and no newer tables could have it"),
        (SYSFAST, Provenance(since="6.18"), "6.19's tables lack it, which is not older than 6.18"),
        (ALWAYS, Provenance(until="6.19"), "7.3's tables have it, which is newer than 6.19"),
    ],
)
def test_what_the_tables_contradict_is_refused(rule: Rule, told: Provenance, fault: str) -> None:
    assert list(PROVENANCE.faults(rule, told)) == [fault]
    with pytest.raises(InputError, match=r"older|lack|newer"):
        PROVENANCE.table([(rule.id, told)], {rule.id: rule})


def test_a_row_needs_its_rule() -> None:
    with pytest.raises(InputError, match=r"there is no rule linux\.none"):
        PROVENANCE.table([("linux.none", Provenance(since="6.1"))], {})


def words(told: Provenance, first: str | None = None, last: str | None = None) -> list[str]:
    return list(History(UPSTREAM, first, last, told, None, True).words())


def test_words_claim_no_more_than_is_known() -> None:
    assert words(Provenance()) == []
    assert words(Provenance(), "6.18", "7.1") == ["in 6.18's tables, not in 6.17's", "in 7.1's tables, not in 7.2's"]
    assert words(Provenance(commit="abc", subject="x86: Y"), "6.18") == ['commit abc, "x86: Y"', "in 6.18's tables, not in 6.17's"]
    assert words(Provenance("6.13", "7.2", "abc", "x86: Y"), "6.18", "7.1") == ['since 6.13 (commit abc, "x86: Y")', "until 7.2"]
    assert words(Provenance("6.9")) == ["since 6.9", "taken over into the stable series of 5.10"]
    assert words(Provenance("5.4")) == ["since 5.4"]
    assert list(NOTHING.words()) == []
    assert history(SYSFAST).as_dict() | {"known": None} == {
        "since": "7.0",
        "until": None,
        "commit": "f49ecf5e110a",
        "subject": "x86/cpufeature: Replace X86_FEATURE_SYSENTER32 with X86_FEATURE_SYSFAST32",
        "first_tables": "7.0",
        "last_tables": None,
        "known": None,
    }
