"""What a leaf that is not told could hold: every leaf with a named feature is within reach of a made-up host."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.captures import host
from vcpuid import Setup
from vcpuid.answers.explain import explain
from vcpuid.answers.survey import cpuid_features
from vcpuid.cpuid import CpuidTable, CpuidWord, Snapshot
from vcpuid.cpuid.names import find
from vcpuid.path.pipeline import resolve
from vcpuid.told.completions import missing_leaves
from vcpuid.told.facts import WholeLeaf

DIAMOND_RAPIDS = "kvm-intel.sapphire_rapids-dmr@7.3"


def first_leaves(name: str) -> Snapshot:
    whole = host(name)
    return Snapshot(raw=CpuidTable(entry for entry in whole.raw if entry.function in (0, 1)), kernel=whole.kernel)


def test_every_sub_leaf_of_a_feature_could_be_there() -> None:
    bare = first_leaves(DIAMOND_RAPIDS)
    missing = {fact.place for fact in missing_leaves(bare)}
    last = bare.raw.registers(0).eax
    words = (feature.place.word for feature in cpuid_features())
    named = {WholeLeaf(word.function, word.index) for word in words if isinstance(word, CpuidWord) and 1 < word.function <= last}
    assert named - missing == set()


@pytest.mark.parametrize("feature", ["avx10-vnni-int", "avx10-512", "amx-fp8", "movrs"])
def test_what_only_a_late_sub_leaf_tells_is_not_told_of_the_first_leaves(feature: str) -> None:
    bare = replace(first_leaves(DIAMOND_RAPIDS), msrs=host(DIAMOND_RAPIDS).msrs)
    assert explain(find(feature), resolve("host", host=Setup.of(bare))).visible is None
