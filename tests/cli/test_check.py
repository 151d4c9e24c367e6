"""vcpuid check as a user meets it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from support.captures import capture
from support.command import vcpuid
from vcpuid.cli.output import FORMATS

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
QEMU = ("--qemu", "11.1")


def table(cpu: str) -> str:
    return vcpuid("qemu", "table", cpu, HOST, *QEMU, "--format", "lines").stdout


def test_a_cpu_that_runs_is_0() -> None:
    done = vcpuid("check", "Haswell-noTSX", HOST, *QEMU)
    assert done.returncode == 0
    assert done.stdout.startswith("-cpu Haswell-noTSX runs with all that was asked")
    assert not done.stderr


def test_a_cpu_on_a_kvm_that_is_not_linuxs_own_is_not_tried_and_1(tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_text(gzip.decompress(Path(HOST).read_bytes()).decode() + "PARAM kvm_odd.native Y\n", encoding="utf-8")
    done = vcpuid("check", "Haswell-noTSX", str(odd), *QEMU)
    assert done.returncode == 1
    assert done.stdout.startswith("-cpu Haswell-noTSX: whether it runs is not tried")
    assert "kvm_odd, which is none of Linux's own modules" in done.stderr
    told = json.loads(vcpuid("check", "Haswell-noTSX", str(odd), *QEMU, "--format", "json").stdout)
    assert (told["runs"], told["start"]) == (None, {"outcome": "starts", "basis": "not tried", "message": None, "asked": None})
    rows = list(csv.DictReader(io.StringIO(vcpuid("check", "Haswell-noTSX", str(odd), *QEMU, "--format", "csv").stdout)))
    assert rows[0]["what"] == "not tried"


def test_a_cpu_that_lacks_features_is_1_with_causes_and_a_proposal() -> None:
    done = vcpuid("check", "Skylake-Server", HOST, *QEMU)
    assert done.returncode == 1
    assert "hle; rtm; pku" in done.stdout
    assert "Runs without a warning: -cpu Skylake-Server,-hle,-rtm,-pku" in done.stdout
    assert "The nearest model that runs as it is: -cpu" in done.stdout
    assert vcpuid("check", "Skylake-Server,-hle,-rtm,-pku", HOST, *QEMU).returncode == 0


def test_a_refusal_is_a_verdict_and_no_error() -> None:
    done = vcpuid("check", "Haswel", HOST, *QEMU)
    assert done.returncode == 1
    assert "unable to find CPU model 'Haswel'" in done.stdout
    assert "-cpu Haswell-v2" in done.stdout
    assert not done.stderr


def test_the_notes_crash_is_found_in_a_cpu_and_in_its_table() -> None:
    cpu = "Haswell-noTSX,+rtm,x-force-features=on"
    for done in (
        vcpuid("check", cpu, HOST, *QEMU, "--format", "json"),
        vcpuid("check", "--table", "-", HOST, "--format", "json", stdin=table(cpu)),
    ):
        told = json.loads(done.stdout)
        assert done.returncode == 1
        assert told["hazards"][0]["rule"] == "tsx.no-hardware"
        assert "glibc" in told["hazards"][0]["consequence"]


def test_a_table_alone_is_checked_for_what_contradicts_within_it() -> None:
    done = vcpuid("check", "--table", "-", "--format", "lines", stdin=table("Haswell-noTSX,-avx"))
    assert done.returncode == 1
    assert "breaks xsave.no-state" in done.stdout
    sound = vcpuid("check", "--table", "-", stdin=table("Haswell-noTSX"))
    assert sound.returncode == 0
    assert sound.stdout.strip() == "No hazards found."


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_tells_the_verdict(form: str) -> None:
    done = vcpuid("check", "Haswell", HOST, *QEMU, "--format", form)
    assert done.returncode == 1
    if form == "json":
        told = json.loads(done.stdout)
        assert (told["runs"], told["proposal"]) == (False, "Haswell-v2")
        setup = told["setup"]
        assert (setup["kernel"]["release"], setup["vmm"]["release"], setup["machine"]) == ("6.12.107+deb13-cloud-amd64", "11.1", "q35")
        assert [missing["feature"] for missing in told["missing"]] == ["hle", "rtm"]
    elif form == "jsonl":
        first, *rest = map(json.loads, done.stdout.splitlines())
        assert (first["what"], first["about"], first["remedy"]) == ("lacks", "Haswell", "Haswell-v2")
        assert rest[0]["about"] == "hle; rtm"
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert rows[0]["what"] == "lacks"
        assert all(None not in row for row in rows)
    elif form == "lines":
        assert done.stdout.splitlines()[:2] == ["lacks verdict Haswell", "missing silicon.lacks hle; rtm"]
    else:
        assert "runs without some of what was asked" in done.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("check", "Haswell", "/no/such/file"), "/no/such/file"),
        (("check", "--table", "/no/such/file"), "/no/such/file"),
        (("check", "Haswell", HOST, "--kernel", "new"), "'new'"),
        (("check", "Haswell", HOST, "--qemu", "new"), "'new'"),
        (("check", "Haswell", HOST, "--param", "nested"), "NAME=VALUE"),
        (("check", "--table", HOST, HOST, "--kernel", "new"), "'new'"),
    ],
)
def test_bad_input_is_one_line_and_status_3(args: tuple[str, ...], says: str) -> None:
    done = vcpuid(*args)
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("vcpuid: ")
    assert says in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("args", [("check",), ("check", "Haswell", HOST, HOST), ("check", "--table", HOST, HOST, HOST)])
def test_too_few_or_too_many_arguments_are_a_usage_error(args: tuple[str, ...]) -> None:
    assert vcpuid(*args).returncode == 2


def test_what_is_other_than_was_asked_for_stands_below_the_proposal() -> None:
    done = vcpuid("check", "Haswell,hv-stimer", HOST, "--qemu", "10.0")
    told = done.stdout.splitlines()
    at = told.index("Runs without a warning: -cpu Haswell-v2,hv-stimer,hv-time,hv-synic,hv-vpindex")
    assert told[at + 1 : at + 5] == [
        "    Haswell-v2: it is Haswell without hle and rtm",
        "    hv-time is added: hv-stimer needs it",
        "    hv-synic is added: hv-stimer needs it",
        "    hv-vpindex is added: hv-synic needs it",
    ]


def test_what_is_not_known_here_is_1_and_no_refusal() -> None:
    done = vcpuid("check", "host", HOST, "--qemu", "10.3", "--machine", "pc-q35-10.3")
    assert done.returncode == 1
    assert done.stdout.startswith("-cpu host: not known here: whether QEMU 10.3 has the machine type pc-q35-10.3")
    assert "Runs" not in done.stdout
    assert "hazards" not in done.stdout  # nobody has looked for any
    lines = vcpuid("check", "DiamondRapids", HOST, "--qemu", "10.3", "--format", "lines").stdout
    assert lines == "unknown verdict DiamondRapids\n"


def test_a_guess_stands_beside_the_refusal() -> None:
    done = vcpuid("check", "Haswell,+ept", HOST, "--qemu", "10.0")
    assert "\nept: QEMU calls it vmx-ept\n" in done.stdout


def dump(tmp_path: Path, *gone: str) -> str:
    """A plain `cpuid -r` of a Cascade Lake without some of its lines."""
    text = gzip.decompress(capture("cascade-lake-without-msrs", "reports").read_bytes()).decode()
    part = tmp_path / "part.txt"
    part.write_text("".join(line for line in text.splitlines(True) if not any(word in line for word in gone)), encoding="utf-8")
    return str(part)


LEAF_0, LEAF_7 = "0x00000000 0x00:", "0x00000007 "


def rows(*args: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(vcpuid("check", *args, *QEMU, "--kernel", "6.12", "--format", "csv").stdout)))


def test_what_hangs_on_one_leaf_is_one_row_for_people_and_a_row_each_for_programs(tmp_path: Path) -> None:
    part = dump(tmp_path, LEAF_7)
    text = vcpuid("check", "Haswell", part, *QEMU, "--kernel", "6.12").stdout
    assert text.count("host.not-told") == 2
    assert "fsgsbase; bmi1; avx2; smep; bmi2;" in text
    assert text.count("speculation.no-control") == 1
    found = rows("Haswell", part)
    assert sum(row["rule"] == "host.not-told" for row in found) == 8
    assert found[0]["why"].startswith("not told whether QEMU warns: ")


def test_a_hazard_that_need_not_be_there_is_first_to_be_told(tmp_path: Path) -> None:
    found = [row for row in rows("Haswell", dump(tmp_path, LEAF_7)) if row["rule"] == "speculation.no-control"]
    assert found
    assert all(row["what"] == "not told" and row["remedy"].startswith("give a") for row in found)
    assert all("; if it is so: add +spec-ctrl" in row["remedy"] for row in found)


def test_hazards_of_a_host_without_leaf_0_are_named_and_open(tmp_path: Path) -> None:
    part = dump(tmp_path, LEAF_0)
    text = vcpuid("check", "Haswell", part, *QEMU, "--kernel", "6.12").stdout
    assert "No hazards found." not in text
    assert "hazards.not-judged" in text
    found = {row["rule"]: row for row in rows("Haswell", part)}
    assert found["tsx.no-hardware"]["what"] == "not told"
    assert "depends on CPUID[eax=00h]" in found["tsx.no-hardware"]["why"]


def test_a_cut_table_is_no_table_without_hazards(tmp_path: Path) -> None:
    part = dump(tmp_path, *(f"0x{leaf:08x} " for leaf in (*range(8, 0x17), *range(0x80000000, 0x80000009))))
    done = vcpuid("check", "--table", part)
    assert "No hazards found." not in done.stdout
    assert "No hazards found in what is told" in done.stdout
    assert done.returncode == 0
    assert "of the table" in done.stdout
    told = json.loads(vcpuid("check", "--table", part, "--format", "json").stdout)["hazards"]
    assert all(hazard["depends"] for hazard in told)
    assert {fact["of"] for hazard in told for fact in hazard["depends"]} == {"table"}
