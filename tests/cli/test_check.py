"""vcpuid check as a user meets it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
from pathlib import Path

import pytest

from support.captures import capture
from support.command import vcpuid
from support.fleets import HOSTS as MANY
from vcpuid.cli.output import FORMATS
from vcpuid.qemu.catalog import catalog

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
QEMU = ("--qemu", "11.1")


def table(cpu: str) -> str:
    return vcpuid("qemu", "table", cpu, HOST, *QEMU, "--format", "lines").stdout


def test_a_cpu_that_runs_is_0() -> None:
    done = vcpuid("check", "Haswell-noTSX", HOST, *QEMU)
    assert done.returncode == 0
    assert done.stdout.startswith(
        "-cpu Haswell-noTSX starts with every requested feature\nQEMU 11.1, q35, Linux 6.12.107+deb13-cloud-amd64, host "
    )
    assert not done.stderr


def test_a_cpu_on_a_kvm_that_is_not_linuxs_own_is_not_tried_and_1(tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_text(gzip.decompress(Path(HOST).read_bytes()).decode() + "PARAM kvm_odd.native Y\n", encoding="utf-8")
    done = vcpuid("check", "Haswell-noTSX", str(odd), *QEMU)
    assert done.returncode == 1
    assert done.stdout.startswith(
        "-cpu Haswell-noTSX: not tried; it starts with every requested feature on stock Linux, and this host's KVM (kvm_odd)"
    )
    assert "this host's KVM (kvm_odd) is none of Linux's own modules" in done.stderr
    told = json.loads(vcpuid("check", "Haswell-noTSX", str(odd), *QEMU, "--format", "json").stdout)
    assert (told["runs"], told["start"]) == (None, {"outcome": "starts", "basis": "not tried", "message": None, "asked": None})
    rows = list(csv.DictReader(io.StringIO(vcpuid("check", "Haswell-noTSX", str(odd), *QEMU, "--format", "csv").stdout)))
    assert rows[0]["what"] == "not tried"


@pytest.mark.parametrize(
    "asked", [("check", "Skylake-Server"), ("guest", "--cpu", "Skylake-Server", "--host"), ("explain", "avx2", "--host")]
)
def test_an_answer_about_a_snapshot_of_an_odd_kvm_says_that_the_host_may_answer_otherwise(asked: tuple[str, ...], tmp_path: Path) -> None:
    odd = tmp_path / "odd.txt"
    odd.write_text(gzip.decompress(Path(HOST).read_bytes()).decode() + "PARAM kvm_odd.native Y\n", encoding="utf-8")
    assert "Not tried: this host's KVM is not Linux's own" in vcpuid(*asked, str(odd), *QEMU).stdout
    assert "Not tried:" not in vcpuid(*asked, HOST, *QEMU).stdout


def test_a_cpu_that_lacks_features_is_1_with_causes_and_a_proposal() -> None:
    done = vcpuid("check", "Skylake-Server", HOST, *QEMU)
    assert done.returncode == 1
    assert done.stdout.startswith("-cpu Skylake-Server starts, but the guest lacks 3 of its 78 features\n")
    assert "\nMissing (3): hle rtm pku\n    Cause: the host's processor does not report it\n    Remedy: run " in done.stdout
    assert "\nRecommended, keeps the most: -cpu Skylake-Server,-hle,-rtm,-pku\n" in done.stdout
    assert "\nNamed model that runs without warnings: Broadwell-v2 (keeps 65 of the 78 features asked for)\n" in done.stdout
    assert vcpuid("check", "Skylake-Server,-hle,-rtm,-pku", HOST, *QEMU).returncode == 0


def test_a_refusal_is_a_verdict_and_no_error() -> None:
    done = vcpuid("check", "Haswell-noTSX,phys-bits=20", HOST, *QEMU)
    assert done.returncode == 1
    assert done.stdout.startswith("QEMU 11.1 refuses -cpu Haswell-noTSX,phys-bits=20: phys-bits should be at least 32 (but is 20)")
    assert not done.stderr


@pytest.mark.parametrize(
    ("cpu", "first"),
    [
        ("EPYC-Milano", "-cpu EPYC-Milano: no such model in QEMU 11.1; did you mean EPYC-Milan?"),
        ("Haswell,+avx21", "-cpu Haswell,+avx21: no property avx21 in QEMU 11.1; did you mean avx2 or avx10 or avx?"),
        ("Haswell,+zzzz", "-cpu Haswell,+zzzz: no property zzzz in QEMU 11.1"),
    ],
)
def test_a_name_that_no_qemu_has_is_3_and_no_verdict_on_the_host(cpu: str, first: str) -> None:
    done = vcpuid("check", cpu, HOST, *QEMU)
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == first
    assert "Named model" not in done.stdout
    assert "hazards" not in done.stdout
    assert json.loads(vcpuid("check", cpu, HOST, *QEMU, "--format", "json").stdout)["refusal"] is not None


def test_a_name_that_a_newer_qemu_has_is_no_typo() -> None:
    done = vcpuid("check", "SapphireRapids", HOST, "--qemu", "7.2")
    assert done.returncode == 1
    assert done.stdout.startswith("-cpu SapphireRapids: no such model in QEMU 7.2; QEMU 8.0 has it\n")


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
        assert "starts, but the guest lacks 2 of its" in done.stdout


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


@pytest.mark.parametrize("args", [("check",), ("check", "--table", HOST, HOST, HOST)])
def test_too_few_or_too_many_arguments_are_a_usage_error(args: tuple[str, ...]) -> None:
    assert vcpuid(*args).returncode == 2


def test_what_is_other_than_was_asked_for_stands_below_the_proposal() -> None:
    done = vcpuid("check", "Haswell,hv-stimer", HOST, "--qemu", "10.0")
    told = done.stdout.splitlines()
    at = told.index("Recommended, keeps the most: -cpu Haswell-v2,hv-stimer,hv-time,hv-synic,hv-vpindex")
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
    assert "Recommended" not in done.stdout
    assert "hazards" not in done.stdout  # nobody has looked for any
    lines = vcpuid("check", "DiamondRapids", HOST, "--qemu", "10.3", "--format", "lines").stdout
    assert lines == "unknown verdict DiamondRapids\n"


def test_a_guess_stands_beside_the_refusal() -> None:
    done = vcpuid("check", "Haswell,+ept", HOST, "--qemu", "10.0")
    assert done.returncode == 1
    assert done.stdout.startswith("-cpu Haswell,+ept: no property ept in QEMU 10.0; QEMU calls it vmx-ept\n")
    assert "\nRecommended, keeps the most: -cpu Haswell-v2\n" in done.stdout


def test_what_qemu_prints_is_repeated_only_when_all_is_asked_for_and_in_qemus_name() -> None:
    short, long = (vcpuid("check", "Skylake-Server", HOST, *QEMU, *more).stdout for more in ((), ("--all",)))
    assert "QEMU: warning:" not in short
    assert long.count("\nQEMU: warning: host doesn't support requested feature: ") == 3
    assert "[silicon.lacks]" in long
    assert "--all" in short.splitlines()[-1]
    assert len(short.splitlines()) <= 24


def test_no_name_stands_twice_and_all_are_spelled_as_qemu_does() -> None:
    text = vcpuid("check", "Icelake-Server", HOST, *QEMU, "--all").stdout
    names = [name for line in text.splitlines() if line.startswith("Missing (") for name in line.partition(": ")[2].split()]
    assert len(names) == len(set(names)) == 14
    assert set(names) <= catalog("11.1").flags.keys()
    assert "avx512_vbmi2" not in text


HOSTS = (HOST, str(capture("kvm-intel.corei7_ivy_bridge_3770k@6.1")))


def test_several_hosts_have_a_row_each_and_the_worst_status(tmp_path: Path) -> None:
    done = vcpuid("check", "Haswell-noTSX", *HOSTS, *QEMU, "--format", "jsonl")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [(row["host"], row["what"]) for row in rows] == [(HOSTS[0], "runs"), (HOSTS[1], "lacks")]
    assert "avx2" in rows[1]["lacks"]
    assert vcpuid("check", "Haswell-noTSX", HOST, HOST, *QEMU).returncode == 0


def test_a_folder_is_its_hosts_and_a_file_that_cannot_be_read_is_a_row_too(tmp_path: Path) -> None:
    """The nightly check of a folder of snapshots is one command."""
    for path in HOSTS:
        (tmp_path / Path(path).name).write_bytes(Path(path).read_bytes())
    nightly = ("check", "qemu64", str(tmp_path), *QEMU)
    assert vcpuid(*nightly).returncode == 0
    (tmp_path / "z.txt").write_text("nothing", encoding="utf-8")
    done = vcpuid(*nightly, "--format", "json")
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert [host["host"] for host in told["hosts"]] == [str(tmp_path / name) for name in sorted(path.name for path in tmp_path.iterdir())]
    assert [host.get("runs") for host in told["hosts"]] == [True, True, None]
    assert "no CPUID in it" in told["hosts"][2]["error"]
    text = vcpuid(*nightly).stdout
    assert text.startswith("-cpu qemu64 starts with every requested feature on 2 of 3 hosts\nQEMU 11.1, q35, ")
    assert "1 could not be read" in text.splitlines()[1]
    rows = list(csv.DictReader(io.StringIO(vcpuid(*nightly, "--format", "csv").stdout)))
    assert [row["what"] for row in rows] == ["runs", "runs", "error"]


def test_a_document_of_one_host_is_that_of_several() -> None:
    one = json.loads(vcpuid("check", "Haswell", HOST, *QEMU, "--format", "json").stdout)
    several = json.loads(vcpuid("check", "Haswell", *HOSTS, *QEMU, "--format", "json").stdout)
    assert one["host"] == HOST
    assert several["hosts"][0] == one


def test_a_typo_asked_of_several_hosts_is_told_once() -> None:
    done = vcpuid("check", "Haswel", *HOSTS, *QEMU)
    assert done.returncode == 3
    assert done.stdout.startswith("-cpu Haswel: no such model in QEMU 11.1; did you mean Haswell")
    assert len(done.stdout.splitlines()) <= 3


def test_a_host_that_cannot_be_read_is_a_document_for_programs() -> None:
    for form in ("json", "jsonl"):
        done = vcpuid("check", "Haswell", "/no/such/file", *QEMU, "--format", form)
        assert done.returncode == 3
        assert "/no/such/file" in done.stdout
        assert json.loads(done.stdout)


def test_a_folder_without_files_is_an_error_among_hosts_and_alone(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    os.mkfifo(tmp_path / "none" / "pipe")
    for sources, number in (((str(tmp_path / "none"),), 1), ((HOST, str(tmp_path / "none")), 2)):
        done = vcpuid("check", "Haswell", *sources, *QEMU, "--format", "json")
        assert done.returncode == 3
        told = json.loads(done.stdout)["hosts"]
        assert len(told) == number
        assert told[-1]["host"] == str(tmp_path / "none")
        assert "there is no file in it" in told[-1]["error"]


def test_a_folder_with_hardly_a_snapshot_in_it_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody named `/`: to read all of it and to list what is none takes minutes, and is no answer."""
    monkeypatch.setattr("vcpuid.sources.folders._STRANGE", 20)
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text("junk", encoding="utf-8")
    done = vcpuid("check", "qemu64", str(tmp_path), *QEMU)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{tmp_path}: of its first 20 files 0 can be read: no folder of snapshots" in done.stderr
    for number in range(3):
        (tmp_path / f"0{number}.txt").write_bytes(gzip.decompress(Path(HOST).read_bytes()))
    assert "3 of 30 hosts" in vcpuid("check", "qemu64", str(tmp_path), *QEMU).stdout


