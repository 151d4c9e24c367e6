"""vcpuid diff as a user meets it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from vcpuid.cli.output import FORMATS

CAPTURES = Path(__file__).parents[1] / "captures" / "kvm"
HOST = str(CAPTURES / "kvm-intel.corei7_skylake_x@6.12.txt.gz")
QEMU = ("--qemu", "11.1")


def run(*args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "vcpuid", *args], input=stdin, capture_output=True, text=True, timeout=60)


def told(*args: str, stdin: str | None = None) -> dict[str, dict[str, object]]:
    answer = json.loads(run("diff", HOST, *args, *QEMU, "--format", "json", stdin=stdin).stdout)
    return {difference["what"]: difference for difference in answer["differences"]}


@pytest.fixture(scope="module")
def guest() -> str:
    return run("guest", "--host", HOST, "--cpu", "Haswell-noTSX", *QEMU, "--no-probe", "--format", "lines").stdout


def test_a_cpu_on_the_host_differs_line_by_line() -> None:
    done = run("diff", HOST, "--cpu", "Haswell-noTSX", *QEMU)
    assert done.returncode == 1
    assert "features differ" in done.stdout
    found = told("--cpu", "Haswell-noTSX")
    assert (found["avx512f"]["host"], found["avx512f"]["guest"], found["avx512f"]["party"]) == ("yes", "no", "qemu")
    assert found["avx512f"]["rules"] == ["qemu.model.absent"]


def test_an_observed_guest_is_read_from_its_snapshot_and_its_cpu_guessed(guest: str) -> None:
    assert told("-", stdin=guest) == told("--cpu", "Haswell-v2")
    done = run("diff", HOST, "-", *QEMU, stdin=guest)
    assert "-cpu Haswell-v2 (guessed)" in done.stdout


def test_registers_are_shown_in_hexadecimal() -> None:
    found = told("--cpu", "Haswell-noTSX", "--by", "register")
    assert (found["0.0.eax"]["host"], found["0.0.eax"]["guest"], found["0.0.eax"]["party"]) == ("00000016", "0000000d", "qemu")


def test_flags_are_those_of_cpuinfo() -> None:
    found = told("--cpu", "Haswell-noTSX", "--flags")
    assert found["avx512f"]["place"] == "flags"
    assert found["hypervisor"]["guest"] == "yes"


def test_a_host_does_not_differ_from_itself() -> None:
    done = run("diff", HOST, HOST, "--cpu", "host", *QEMU, "--by", "register")
    assert done.returncode == 0
    assert "The registers are the same." in done.stdout


@pytest.mark.parametrize("by", [(), ("--by", "register"), ("--flags",)])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_prints_and_parses(by: tuple[str, ...], form: str) -> None:
    done = run("diff", HOST, "--cpu", "Haswell-noTSX", *by, *QEMU, "--format", form)
    assert done.returncode == 1, done.stderr
    if form == "json":
        assert json.loads(done.stdout)["cpu"] == "Haswell-noTSX"
    elif form == "jsonl":
        assert all(json.loads(line)["party"] for line in done.stdout.splitlines())
    elif form == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(done.stdout))}) == 1
    else:
        assert done.stdout.strip()


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("diff", HOST), 2, "--cpu"),
        (("diff", "/no/such/file", "--cpu", "host"), 3, "/no/such/file"),
        (("diff", HOST, "/no/such/file"), 3, "/no/such/file"),
        (("diff", HOST, "--cpu", "host", "--kernel", "new"), 3, "'new'"),
        (("diff", HOST, "--cpu", "host", "--flags", "--guest-kernel", "new"), 3, "'new'"),
        (("diff", HOST, "--cpu", "Haswel", *QEMU), 1, "unable to find CPU model 'Haswel'"),
    ],
)
def test_what_goes_wrong_is_a_line_and_a_status(args: tuple[str, ...], status: int, says: str) -> None:
    done = run(*args)
    assert done.returncode == status
    assert says in done.stderr
    assert not done.stdout
    assert status == 2 or len(done.stderr.strip().splitlines()) == 1


def test_a_guest_without_raw_lines_is_bad_input(guest: str) -> None:
    only = "".join(line + "\n" for line in guest.splitlines() if line.startswith("TAB"))
    done = run("diff", HOST, "-", stdin=only)
    assert done.returncode == 3
    assert "RAW" in done.stderr


def test_two_dumps_differ_by_field_with_its_meaning() -> None:
    other = CAPTURES / "kvm-intel.corei7_haswell_4770-rnd00@6.12.txt.gz"
    done = run("diff", HOST, str(other), "--by", "field", "--format", "json")
    rows = json.loads(done.stdout)
    assert done.returncode == 1
    avx512f = next(row for row in rows if row["place"] == "7.0.ebx.16")
    assert avx512f["field"] == "avx512f"
    assert avx512f["host"] != avx512f["guest"]
    assert run("diff", HOST, HOST, "--by", "field").returncode == 0


def test_what_varies_by_cpu_is_left_out_by_default_and_said_so(tmp_path: Path) -> None:
    lines = gzip.decompress(Path(HOST).read_bytes()).decode().splitlines()
    there = tmp_path / "other.txt"
    there.write_text("\n".join(line.replace("00010800", "02010800", 1) if line.startswith("RAW 00000001.0") else line for line in lines))
    same = run("diff", HOST, str(there), "--by", "field")
    assert same.returncode == 0
    assert "left out" in same.stdout
    assert run("diff", HOST, str(there), "--by", "field", "--all").returncode == 1
