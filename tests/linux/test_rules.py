"""The rules of the linux party: one identity each, releases that exist, and a cause where the sentence wants one."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import vcpuid.linux
from vcpuid.linux import bugs
from vcpuid.reasons import Rule
from vcpuid.releases import KERNELS


def rules() -> Iterator[Rule]:
    seen = set()
    for module in pkgutil.iter_modules(vcpuid.linux.__path__):
        for value in vars(importlib.import_module(f"vcpuid.linux.{module.name}")).values():
            found = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else [value]
            for rule in found:
                if isinstance(rule, bugs.Bug):
                    rule = rule.rule
                if isinstance(rule, Rule) and id(rule) not in seen:
                    seen.add(id(rule))
                    yield rule


def test_there_are_rules_and_each_has_an_identity_of_its_own() -> None:
    identities = [rule.id for rule in rules()]
    assert len(identities) > 150
    assert len(identities) == len(set(identities))
    assert all(identity.startswith("linux.") for identity in identities)


def test_releases_are_such_as_have_tables() -> None:
    for rule in rules():
        assert {rule.since, rule.until} <= {None, *KERNELS}, rule.id


def test_reasons_are_parts_of_sentences_and_sources_name_a_file() -> None:
    for rule in rules():
        assert not rule.reason.endswith("."), rule.id
        assert ".c" in rule.source, rule.id
