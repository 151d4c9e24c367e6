"""A setting that nobody gave is taken to be the usual one, and the answer says so where another would change it."""

from __future__ import annotations

import gzip
import json

import pytest

import vcpuid
from support.captures import CAPTURES, capture, host
from support.command import vcpuid as run
from vcpuid import Setup, Snapshot, Stack
from vcpuid.answers.flags import flags_inside, told
from vcpuid.answers.survey import survey
from vcpuid.answers.verdict import verdict
from vcpuid.formats import parse
from vcpuid.qemu.models import assumes, models
from vcpuid.told.assumptions import Assumption, granted

NAME = "kvm-intel.corei7_skylake_x@6.12"


FIRMWARE = "VMX is on in the firmware"


def bare(name: str = NAME, **more: object) -> Snapshot:
    """A machine of which nothing but its CPUID and MSRs is told."""
    whole = host(name)
    return Snapshot(raw=whole.raw, msrs=whole.msrs, **more)  # type: ignore[arg-type]


def taken(explanation: vcpuid.Explanation) -> list[str]:
    return [assumption.taken for assumption in explanation.assumes]


def test_vmx_rests_on_nested_until_that_is_told() -> None:
    stack = Stack(kernel="6.12")
    assert taken(vcpuid.explain("vmx", host=bare(), stack=stack)) == ["kvm_intel.nested=1", FIRMWARE]
    assert taken(vcpuid.explain("vmx", host=bare(), stack=Stack(kernel="6.12", params={"nested": 1}))) == [FIRMWARE]
    assert taken(vcpuid.explain("vmx", host=bare(params={"kvm_intel.nested": "Y"}), stack=stack)) == [FIRMWARE]
    told_all = Stack(kernel="6.12", params={"nested": 1, "msr.3a": 0x60005})
    assert not taken(vcpuid.explain("vmx", host=bare(), stack=told_all))
    assert not taken(vcpuid.explain("avx2", host=bare(), stack=stack))


def test_what_the_host_s_own_kvm_answered_rests_on_nothing() -> None:
    assert not taken(vcpuid.explain("vmx", host=host(NAME)))


def test_a_kernel_that_nobody_named_is_an_assumption() -> None:
    raw = bare("kvm-intel.sapphire_rapids-dmr@7.3")
    assert "Linux 7.3" in taken(vcpuid.explain("amx_tile", host=raw)) or "Linux 7.3" in taken(vcpuid.explain("ibt", host=raw))
    assert not any(name.startswith("Linux") for name in taken(vcpuid.explain("ibt", host=raw, stack=Stack(kernel="7.3"))))


