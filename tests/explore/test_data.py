"""What the page shows is what the answers say: every bit of its document is held against `explain`."""

from __future__ import annotations

import json
from functools import cache
from itertools import pairwise
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.captures import CAPTURES, capture
from support.packed import unpack
from vcpuid import Stack, hazards, qemu, read
from vcpuid.answers.certainty import followed
from vcpuid.answers.explain import explain
from vcpuid.answers.order import order
from vcpuid.answers.ordered import explained, judged
from vcpuid.answers.survey import cpuid_features, survey
from vcpuid.cpuid import Bit, LinuxWord, MsrWord
from vcpuid.cpuid.names import Feature, all_features, find, find_all, parse_place
from vcpuid.explore import data
from vcpuid.explore.pack import pack
from vcpuid.explore.subject import Subject
from vcpuid.kvm.answers import kvm_says
from vcpuid.path.pipeline import Path, guest_view
from vcpuid.qemu import KvmHost
from vcpuid.releases import libvirt
from vcpuid.setup import Setup
from vcpuid.vmm.firecracker import FIRECRACKER

CASES: dict[str, tuple[File, str, Stack]] = {
    "intel": (capture("kvm-intel.corei7_skylake_x@6.12"), "Skylake-Server-v4", Stack(qemu="11.1")),
    "amd": (capture("kvm-amd.EPYC-Milan-v2@7.3"), "Haswell-v4", Stack(qemu="10.0")),
    "another kernel": (capture("kvm-amd.EPYC-Milan-v2@7.3"), "EPYC", Stack(kernel="5.10", qemu="5.2", machine="pc", smp="4")),
    "without msrs": (CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz", "Cascadelake-Server", Stack(qemu="11.1")),
    "names alone": (CAPTURES / "reports" / "lscpu.txt.gz", "host", Stack(qemu="10.0")),
}
DOMAIN = File(__file__).parents[1] / "golden" / "host-model.xml"
every_case = pytest.mark.parametrize("name", CASES)


@cache
def subject(name: str) -> Subject:
    file, cpu, stack = CASES[name]
    return Subject(file.name, followed(cpu, host=read(file), stack=stack))


@cache
def ordered() -> Subject:
    """A domain's path."""
    setup = Setup.of(read(capture("kvm-intel.corei7_ivy_bridge_3770k@6.1")), Stack(qemu="11.1"))
    found = order({"do": "start", "domain": DOMAIN.read_text(encoding="utf-8")}, setup, libvirt("11.3"), KvmHost(xcr0=kvm_says(setup).xcr0))
    path = followed(found.argument, host=found.on(setup))
    return Subject("ivy", path, judged(found, path))


@cache
def shown(name: str) -> dict[str, Any]:
    """What the page has of a path, after it was packed and unpacked."""
    told: dict[str, Any] = unpack(json.loads(json.dumps(pack(data.first(subject(name))))))["path"]
    return told


def plain(value: object) -> Any:
    return json.loads(json.dumps(value))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=60,
)


@pytest.mark.long
@given(JSON)
@example({"a": 0.0, "b": -0.0})
def test_what_is_packed_is_what_is_unpacked(document: Any) -> None:
    again = unpack(json.loads(json.dumps(pack(document))))
    assert json.dumps(again) == json.dumps(document)  # which tells 1, 1.0 and true apart, and the order of keys


def test_what_stands_twice_is_packed_once() -> None:
    packed = pack([{"a": "text"}, {"a": "text"}])
    assert packed["values"].count("text") == 1
    assert len(packed["values"]) == 3


@pytest.mark.long
@every_case
def test_every_feature_is_what_explain_says(name: str) -> None:
    path = subject(name).path
    own = path.as_dict().keys() | {"schema", "bit", "vulnerabilities"}
    told = {feature["id"]: feature for feature in shown(name)["features"]}
    kernel = path.setup.kernel.tables
    wanted = [feature for feature in all_features() if feature.bit is not None or feature.in_linux(kernel) is not None]
    assert len(wanted) > 700
    for feature in wanted:
        answer = {key: value for key, value in plain(explain(feature, path).as_dict()).items() if key not in own}
        assert {key: value for key, value in told[data.identity(feature)].items() if key in answer} == answer


@every_case
def test_every_feature_of_the_page_can_be_asked_for_by_its_id(name: str) -> None:
    for feature in shown(name)["features"]:
        name_, at, _ = feature["id"].partition("@")
        found = find(name_)
        if at:
            assert found.bit is not None  # which the symbol means by now
            continue
        assert found.name == feature["feature"]
        assert found.bit is None or str(found.bit) == f"{feature['word']} [bit {feature['position']}]"


@every_case
def test_bits_without_a_name_are_what_explain_says_of_them(name: str) -> None:
    path, told = subject(name).path, shown(name)
    explained_ = {(feature["word"], feature["position"]): feature for feature in told["features"]}
    tried = 0
    for word in told["words"]:
        place = parse_place(f"{word['word']} [bit 0]")
        if place is None or isinstance(place.word, LinuxWord):
            assert not any(int(row["open"], 16) or int(row["value"] or "0", 16) for row in word["unnamed"])
            continue
        for position in range(word["width"]):
            stages = [
                "not told" if int(row["open"], 16) >> position & 1 else row["value"] and bool(int(row["value"], 16) >> position & 1)
                for row in word["unnamed"]
            ]
            if (known := explained_.get((word["word"], position))) and not any(stage is True for stage in stages):
                assert not any(stage == "not told" for stage in stages)
                continue  # it has a name
            answer = explain(Feature(Bit(place.word, position)), path)
            assert stages == ["not told" if stage.depends else stage.value for stage in answer.stages]
            assert (known is not None) == (True in stages)
            tried += 1
    assert tried > 500