def test_a_host_that_is_named_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "host.txt").write_bytes(gzip.decompress(Path(HOST).read_bytes()))
    (tmp_path / "junk.txt").write_text("junk", encoding="utf-8")
    sources = (str(tmp_path), str(tmp_path), str(tmp_path / "host.txt"), HOST, HOST)
    done = vcpuid("check", "qemu64", *sources, *QEMU, "--format", "lines")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(tmp_path / "host.txt"), str(tmp_path / "junk.txt"), HOST]
    assert len(done.stderr.splitlines()) == 1
    assert vcpuid("check", "qemu64", HOST, HOST, *QEMU).stdout.startswith(
        "-cpu qemu64 starts with every requested feature on 1 of 1 host\n"
    )


def test_of_several_hosts_an_error_is_told_where_all_else_is_quiet() -> None:
    done = vcpuid("check", "qemu64", HOST, "/no/such/file", *QEMU, "--quiet")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "vcpuid: /no/such/file: No such file or directory\n"


def test_a_remark_on_some_of_several_hosts_names_them(tmp_path: Path) -> None:
    named = tmp_path / "named.txt"
    named.write_bytes(gzip.decompress(capture("proc-cpuinfo-of-a-host", "reports").read_bytes()))
    said = vcpuid("check", "qemu64", HOST, str(named), *QEMU).stderr.splitlines()
    assert said
    assert all(line.startswith(f"vcpuid: {named}: ") for line in said)
    assert [line.replace(f"{named}: ", "") for line in said] == vcpuid("check", "qemu64", str(named), *QEMU).stderr.splitlines()


