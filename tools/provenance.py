"""Write data/provenance.json: which release and which commit of Linux or QEMU brought a rule.

    python tools/provenance.py

It reads tools/provenance.csv, whose rows are facts that were looked up: the rule's id, the first and the last release of the program
itself (not of a stable series that took the change over), the commit and its subject, and the evidence. What nobody knows is left empty.
A row that the rule's own tables contradict is refused.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from vcpuid.errors import InputError
from vcpuid.reasons import Rule
from vcpuid.reasons.history import RELEASES, Provenance, party_of
from vcpuid.reasons.registry import entered
from vcpuid.releases import number
from vcpuid.rulebook import all_rules

HERE = Path(__file__).parent
TABLE = HERE.parent / "src" / "vcpuid" / "data" / "provenance.json"
COLUMNS = ("rule_id", "since", "until", "commit", "subject", "evidence")


def rows() -> Iterator[tuple[str, Provenance]]:
    """Read the rows that say anything. Raises InputError for another head and for a rule that has two."""
    source = HERE / "provenance.csv"
    with source.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines)
        if tuple(next(reader)) != COLUMNS:
            raise InputError(f"the columns are not {', '.join(COLUMNS)}", source=str(source), line=1)
        seen: set[str] = set()
        for rule, *told in reader:
            if rule in seen:
                raise InputError(f"{rule} has a row already", source=str(source), line=reader.line_num)
            seen.add(rule)
            if any(told):
                yield rule, Provenance(*(text or None for text in told))


def faults(rule: Rule, told: Provenance) -> Iterator[str]:
    """Say what of a row the rule's tables contradict: those that lack the rule are older than it, or have lost it.

    Tables that have it may be older as well: they are of stable releases, which take changes over.
    """
    tables = RELEASES[party_of(rule.id)]
    first = tables.index(rule.since) if rule.since else 0
    last = tables.index(rule.until) if rule.until else len(tables) - 1
    if told.since and number(told.since) > number(tables[-1]):
        yield f"{tables[-1]} is older than {told.since}, and no newer tables could have it"
    if told.since and first and number(told.since) <= number(tables[first - 1]):
        yield f"{tables[first - 1]}'s tables lack it, which is not older than {told.since}"
    if told.until and number(told.until) < number(tables[last]):
        yield f"{tables[last]}'s tables have it, which is newer than {told.until}"


def table(found: Iterable[tuple[str, Provenance]], rules: Mapping[str, Rule]) -> str:
    """Lay the table out. Raises InputError for a row without its rule, or one that the rule's tables contradict."""
    laid: dict[str, Provenance] = {}
    for identity, told in found:
        if identity not in rules:
            raise InputError(f"there is no rule {identity}")
        for fault in faults(rules[identity], told):
            raise InputError(f"{identity}: {fault}")
        laid[identity] = told
    source = "tools/provenance.csv, written by tools/provenance.py"
    lines = ",\n".join(f"  {json.dumps(identity)}: {json.dumps(told, ensure_ascii=False)}" for identity, told in sorted(laid.items()))
    return f'{{\n "source": {json.dumps(source)},\n "rules": {{\n{lines}\n }}\n}}\n'


def by_id() -> dict[str, Rule]:
    """Give every rule of a party by its id."""
    all_rules()
    return {rule.id: rule for rule in entered() if isinstance(rule, Rule)}


if __name__ == "__main__":
    try:
        TABLE.write_text(table(rows(), by_id()), encoding="utf-8")
    except InputError as error:
        sys.exit(str(error))
