"""vcpuid qemu models as a user meets it, and its rows from Python."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict

from support.captures import capture
from support.captures import host as snapshot_of
from support.command import vcpuid
from vcpuid import Stack, explain, resolve
from vcpuid.answers.verdict import verdict
from vcpuid.qemu import guest_tables, models
from vcpuid.qemu.catalog import catalog

NAME = "kvm-intel.corei7_skylake_x@6.12"
HOST, QEMU = str(capture(NAME)), ("--qemu", "11.1")


def test_the_first_line_counts_and_names_the_best() -> None:
    first, basis, *_, last = vcpuid("qemu", "models", HOST, *QEMU).stdout.splitlines()
    named = {name for name, model in catalog("11.1").models.items()}
    runs = {model.name for model in models(snapshot_of(NAME), "11.1", kernel="6.12") if model.usable and model.name in named}
    assert first.startswith(
        f"{len(runs)} of {len(named)} models run here without warnings; the one that keeps the most is Broadwell-v2 (65 of "
    )
    assert basis.startswith("QEMU 11.1, q35, Linux 6.12")
    assert last == f"15 of {len(named)} models; --all prints the rest, and what each lacks."


def test_all_is_every_name_with_what_it_lacks() -> None:
    listed = vcpuid("qemu", "models", HOST, *QEMU, "--all").stdout
    assert "Skylake-Server-v1 " in listed
    assert "hle rtm pku" in listed


def test_no_row_names_a_feature_twice() -> None:
    """QEMU lists a feature once more for each state that it needs of XSAVE."""
    rows = json.loads(vcpuid("qemu", "models", HOST, "--qemu", "7.2", "--format", "json").stdout)["models"]
    assert all(len(row["missing"]) == len(set(row["missing"])) for row in rows)
    by_name = {model.name: model for model in models(snapshot_of(NAME), "7.2", kernel="6.12")}
    assert by_name["Icelake-Server"].unavailable_features.count("pku") == 2
    in_csv = {
        row["model"]: row["missing"] for row in csv.DictReader(io.StringIO(vcpuid("qemu", "models", HOST, *QEMU, "--format", "csv").stdout))
    }
    assert in_csv["Skylake-Server-v1"] == "hle rtm pku"


def test_from_python_each_model_is_a_row() -> None:
    found = models(snapshot_of(NAME), "11.1", kernel="6.12")
    frame = [model.as_dict() for model in found]
    assert len({tuple(row) for row in frame}) == 1
    assert {row["model"]: row["missing"] for row in frame}["Haswell"] == ["hle", "rtm"]
    assert asdict(found[0])["name"] == "486"
    assert str(next(model for model in found if model.name == "Haswell")) == "Haswell: lacks hle rtm"
    assert len(str(found[0])) < 40


def test_a_host_that_does_not_tell_enough_says_of_how_many() -> None:
    first = vcpuid("qemu", "models", str(capture("cascade-lake-without-msrs", "reports")), *QEMU, "--kernel", "6.12").stdout.splitlines()[0]
    assert ", and of " in first
    assert "that is not told; " in first


def test_what_python_prints_of_an_answer_is_a_sentence() -> None:
    host = snapshot_of(NAME)
    stack = Stack(kernel="6.12", qemu="11.1")
    assert str(resolve("Haswell", host=host, stack=stack)) == "QEMU 11.1, q35, Linux 6.12, -cpu Haswell"
    assert str(verdict("Haswell", host, stack)) == "-cpu Haswell starts, but the guest lacks 2 of its 63 features"
    assert str(explain("rtm", cpu="Haswell", host=host, stack=stack)).startswith("The guest does not see rtm")
    made = str(guest_tables("Haswell", host=host, qemu="11.1", kernel="6.12"))
    assert made.startswith("Haswell-v1, QEMU 11.1, pc-q35-11.1: 1 table of ")
    assert made.endswith(" entries, 2 warnings")