def test_a_name_of_a_file_with_an_end_of_line_in_it_is_one_line(tmp_path: Path) -> None:
    for name in ("a\nb.txt", "bad\nc.txt"):
        (tmp_path / name).write_bytes(Path(HOST).read_bytes() if name[0] == "a" else b"nothing")
    done = vcpuid("check", "qemu64", str(tmp_path), *QEMU)
    assert len(done.stdout.splitlines()) == 3 + 2 + 2
    assert "a\\nb.txt" in done.stdout


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
    assert text.count("\nNot told (") == 2
    assert "fsgsbase bmi1 avx2 smep bmi2" in text
    assert text.count("\nPossible risk: spec-ctrl stibp ssbd ibrs-all md-clear flush-l1d\n") == 1
    found = rows("Haswell", part)
    assert sum(row["rule"] == "host.not-told" for row in found) == 8
    assert found[0]["why"].startswith("not told whether QEMU warns: ")


def test_a_hazard_that_need_not_be_there_is_first_to_be_told(tmp_path: Path) -> None:
    found = [row for row in rows("Haswell", dump(tmp_path, LEAF_7)) if row["rule"] == "speculation.no-control"]
    assert found
    assert all(row["what"] == "not told" and row["remedy"].startswith("give a") and "; if so: add each" in row["remedy"] for row in found)


