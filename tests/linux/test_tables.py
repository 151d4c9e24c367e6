"""The tables of all releases, and that the code names nothing which they lack."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import vcpuid.linux
from vcpuid.errors import InputError
from vcpuid.linux.tables import tables
from vcpuid.releases import KERNELS, REBUILT, code_of, linux

SOURCES = sorted(Path(vcpuid.linux.__file__).parent.glob("*.py"))
METHODS = {"has": 0, "set": 0, "force": 0, "clear": 0, "drop": 0}


@pytest.mark.parametrize("release", KERNELS)
def test_no_two_flags_share_a_bit(release: str) -> None:
    table = tables(release)
    places = [*table.features.values(), *table.bugs.values()]
    assert len(set(places)) == len(places)
    assert all(mask and word < len(table.words) for word, mask in places)


@pytest.mark.parametrize("release", KERNELS)
def test_every_list_of_models_that_a_release_has_was_read(release: str) -> None:
    lists = tables(release).lists
    later = {
        "prefer_ymm": "6.16",
        "latest_microcode": "6.16",
        "erratum_1386_microcode": "6.8",
        "zen5_rdseed_microcode": "6.12",
        "tsa_microcode": "5.15",
    }
    before = {  # older ones are of later stable updates
        "invlpg_microcode": {"5.14-el9_1", "5.14-el9_2"},
        "tsa_microcode": {"6.8", "6.14", *REBUILT},
        "zen5_rdseed_microcode": {"6.14", "6.16", *REBUILT},
        "erratum_1386_microcode": {"5.14", "5.14-el9_5"},
    }
    for name, rows in lists.items():
        known = KERNELS.index(code_of(release)) >= KERNELS.index(later.get(name, KERNELS[0])) and release not in before.get(name, ())
        assert bool(rows) == known, name


def test_a_release_in_between_takes_the_older_tables() -> None:
    assert linux("6.14.2-arch1-1").tables == "6.14"
    assert linux("6.13.7-arch1-1").tables == "6.12"
    assert linux("5.4").tables == "5.10"
    assert linux("5.19").tables == "5.15"


def test_what_is_not_a_release_is_refused() -> None:
    with pytest.raises(InputError):
        linux("newest")


def test_dependents_name_the_feature_that_takes_them_along() -> None:
    pairs = dict(tables("6.12").dependents("XSAVE"))
    assert pairs["AVX"] == "XSAVE"
    assert pairs["AVX2"] == "AVX"
    assert pairs["AVX512F"] == "AVX"
    assert pairs["AVX512VBMI"] == "AVX512F"
    assert "XMM" not in pairs


def calls(tree: ast.Module) -> set[str]:
    """Collect the literal feature names that a module hands to a Cpu."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS and node.args:
            target, first = node.func.value, node.args[0]
            is_cpu = (isinstance(target, ast.Name) and target.id == "cpu") or (isinstance(target, ast.Attribute) and target.attr == "cpu")
            if is_cpu and isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
    return found


@pytest.mark.long
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_feature_named_in_the_code_exists_in_some_release(path: Path) -> None:
    known = {name for release in KERNELS for name in tables(release).features}
    assert calls(ast.parse(path.read_text(encoding="utf-8"))) <= known
