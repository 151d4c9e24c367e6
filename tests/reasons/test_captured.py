"""data/captured-rules.json says of a rule that a capture shows it: a run that finds otherwise has failed (tests/conftest.py)."""

from __future__ import annotations

import pytest

from support.fired import Fired
from vcpuid.data import load
from vcpuid.reasons.registry import entered

TABLE = {"answers": 2, "rules": {"a": "kvm/one", "b": "kvm/three"}}


def fired(*notes: tuple[str, str]) -> Fired:
    found = Fired()
    for capture, rules in notes:
        found.note(capture, rules)
    return found


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        ((("kvm/one", "a"), ("kvm/three", "ab")), []),
        ((("kvm/three", "b"),), []),
        ((), []),
        ((("kvm/one", "c"),), ["c decided a bit of kvm/one, and the table does not have it"]),
        ((("kvm/one", "a"), ("kvm/one", "")), ["b stands in the table with kvm/three, and in this run with no capture"]),
        ((("kvm/three", "ab"), ("kvm/two", "")), ["a stands in the table with kvm/one, and in this run with kvm/three"]),
        ((("kvm/one", "a"), ("kvm/three", "b"), ("new", "")), ["3 answers of captures were looked at, and the table knows of 2"]),
    ],
)
def test_a_table_that_this_run_contradicts_is_told(notes: tuple[tuple[str, str], ...], says: list[str]) -> None:
    assert list(fired(*notes).misfits(TABLE)) == says


def test_of_several_captures_the_shortest_name_stands_for_all() -> None:
    assert fired(("kvm/three", "a"), ("kvm/two", "a"), ("kvm/one", "a")).as_dict() == {"answers": 3, "rules": {"a": "kvm/one"}}


def test_its_rules_exist() -> None:
    from vcpuid.rulebook import all_rules

    assert all_rules()
    assert not load("captured-rules")["rules"].keys() - {rule.id for rule in entered()}
