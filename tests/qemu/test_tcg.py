"""CPUs without KVM: what QEMU itself tells of them, in oracle/facts/tcg, and data/qemu-tcg.json, which is made of it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from support.tools import load_tool
from vcpuid import data
from vcpuid.qemu import tcg
from vcpuid.qemu.catalog import catalog
from vcpuid.qemu.models import names_of
from vcpuid.reasons import Decision, Ledger

ASKED = ("7.2", "10.0", "11.1")
"""Releases whose programs were asked."""

FACTS = Path(__file__).parents[2] / "oracle" / "facts" / "tcg"


@cache
def facts(release: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress((FACTS / f"qmp-{release}-tcg.json.gz").read_bytes()))
    return found


@pytest.mark.parametrize("release", ASKED)
def test_the_table_is_what_the_facts_say(release: str) -> None:
    assert data.load("qemu-tcg")[release] == load_tool("qemu_tcg").row(release, facts(release))


@pytest.mark.parametrize("release", ASKED)
def test_what_each_model_lacks(release: str) -> None:
    tables = catalog(release)
    for model in facts(release)["definitions"]:
        if model["name"] != "host":  # TCG has none
            made, _ = tcg.realized(release, "q35", model["name"])
            assert list(names_of(tables, made.filtered)) == model["unavailable-features"], model["name"]


@pytest.mark.parametrize("release", ASKED)
def test_what_each_model_has(release: str, fired: Callable[[str, Iterable[Decision]], None]) -> None:
    tables, noted = catalog(release), list[Decision]()
    for model, props in facts(release)["expansions"].items():
        if model == "host":
            continue
        ledger = Ledger()
        made = tcg.draft(release, "q35", model, ledger)
        for name, (word, mask) in tables.flags.items():
            if name in props:
                assert bool(made.features[word] & mask == mask) is props[name], (model, name)
        noted += (decision for decision in ledger.decisions if decision.rule is tcg.TCG_DEFAULT_OFF)
    fired(f"qmp-{release}-tcg", noted)


def test_tcg_says_itself_what_it_lacks() -> None:
    _, warnings = tcg.realized("11.1", "q35", "Haswell")
    assert warnings[0] == "TCG doesn't support requested feature: CPUID[eax=01h].ECX.pcid [bit 17]"


@pytest.mark.parametrize(("text", "value"), [("~0U", 0xFFFFFFFF), ("~0ULL", 0xFFFFFFFFFFFFFFFF), ("~0U & ~1U", 0xFFFFFFFE)])
def test_a_complement_is_as_wide_as_its_number(text: str, value: int) -> None:
    """All that TCG gives of IA32_ARCH_CAPABILITIES is ~0U: nothing from bit 32 on."""
    assert load_tool("csource").Source([]).evaluate(text) == value
