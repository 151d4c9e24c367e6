"""`vcpuid probe` as a user meets it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from support.command import Done, vcpuid
from vcpuid.errors import UnavailableError
from vcpuid.live.kvm_device import Kvm

pytestmark = pytest.mark.x86

COLUMNS = [
    "feature", "instruction", "process_advertised", "process_result", "guest_advertised", "guest_result", "verdict", "note",
]  # fmt: skip


def probe(*args: str) -> Done:
    return vcpuid("probe", *args)


def test_this_process_alone() -> None:
    done = probe("sse2", "rtm", "--no-guest", "--format", "csv")
    assert done.returncode in (0, 1), done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert list(rows[0]) == COLUMNS
    assert [(row["feature"], row["instruction"]) for row in rows] == [("sse2", "paddb"), ("rtm", "xtest"), ("rtm", "xbegin")]
    assert (rows[0]["process_advertised"], rows[0]["process_result"], rows[0]["verdict"]) == ("yes", "works", "ok")
    assert not rows[0]["guest_advertised"]
    assert not rows[0]["guest_result"]


@pytest.mark.kvm
def test_the_status_is_1_where_something_advertised_faults() -> None:
    done = probe("--force", "all", "--format", "json")
    told = json.loads(done.stdout)
    hazards = [o for place in ("process", "guest") for o in told[place] if o["verdict"] == "hazard"]
    assert done.returncode == (1 if hazards else 0)
    assert all(outcome["asked"] for outcome in told["guest"])
    assert {outcome["feature"] for outcome in told["guest"]} > {outcome["feature"] for outcome in told["process"]}


@pytest.mark.kvm
def test_a_table_of_choice(tmp_path: Path) -> None:
    table = tmp_path / "table.txt"
    table.write_text(
        "TAB 00000000.0 f0 00000001 756e6547 6c65746e 49656e69\nTAB 00000001.0 f0 000306c1 00000800 00000000 02000001\n", encoding="utf-8"
    )
    told = json.loads(probe("sse", "sse2", "--table", str(table), "--format", "json").stdout)
    assert [(outcome["feature"], outcome["asked"]) for outcome in told["guest"]] == [("sse", True), ("sse2", False)]


@pytest.mark.kvm
def test_what_kvm_refuses_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "table.txt"
    table.write_text("TAB 80000008.0 f0 00002030 00000000 00000000 00000000\n", encoding="utf-8")
    done = probe("--table", str(table))
    assert done.returncode == 1
    assert done.stderr.startswith("vcpuid: EINVAL: KVM_SET_CPUID2")
    assert not done.stdout


def test_without_kvm_the_process_is_tried_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: Kvm) -> None:
        raise UnavailableError("/dev/kvm: No such file or directory")

    monkeypatch.setattr(Kvm, "__init__", refuse)
    done = probe("sse2")
    assert done.returncode == 0
    assert "trying this process only" in done.stderr
    assert "paddb" in done.stdout


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("avx22",), 3, "avx22"),
        (("nx",), 3, "no instruction"),
        pytest.param(("--force", "rdctl-no"), 3, "no bit of CPUID", marks=pytest.mark.kvm),
        (("--table", "x", "--cpu", "host"), 2, "--table"),
        (("--no-guest", "--hide", "avx2"), 2, "--no-guest"),
    ],
)
def test_bad_input_is_told(args: tuple[str, ...], status: int, says: str) -> None:
    done = probe(*args)
    assert done.returncode == status
    assert says in done.stderr
    assert not done.stdout