def test_tsx_rests_on_how_the_kernel_was_built() -> None:
    text = gzip.decompress((CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz").read_bytes()).decode()
    dump = parse(text, "cascade lake")[0]
    without = vcpuid.explain("rtm", "Cascadelake-Server", dump, Stack("6.12", "11.1", params={"msr.10a": 0xAB}))
    assert (without.visible, taken(without)) == (False, ["tsx=off"])
    assert vcpuid.explain("rtm", "Cascadelake-Server", dump, Stack("6.12", "11.1")).visible is None


def test_a_verdict_and_a_survey_name_theirs() -> None:
    setup = Setup.of(bare(), Stack(kernel="6.12"))
    assert [assumption.taken for assumption in verdict("kvm64,+vmx", setup).assumes] == ["kvm_intel.nested=1", FIRMWARE]
    found = survey(vcpuid.resolve("host", host=setup)).assumes()
    assert "vmx" in next(names for assumption, names in found.items() if assumption.taken == "kvm_intel.nested=1")


@pytest.mark.parametrize("cpu", ["Haswell-noTSX", "EPYC-Milan"])
def test_a_refusal_is_no_assumption(cpu: str) -> None:
    assert all(assumption.otherwise for assumption in verdict(cpu, Setup.of(bare())).assumes)


CASCADE_LAKE = str(capture("cascade-lake-without-msrs", "reports"))
TSX = "tsx=off, as Debian builds its kernels; with tsx=on on the host's command line it would be otherwise"
PINNED = ("--kernel", "6.12", "--qemu", "11.1", "--param", "msr.10a=0xab")


def cascade_lake(**params: int | str) -> Setup:
    return Setup.of(vcpuid.read(CASCADE_LAKE), Stack("6.12", "11.1", params={"msr.10a": 0xAB, **params}))


def test_the_flags_of_a_host_rest_on_how_its_kernel_was_built() -> None:
    found = told(cascade_lake()).assumes
    assert {assumption.taken: names for assumption, names in found.items()} == {
        "tsx=off": ("hle", "rtm"), FIRMWARE: ("vmx",), "fast strings are on in the firmware": ("rep_good", "erms")
    }  # fmt: skip
    assert not told(cascade_lake(**{"tsx_mode": "off", "msr.3a": 5, "msr.1a0": 1})).assumes
    assert not told(Setup.of(host(NAME))).assumes  # its own /proc/cpuinfo shows them


def test_the_flags_of_a_guest_rest_on_kvm_s_parameters_too() -> None:
    setup = cascade_lake()
    found, _ = flags_inside(vcpuid.resolve("host", host=setup), Stack("6.12"))
    by_setting = {assumption.taken: names for assumption, names in found.assumes.items()}
    assert by_setting["kvm_intel.nested=1"] == ("vmx",)
    assert by_setting["kvm_intel.ept=1"] == ("pku", "ospke")
    assert not {"ept", "vnmi"} & {name for names in by_setting.values() for name in names}  # these are not told


def test_what_is_not_told_rests_on_nothing() -> None:
    found = told(Setup.of(vcpuid.read(CASCADE_LAKE), Stack("6.12", params={"msr.3a": 5, "msr.1a0": 1})))
    assert "rtm" in {open_.what for open_ in found.not_told}
    assert not found.assumes


@pytest.mark.long
def test_models_that_run_by_a_setting_that_nobody_gave_are_named() -> None:
    setup = cascade_lake()
    found = assumes(models(setup), setup)
    by_setting = {assumption.taken: names for assumption, names in found.items()}
    assert {"Skylake-Server", "Cascadelake-Server"} <= set(by_setting["tsx=off"])
    assert "Haswell-noTSX" not in by_setting["tsx=off"]
    given = cascade_lake(tsx_mode="off")
    assert "tsx=off" not in {assumption.taken for assumption in assumes(models(given), given)}
    part = Setup.of(vcpuid.read(CASCADE_LAKE), Stack("6.12", "11.1"))
    listed = models(part)
    resting = {name for names in assumes(listed, part).values() for name in names}
    assert not resting & {model.name for model in listed if model.depends}


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        (("linux", "flags", CASCADE_LAKE), "hle rtm"),
        (("qemu", "models", CASCADE_LAKE, "--all"), "Broadwell Broadwell-IBRS"),
        (("worth", "--host", CASCADE_LAKE, "--glibc", "2.41"), "glibc 2.41 memchr"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_verbs_name_them_in_text_and_in_json(verb: tuple[str, ...], what: str) -> None:
    lines = run(*verb, *PINNED).stdout.splitlines()
    assert any(line.startswith(f"Taken for granted: {TSX}: {what}") for line in lines)
    (found,) = (taken for taken in json.loads(run(*verb, *PINNED, "--format", "json").stdout)["assumes"] if taken["taken"] == "tsx=off")
    assert " ".join(found["what"]).startswith(what)


@pytest.mark.long
def test_enlightenments_of_passthrough_rest_on_nested() -> None:
    verb = ("hyperv", "--cpu", "host,hv-passthrough", "--host", CASCADE_LAKE, "--kernel", "7.3", "--qemu", "11.1")
    (line,) = (line for line in run(*verb).stdout.splitlines() if "kvm_intel.nested=1" in line)
    assert line.endswith("with nested=0 it would be otherwise: hv-evmcs")
    assert [found["what"] for found in json.loads(run(*verb, "--format", "json").stdout)["assumes"]] == [["hv-evmcs"], ["hv-evmcs"]]
    told_all = ("--param", "nested=1", "--param", "msr.3a=5")
    assert not json.loads(run(*verb, *told_all, "--format", "json").stdout)["assumes"]


def test_many_names_are_not_all_in_the_sentence() -> None:
    names = [f"name{number}" for number in range(20)]
    (line,) = granted({Assumption("a=1", "the default", "a=0"): names})
    assert line.endswith("name11 and 8 more")


def test_alternatives_that_decide_of_the_same_share_a_line() -> None:
    newest = {release: Assumption("Linux 7.3", "the newest", f"Linux {release}") for release in ("6.1", "6.6", "6.12", "6.14")}
    names = {"6.1": ["a"], "6.6": ["a"], "6.12": ["a", "b"], "6.14": ["a"]}
    other = Assumption("x=1", "the default", "x=0")
    assert granted({**{newest[release]: found for release, found in names.items()}, other: ["a"]}) == [
        "Taken for granted: Linux 7.3, the newest; with Linux 6.1, 6.6 or 6.14 it would be otherwise: a",
        "Taken for granted: Linux 7.3, the newest; with Linux 6.12 it would be otherwise: a b",
        "Taken for granted: x=1, the default; with x=0 it would be otherwise: a",
    ]
    values = [other._replace(otherwise=text) for text in ("x=0", "x=2")]
    assert granted({one: ["a"] for one in values}) == ["Taken for granted: x=1, the default; with x=0 or x=2 it would be otherwise: a"]
