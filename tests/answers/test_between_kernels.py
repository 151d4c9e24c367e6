"""Between two kernels with tables, what KVM may have begun to offer is not known: no verb says no of it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from support.captures import MITIGATIONS_OFF, host
from support.command import vcpuid
from vcpuid import Setup, Stack
from vcpuid.answers.drift import Side, drift
from vcpuid.answers.explain import explain
from vcpuid.answers.survey import cpuid_features, survey
from vcpuid.cpuid.names import find
from vcpuid.path.pipeline import resolve
from vcpuid.releases import linux

DMR = "kvm-intel.sapphire_rapids-dmr@7.3"


FILE = f"tests/captures/kvm/{DMR}.txt.gz"
BETWEEN = ("--kernel", "6.13", "--qemu", "11.1")
UNKNOWN = "what changed between Linux 6.12 and 6.14 (not known here of 6.13)"


def answer(*arguments: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(vcpuid(*arguments, *BETWEEN, "--format", "json").stdout)
    return told


def path(kernel: str, name: str = DMR):  # type: ignore[no-untyped-def]
    return resolve("host", host=Setup.of(host(name), Stack(kernel=kernel, qemu="11.1", params=MITIGATIONS_OFF)))


@pytest.mark.parametrize(
    ("feature", "kernel", "visible"),
    [
        ("sm4", "6.13", None),  # 6.12 lacks it, 6.14 has it
        ("sm4", "6.12", False),
        ("sm4", "6.14", True),
        ("movrs", "6.13", False),  # neither has it
        ("avx10", "6.13", True),  # both have it
    ],
)
def test_what_the_next_kernel_with_tables_offers_is_not_known_of_one_before_it(feature: str, kernel: str, visible: bool | None) -> None:
    told = explain(find(feature), path(kernel))
    assert told.visible is visible
    if visible is None:
        assert f"it depends on {UNKNOWN}." in told.verdict
        assert told.remedy == "give --kernel 6.12 or 6.14, which have tables"
        assert [stage.value for stage in told.stages[2:]] == [None] * 4
        assert [fact.of_kernel for fact in told.depends] == [True]


def test_it_is_neither_lost_nor_drifted() -> None:
    found = survey(path("6.13"))
    assert {"sm3", "sm4"} <= {open_.feature.name for open_ in found.not_told}
    assert not {"sm3", "sm4"} & {lost.feature.name for by in found.lost.values() for lost in by}
    changes = {change.feature.name: change for change in drift(Side(path("6.12")), Side(path("6.13"))).changes}
    assert (changes["sm4"].before, changes["sm4"].after) == (False, None)


@pytest.mark.parametrize("by", ["feature", "register"])
def test_diff_and_guest_say_so_too(by: str) -> None:
    rows = answer("diff", FILE, "--cpu", "host", "--by", by)["differences"]
    (row,) = [row for row in rows if row["what"] == ("sm4" if by == "feature" else "7.1.eax")]
    assert row["guest"] is None
    assert row["why"] == f"depends on {UNKNOWN}"
    told = vcpuid("guest", "--cpu", "host", "--host", FILE, *BETWEEN, "--all").stdout
    assert f"depends on {UNKNOWN}" in " ".join(told.split())


def test_check_says_neither_that_it_is_lacking_nor_that_it_runs() -> None:
    told = answer("check", "host,+sm4,+movrs", FILE)
    assert told["runs"] is False, "neither kernel has movrs"
    assert [lost["feature"] for lost in told["missing"]] == ["movrs"]
    assert [open_["what"] for open_ in told["not_told"]] == ["sm4"]
    told = answer("check", "host,+sm4", FILE)
    assert (told["runs"], told["missing"]) == (None, [])
    assert "depends on what changed" in vcpuid("check", "host,+sm4", FILE, *BETWEEN).stdout


def test_models_are_neither_said_to_run_nor_to_lack_it() -> None:
    models = {model["model"]: model for model in answer("qemu", "models", FILE)["models"]}
    assert models["ClearwaterForest"]["not_told"] == ["sha512", "sm3", "sm4", "avx-vnni-int16"]
    assert not {"sm3", "sm4"} & set(models["ClearwaterForest"]["missing"])
    assert models["Broadwell-noTSX"]["not_told"] == []


def test_flags_of_linux_are_open_where_the_two_kernels_print_other_ones() -> None:
    told = answer("linux", "flags", "tests/captures/kvm/kvm-intel.corei7_skylake_x@6.1.txt.gz")["not_told"]
    assert [open_["what"] for open_ in told if UNKNOWN in [fact["place"] for fact in open_["depends"]]] == ["bugs: vmscape"]


@pytest.mark.parametrize("name", [DMR, "kvm-amd.EPYC-v1@6.1", "kvm-intel.corei7_skylake_x@6.1"])
@pytest.mark.parametrize(("kernel", "older", "newer"), [("6.13", "6.12", "6.14"), ("6.3", "6.1", "6.6"), ("6.10", "6.8", "6.12")])
def test_what_is_certain_between_two_kernels_is_so_under_both(name: str, kernel: str, older: str, newer: str) -> None:
    features, at = cpuid_features(), [path(release, name) for release in (kernel, older, newer)]
    certain = 0
    for feature in features:
        between, *both = (explain(feature, given).visible for given in at)
        assert between is None or both == [between, between], feature.name
        certain += between is not None
    assert certain > 0.9 * len(features)


def test_what_another_kernel_s_kvm_answered_stands_for_none_between_two() -> None:
    capture = host("kvm-intel.sapphire_rapids-dmr@6.12")
    assert Setup.of(capture).host.supported is not None
    assert Setup.of(capture, Stack(kernel="6.13")).host.supported is None
    assert Setup.of(capture, Stack(kernel="6.12.3")).host.supported is not None


def test_a_fleet_s_baseline_has_only_what_both_kernels_offer(tmp_path: Path) -> None:
    lines = gzip.decompress(Path(FILE).read_bytes()).decode().splitlines()
    told = [line for line in lines if line.startswith(("RAW ", "MSR "))]
    (tmp_path / "one.txt").write_text("\n".join([*told, "KERNEL 6.13.7", ""]), encoding="utf-8")
    found = json.loads(vcpuid("fleet", "baseline", str(tmp_path), "--qemu", "11.1", "--format", "json").stdout)
    assert "sm4" not in found["cpu"]
    assert "+avx-ne-convert" in found["cpu"]


def test_what_the_machine_s_own_kvm_left_out_is_known() -> None:
    assert explain(find("sm4"), path("7.3")).visible is True
    own = Setup.of(host("kvm-intel.sapphire_rapids-dmr@6.12"), Stack(qemu="11.1", params=MITIGATIONS_OFF))
    assert explain(find("sm4"), resolve("host", host=own)).visible is False


def test_the_remark_names_both_tables() -> None:
    remark = str(linux("6.13").remark)
    assert remark.startswith("no tables of Linux 6.13: those of 6.12 are used; what changed between the two is not known here")
    assert remark.endswith(", and an answer that is another by those of 6.14 is not told")
    assert linux("6.14.7").remark is None
    assert "another" not in str(linux("4.9").remark), "older than all tables"
