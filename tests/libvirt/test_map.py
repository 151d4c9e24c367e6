"""libvirt's CPU maps: that they are what the facts say, and how a model comes by its features."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from support.tools import load_tool
from vcpuid import data
from vcpuid.cpuid.words import Bit, CpuidWord
from vcpuid.libvirt.cpu_map import bits_of, cpu_map, signature_of, tsx_is_broken
from vcpuid.releases import LIBVIRTS

FACTS = Path(__file__).parents[2] / "oracle" / "facts" / "libvirt"


@pytest.mark.parametrize("release", LIBVIRTS)
def test_a_table_is_what_the_facts_say(release: str) -> None:
    facts = json.loads(gzip.decompress((FACTS / f"libvirt-{release}.0.json.gz").read_bytes()))
    assert load_tool("libvirt_tables").table(facts) == (data.FOLDER / f"libvirt-{release}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("release", LIBVIRTS)
def test_no_two_features_share_a_bit(release: str) -> None:
    known = cpu_map(release)
    assert len(set(known.bits)) == len(known.names)
    assert list(bits_of(known.mask("avx"), known)) == [Bit(CpuidWord(1, 0, "ecx"), 28)]


def test_a_derived_model_has_its_bases_features_without_the_removed_ones() -> None:
    known = cpu_map("11.3")
    base, derived = known.models["Icelake-Server"], known.models["Icelake-Server-v1"]
    assert base.removed
    assert derived.features == base.features & ~known.masks(base.removed)
    assert not derived.removed
    assert (derived.vendor, derived.signatures) == (base.vendor, base.signatures)


def test_a_model_that_adds_nothing_is_the_canonical_name_of_its_base() -> None:
    models = cpu_map("11.3").models
    assert (models["EPYC"].canonical, models["EPYC-v1"].canonical) == ("EPYC-v1", None)
    assert all(model.canonical is None for model in cpu_map("9.0").models.values())


def test_sets_are_named_in_the_maps_order_and_unknown_names_are_nothing() -> None:
    known = cpu_map("12.9")
    assert known.named(known.masks(("vme", "avx", "no-such", "pni"))) == ["pni", "avx", "vme"]
    assert known.mask("no-such") == 0


def test_a_signature_may_name_steppings() -> None:
    model = cpu_map("11.3").models["Cascadelake-Server"]
    assert [stepping for stepping in range(16) if model.fits((6, 85, stepping))] == [5, 6, 7]
    assert signature_of(0x00A20F12) == (25, 33, 2)
    assert tsx_is_broken("Intel", (6, 63, 3))
    assert not tsx_is_broken("Intel", (6, 63, 4))
    assert not tsx_is_broken("AMD", (6, 60, 3))