@every_case
def test_what_is_not_told_is_neither_yes_nor_no_nor_changed(name: str) -> None:
    open_ = [feature for feature in shown(name)["features"] if feature["depends"]]
    assert all(feature["visible"] is None and feature["change"] == "not told" and feature["by"] is None for feature in open_)
    assert bool(open_) == (name in ("without msrs", "names alone"))


@every_case
def test_a_change_is_between_what_two_parties_hand_on_and_the_last_of_them_made_it(name: str) -> None:
    turned_on = {feature.name for feature in survey(subject(name).path).set_by_guest}
    for feature in shown(name)["features"]:
        values = [(stage["party"], stage["value"]) for stage in feature["stages"] if stage["value"] is not None]
        turns = [(party, after) for (_, before), (party, after) in pairwise(values) if before != after]
        if feature["visible"] is None or not turns or feature["feature"] in turned_on:
            assert feature["by"] is None
            continue
        by, last = turns[-1]
        assert feature["by"] == by
        assert feature["change"] == ("lost" if not last else "put back" if values[0][1] else "gained")


@every_case
def test_the_page_has_lost_and_gained_what_the_survey_has(name: str) -> None:
    path = subject(name).path
    found = survey(path)
    told = {feature["id"]: feature for feature in shown(name)["features"]}
    for change, by_party in (("lost", found.lost), ("gained", found.gained)):
        names = {data.identity(answer.feature) for several in by_party.values() for answer in several}
        assert all(told[identity]["change"] == change for identity in names)
        of_silicon = change == "lost"
        counted = (data.identity(feature) for feature in cpuid_features())
        assert names == {
            identity for identity in counted
            if told[identity]["change"] == change and told[identity]["stages"][0]["value"] is of_silicon
        }  # fmt: skip


@pytest.mark.long
def test_the_parties_above_the_vmm_stand_where_explain_has_them() -> None:
    asked = ordered()
    told = plain(data.first(asked))["path"]
    assert [party["party"] for party in told["parties"]][3:6] == ["domain", "libvirt", "qemu"]
    assert told["libvirt"]
    of_avx = next(feature for feature in told["features"] if feature["feature"] == "avx")
    answer = plain(explained(find("avx"), asked.path, asked.order).fate())
    assert of_avx["stages"] == answer["stages"]
    assert of_avx["libvirt"] == answer["libvirt"] != None  # noqa: E711


@pytest.mark.long
def test_another_vmm_has_no_models() -> None:
    path = followed("T2", host=read(CASES["intel"][0]), vmm=FIRECRACKER)
    told = data.whole(Subject("skylake", path))
    assert told["models"] is None
    assert "runs" not in told["hazards"]  # type: ignore[operator]
    assert plain(told)["path"]["parties"][3]["party"] == "firecracker"


@pytest.mark.long
def test_the_other_parts_are_what_their_verbs_answer() -> None:
    asked = subject("intel")
    path: Path = asked.path
    told: Any = plain(data.whole(asked))
    assert [row["rule"] for row in told["hazards"]["hazards"]] == [found.rule.id for found in hazards.of_path(path)]
    assert told["hazards"]["runs"] is False
    assert {row["model"]: row["runs"] for row in told["models"]["models"]} == {
        model.name: model.usable for model in qemu.models(path.setup, xcr0=kvm_says(path.setup).xcr0)
    }
    leaves = told["leaves"]["guest"]["leaves"]
    assert {(int(leaf["function"], 16), int(leaf["index"], 16)) for leaf in leaves} == set(guest_view(path).by_key())
    assert any("core, package" in line for line in told["leaves"]["guest"]["foot"])
    assert told["leaves"]["host"]["what"] == "the CPUID instruction's answers"


def test_a_spelling_means_on_the_page_what_it_means_to_every_verb() -> None:
    told: Any = data.names()
    by_key: dict[str, list[str]] = {}
    for card in told["features"]:
        for key in dict.fromkeys(text.lower().replace("_", "-") for text in card["spellings"]):
            by_key.setdefault(key, []).append(card["id"])
        assert data.identity(find(card["ask"])) == card["id"] or "@" in card["id"]
    assert len(by_key) > 1500
    for key, ids in by_key.items():
        assert told["shared"].get(key, ids) == [data.identity(feature) for feature in find_all(key)], key
    assert told["shared"]["avx512"][0] == data.identity(find("avx512f"))


def test_words_are_called_as_logs_and_sources_call_them() -> None:
    words = {word["word"]: word for word in shown("intel")["words"]}
    assert {"7.0.ebx", "CPUID.07H:EBX", "CPUID_7_0_EBX", "FEAT_7_0_EBX"} <= set(words["CPUID[eax=07h,ecx=00h].EBX"]["spellings"])
    assert "IA32_ARCH_CAPABILITIES" in words[str(MsrWord(0x10A))]["spellings"]
