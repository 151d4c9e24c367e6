"""vcpuid guest as a user meets it: the answer first, no longer than a screen, every name once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from support.captures import capture, host
from support.command import vcpuid
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.formats.writing import write

SKYLAKE, MILAN = "kvm-intel.corei7_skylake_x@6.12", "kvm-amd.EPYC-Milan-v2@7.3"
QEMU = ("--qemu", "10.0")


def guest(name: str, cpu: str, *more: str) -> str:
    done = vcpuid("guest", "--cpu", cpu, "--host", str(capture(name)), *QEMU, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(name: str, cpu: str) -> dict[str, list[dict[str, str]]]:
    answer: dict[str, list[dict[str, str]]] = json.loads(guest(name, cpu, "--format", "json"))
    return answer


@pytest.mark.parametrize("cpu", ["host", "max", "Haswell-v4", "qemu64", "EPYC"])
@pytest.mark.parametrize("name", [SKYLAKE, MILAN])
def test_the_answer_is_a_screen_and_its_counts_are_those_of_json(name: str, cpu: str) -> None:
    lines, answer = guest(name, cpu).splitlines(), told(name, cpu)
    assert len(lines) <= 24
    lost, gained = (len({row["feature"] for row in answer["changes"] if row["change"] == change}) for change in ("lost", "gained"))
    assert lines[0].startswith(f"The guest sees {len(answer['features'])} features: ")
    assert f", and {gained} that the host does not show." in lines[0] or gained == 0
    assert re.fullmatch(rf"QEMU 10.0, q35, Linux \S+, -cpu {re.escape(cpu)}", lines[1])
    kept, of_host = map(int, re.findall(r": (\d+) of the host's (\d+)", lines[0])[0])
    counted = {
        title: (int(count), by)
        for title, count, by in re.findall(r"^(Lost|Turned on later|Gained) (\d+), by (.*)\.$", "\n".join(lines), re.M)
    }
    own = answer["set_by_guest"]
    assert {title: count for title, (count, _) in counted.items()} == {
        title: number for title, number in (("Lost", lost), ("Turned on later", len(own)), ("Gained", gained)) if number
    }
    assert kept + lost + len(own) == of_host
    assert kept + gained == len(answer["features"])
    for title in {"Lost", "Gained"} & counted.keys():
        assert sum(map(int, re.findall(r"\d+", counted[title][1]))) == counted[title][0]


@pytest.mark.parametrize("name", [SKYLAKE, MILAN])
def test_no_name_stands_there_twice(name: str) -> None:
    answer = told(name, "host")
    assert answer["features"].count("kvmclock") == 1  # type: ignore[arg-type]  # names, where the other lists have rows
    assert len(answer["features"]) == len(set(map(str, answer["features"])))
    rows = [(row["change"], row["feature"]) for row in answer["changes"]]
    assert len(rows) == len(set(rows))


def test_all_prints_every_change_and_every_feature_that_the_guest_sees() -> None:
    brief, whole, answer = guest(SKYLAKE, "Haswell-v4"), guest(SKYLAKE, "Haswell-v4", "--all"), told(SKYLAKE, "Haswell-v4")
    words = {word for line in whole.splitlines() for word in line.split()}
    assert {row["feature"] for row in answer["changes"]} <= words
    assert set(map(str, answer["features"])) <= words
    assert "leaf 7.0 (" in whole
    assert brief.splitlines()[-1].endswith("--all prints the rest, every name, and all that the guest sees, by leaf.")
    assert guest(SKYLAKE, "Haswell-v4", "-v") == whole


def test_what_the_guests_kernel_turns_on_is_not_lost() -> None:
    answer = told(SKYLAKE, "host")
    assert "osxsave" in map(str, answer["set_by_guest"])
    assert not {"osxsave", "ospke"} & {row["feature"] for row in answer["changes"]}
    assert "\nTurned on later 1, by the guest's own kernel: osxsave.\n" in guest(SKYLAKE, "host")


def test_without_pku_ospke_is_lost_by_whoever_takes_pku() -> None:
    rows = {row["feature"]: row for row in told(MILAN, "Haswell-v4")["changes"]}
    assert (rows["ospke"]["party"], rows["ospke"]["why"]) == (rows["pku"]["party"], rows["pku"]["why"])
    assert "osxsave" not in rows


def test_a_warning_each_of_qemus_is_counted_and_printed_with_all() -> None:
    asked = ("guest", "--cpu", "Icelake-Server", "--host", str(capture(SKYLAKE)), *QEMU)
    brief, whole, lines = (vcpuid(*asked, *more).stderr for more in ((), ("--all",), ("--format", "jsonl")))
    assert whole.count("host doesn't support requested feature") == int(brief.split("QEMU would print ")[1].split()[0])
    assert "host doesn't support" not in brief
    assert lines == whole


def test_a_kvm_that_is_not_linuxs_own_is_said_to_keep_what_stock_would_drop(tmp_path: Path) -> None:
    """Its table is what KVM kept on a machine whose KVM leaves AVX2 out of what it offers."""
    snapshot = host(SKYLAKE)
    assert snapshot.supported is not None
    less = CpuidTable(entry._replace(ebx=entry.ebx & ~(1 << 5)) if entry.function == 7 else entry for entry in snapshot.supported)
    file = tmp_path / "odd.txt"
    odd: Snapshot = replace(snapshot, supported=less)
    file.write_text("".join(f"{line}\n" for line in write([odd], "snapshot")), encoding="utf-8")
    done = vcpuid("guest", "--cpu", "host", "--host", str(file), *QEMU, "--format", "json")
    row = next(row for row in json.loads(done.stdout)["changes"] if row["feature"] == "avx2")
    assert row["why"] == "this machine's KVM does not offer it; stock Linux 6.12 would"
