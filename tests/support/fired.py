"""Which rules decided a bit that a capture shows, noted test by test, and whether data/captured-rules.json says the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

REMEDY = "pytest --fired=build/fired.json; python tools/captured_rules.py build/fired.json"


class Fired:
    """Rules that decided a bit which a committed capture shows: `by_rule` names the captures of each, `answers` counts what was noted."""

    def __init__(self) -> None:
        self.by_rule: dict[str, set[str]] = defaultdict(set)
        self.answers = 0

    def note(self, capture: str, rules: Iterable[str]) -> None:
        """Note the rules behind one answer of a capture."""
        self.answers += 1
        for rule in rules:
            self.by_rule[rule].add(capture)

    def as_dict(self) -> dict[str, Any]:
        """For --fired: what tools/captured_rules.py reads. Of each rule's captures the one with the shortest name stands for all."""
        return {
            "answers": self.answers,
            "rules": {rule: min(of, key=lambda name: (len(name), name)) for rule, of in sorted(self.by_rule.items())},
        }

    def misfits(self, table: dict[str, Any]) -> Iterator[str]:
        """Say where data/captured-rules.json differs from this run. What a run lacks that looked at some captures only is no matter."""
        found = self.as_dict()
        for rule in sorted(found["rules"].keys() - table["rules"].keys()):
            yield f"{rule} decided a bit of {found['rules'][rule]}, and the table does not have it"
        if self.answers > table["answers"]:
            yield f"{self.answers} answers of captures were looked at, and the table knows of {table['answers']}"
        if self.answers >= table["answers"]:
            for rule, capture in table["rules"].items():
                if found["rules"].get(rule) != capture:
                    yield f"{rule} stands in the table with {capture}, and in this run with {found['rules'].get(rule, 'no capture')}"