def test_hazards_of_a_host_without_leaf_0_are_named_and_open(tmp_path: Path) -> None:
    part = dump(tmp_path, LEAF_0)
    text = vcpuid("check", "Haswell", part, *QEMU, "--kernel", "6.12").stdout
    assert "No hazards found." not in text
    assert "\nNot judged (" in text
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


def test_a_cpu_that_starts_and_breaks_says_both_in_the_first_line() -> None:
    done = vcpuid("check", "Haswell-noTSX,+rtm,x-force-features=on", HOST, *QEMU)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].endswith(
        " starts, and shows the guest 1 feature that this host does not have; 1 hazard below breaks such a guest"
    )
    assert "\nBreaks: rtm, with avx2\n" in done.stdout


def test_of_several_hosts_the_second_line_counts_those_on_which_a_guest_fails(tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_bytes(gzip.decompress(Path(HOST).read_bytes()))
    done = vcpuid("check", "Haswell-noTSX,+rtm,x-force-features=on", HOST, str(other), *QEMU)
    assert done.returncode == 1
    fails = f"on 2 a guest that starts fails at rtm, with avx2: check of {Path(HOST).name} alone tells why"
    assert done.stdout.splitlines()[1].endswith(f"; 2 start it without some of them; {fails}")
    assert "; 1 starts it without some of them" in vcpuid("check", "Haswell", str(tmp_path), *QEMU).stdout.splitlines()[1]


@pytest.mark.long
def test_of_many_hosts_the_worst_come_first_on_one_screen_and_who_fails_is_marked() -> None:
    many = [str(capture(name)) for name in MANY if name.endswith("@6.12")]
    args = ("check", "Haswell-v4", *many, *QEMU)
    shown = vcpuid(*args, env={"COLUMNS": "80"}).stdout.splitlines()
    assert len(shown) <= 24
    assert re.fullmatch(r"\d+ of 47 hosts; --all prints the rest\.", shown[-1])
    told = map(json.loads, vcpuid(*args, "--format", "jsonl").stdout.splitlines())
    failing = {Path(row["host"]).name: row["breaks"] for row in told if row["breaks"]}
    assert len(failing) == 2
    at = next(at for at, line in enumerate(shown) if line.startswith("host "))
    first = [line.split()[0] for line in shown[at + 2 :] if ".txt.gz" in line]
    assert set(first[:2]) == set(failing)
    rows = vcpuid(*args, "--all").stdout.splitlines()
    for host_, subjects in failing.items():
        assert ", ".join(subjects) in next(line for line in rows if line.startswith(host_))
    assert len([line for line in rows if ".txt.gz" in line and "answer" not in line]) == 47 + 1  # one is named above the rows
