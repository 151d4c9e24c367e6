"""data/captured-rules.json says of a rule that a capture shows it: this run must say the same."""

from __future__ import annotations

from typing import Any

import pytest

from vcpuid.data import load
from vcpuid.reasons.registry import entered

TABLE = load("captured-rules")
REMEDY = "pytest --fired=build/fired.json; python tools/captured_rules.py build/fired.json"


@pytest.mark.after_captures
def test_no_rule_fired_that_the_table_does_not_have(fired: Any) -> None:
    assert not fired.by_rule.keys() - TABLE["rules"].keys(), REMEDY
    assert fired.answers <= TABLE["answers"], REMEDY


@pytest.mark.after_captures
def test_each_rule_of_the_table_fired_over_the_capture_that_it_names(fired: Any) -> None:
    if fired.answers < TABLE["answers"]:
        pytest.skip("of the captures only some were looked at in this run")
    assert fired.as_dict()["rules"] == TABLE["rules"], REMEDY


def test_its_rules_exist() -> None:
    from vcpuid.rulebook import all_rules

    assert all_rules()
    assert not TABLE["rules"].keys() - {rule.id for rule in entered()}
