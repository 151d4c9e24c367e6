"""Between two kernels with tables, what KVM may have begun to offer is not known: no verb says no of it."""

from __future__ import annotations

import json

import pytest

from support.captures import MITIGATIONS_OFF, host
from support.command import vcpuid
from vcpuid import Setup, Stack
from vcpuid.answers.drift import Side, drift
from vcpuid.answers.explain import explain
from vcpuid.answers.survey import survey
from vcpuid.cpuid.names import find
from vcpuid.path.pipeline import resolve
from vcpuid.releases import linux

DMR = "kvm-intel.sapphire_rapids-dmr@7.3"


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
        assert "whether KVM of Linux 6.13 offers it, which the tables of 6.12 lack; --kernel 6.14 has it" in told.verdict
        assert [stage.value for stage in told.stages] == [True, True, None, None, None, None]


def test_it_is_neither_lost_nor_drifted() -> None:
    found = survey(path("6.13"))
    assert {"sm3", "sm4"} <= {open_.feature.name for open_ in found.not_told}
    assert not {"sm3", "sm4"} & {lost.feature.name for by in found.lost.values() for lost in by}
    assert any(line.startswith("sha512 sm3 sm4 ") for line in found.unknown())
    changes = {change.feature.name: change for change in drift(Side(path("6.12")), Side(path("6.13"))).changes}
    assert (changes["sm4"].before, changes["sm4"].after) == (False, None)


@pytest.mark.parametrize("by", ["feature", "register"])
def test_diff_and_guest_say_so_too(by: str) -> None:
    given = ("--cpu", "host", "--kernel", "6.13", "--qemu", "11.1")
    file = f"tests/captures/kvm/{DMR}.txt.gz"
    rows = json.loads(vcpuid("diff", file, *given, "--by", by, "--format", "json").stdout)["differences"]
    (row,) = [row for row in rows if row["what"] == ("sm4" if by == "feature" else "7.1.eax")]
    assert row["guest"] is None
    assert row["why"].startswith("not known here: ")
    assert "sm3 sm4 avx-vnni-int16: not known here: " in vcpuid("guest", *given, "--host", file).stdout


def test_what_the_machine_s_own_kvm_left_out_is_known() -> None:
    assert explain(find("sm4"), path("7.3")).visible is True
    own = Setup.of(host("kvm-intel.sapphire_rapids-dmr@6.12"), Stack(qemu="11.1", params=MITIGATIONS_OFF))
    assert explain(find("sm4"), resolve("host", host=own)).visible is False


def test_the_remark_names_what_may_have_come() -> None:
    remark = linux("6.13").remark
    assert remark is not None
    assert remark.endswith("nor which of these KVM offers, as 6.14's does: sha512 sm3 sm4 avx_vnni_int16 amd_ibpb_ret")
    assert linux("6.14.7").remark is None
    assert "nor which" not in str(linux("5.4").remark), "older than all tables"
