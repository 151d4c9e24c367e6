"""The command line as a user meets it: help everywhere, formats that pipe, one line and a status for what goes wrong."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

from support.captures import capture, lines
from support.command import Done, commands, vcpuid
from vcpuid.cli import VERBS, cli
from vcpuid.cli.output import FORMATS
from vcpuid.data import load

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
HOST = capture(SKYLAKE)


def run(*args: str, stdin: str | bytes = b"") -> Done:
    """Run where no folder keeps what was found out about this machine's QEMU."""
    return vcpuid(*args, stdin=stdin, env={"XDG_CACHE_HOME": "/nonexistent", "COLUMNS": "160"})


ALL = list(commands(cli))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_verb_has_help_and_describes_every_option(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    assert command.help[0].isupper()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)} {parameter.opts}"


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_says_what_each_verb_says_itself(verb: str) -> None:
    help_text = import_module(f"vcpuid.cli.{verb}").command.help
    assert help_text.splitlines()[0] == VERBS[verb]


def test_explain_tells_each_party_and_the_rule() -> None:
    done = run("explain", "avx512f", "--host", str(HOST), "--cpu", "Haswell", "--qemu", "11.1", "--format", "json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert [stage["party"] for stage in told["stages"]] == ["silicon", "linux", "kvm", "qemu", "vcpu", "guest"]
    assert [stage["value"] for stage in told["stages"]] == [True, True, True, False, False, False]
    assert told["chain"][0]["party"] == "qemu"
    assert told["chain"][0]["source"]


def test_explain_ends_with_0_where_the_guest_sees_the_feature() -> None:
    done = run("explain", "X86_FEATURE_AVX2", "--host", str(HOST), "--cpu", "Haswell")
    assert done.returncode == 0
    assert "The guest sees avx2" in done.stdout


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    "verb", [("explain", "avx2", "--host"), ("guest", "--host"), ("kvm", "supported"), ("linux", "flags"), ("qemu", "models")]
)
def test_every_format_prints_and_parses(verb: tuple[str, ...], form: str) -> None:
    done = run(*verb, str(HOST), "--format", form)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    if form == "json":
        assert json.loads(done.stdout)
    elif form == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(done.stdout)))
        assert len({len(row) for row in rows}) == 1


def test_a_guest_is_a_host_again() -> None:
    guest = run("guest", "--host", str(HOST), "--cpu", "Haswell", "--format", "lines").stdout
    done = run("explain", "avx512f", "--host", "-", "--cpu", "host", "--kernel", "6.12", "--format", "json", stdin=guest)
    assert json.loads(done.stdout)["stages"][0]["value"] is False


def test_a_table_goes_from_qemu_into_kvm() -> None:
    table = run("qemu", "table", "Haswell", str(HOST), "--format", "lines").stdout
    kept = run("kvm", "set", "-", "--format", "lines", stdin=table)
    assert kept.returncode == 0, kept.stderr
    assert kept.stdout.startswith("GOT 40000000.0 ")
    read = run("kvm", "lookup", "-", "0", "7.0", "--format", "lines", stdin=table)
    assert read.stdout.splitlines()[0].split()[4:] == ["756e6547", "6c65746e", "49656e69"]


CUT = lines(SKYLAKE)


@pytest.mark.parametrize(
    ("args", "stdin", "says"),
    [
        (("explain", "avx22", "--host", str(HOST)), "", "avx2"),
        (("explain", "avx2", "--host", "/no/such/file"), "", "/no/such/file"),
        (("explain", "avx2", "--host", "-"), "\n".join([*CUT[:40], "RAW 00000007.0 0000"]), ":41:"),
        (("explain", "avx2", "--host", "-"), bytes(range(256)) * 64, ":"),
        (("explain", "avx2", "--host", "-"), "", "standard input"),
        (("explain", "avx2", "--host", str(HOST), "--kernel", "new"), "", "'new'"),
        (("kvm", "lookup", str(HOST), "seven"), "", "'seven'"),
        (("kvm", "supported", str(HOST), "--param", "nested"), "", "NAME=VALUE"),
    ],
)
def test_bad_input_is_one_line_and_status_3(args: tuple[str, ...], stdin: str | bytes, says: str) -> None:
    done = run(*args, stdin=stdin)
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("vcpuid: ")
    assert says in done.stderr
    assert not done.stdout


def test_a_guests_own_proc_cpuinfo() -> None:
    flags = json.loads(run("linux", "flags", str(HOST), "--guest", "--cpu", "Haswell-noTSX,+vmx", "--format", "json").stdout)
    assert "avx2" in flags["flags"]
    assert "avx512f" not in flags["flags"]
    assert {"ept", "vapic", "unrestricted_guest"} <= set(flags["vmx_flags"])
    assert "spectre_v1" in flags["bugs"]
    host = json.loads(run("linux", "flags", str(HOST), "--format", "json").stdout)
    assert "avx512f" in host["flags"]


@pytest.mark.parametrize(
    ("cpu", "qemu", "says", "status"),
    [
        ("Haswell,level=junk", "11.1", "Parameter 'level' expects uint64", 1),
        ("EPYC-Turin", "7.2", "unable to find CPU model 'EPYC-Turin' (EPYC-Turin: QEMU 10.1 has it)", 1),
        ("Haswell,nonsense=on", "11.1", "Property 'Haswell-x86_64-cpu.nonsense' not found", 3),
        ("Haswel", "11.1", "unable to find CPU model 'Haswel' (Haswel: did you mean Haswell", 3),
    ],
)
def test_a_refusal_of_qemu_is_its_own_message_and_a_name_that_no_qemu_has_is_bad_input(cpu: str, qemu: str, says: str, status: int) -> None:
    done = run("qemu", "table", cpu, str(HOST), "--qemu", qemu)
    assert says in done.stderr
    assert done.returncode == status


def test_a_usage_error_is_status_2() -> None:
    assert run("explain").returncode == 2
    assert run("nonsense").returncode == 2


@pytest.mark.process
def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m vcpuid qemu models {HOST} --format lines | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert not done.stderr
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.x86
def test_collect_writes_what_every_verb_reads(tmp_path: Path) -> None:
    file = tmp_path / "host.txt"
    assert run("collect", "--output", str(file)).returncode == 0
    done = run("explain", "fpu", "--host", str(file), "--cpu", "qemu64")
    assert done.returncode == 0, done.stderr
    assert "The guest sees fpu" in done.stdout


@pytest.mark.parametrize("group", ["", "kvm", "qemu", "linux", "libvirt", "fleet"])
def test_no_line_of_a_list_of_verbs_is_cut(group: str) -> None:
    """click shortens what is longer than a line, and left no summary of kvm and qemu whole."""
    done = vcpuid(*group.split(), "--help", env={"COLUMNS": "80"})
    listed = done.stdout.partition("Verbs:")[2]
    assert listed.strip()
    assert not [line for line in listed.splitlines() if line.endswith(("...", "…")) or len(line) > 80]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "explain"])
def test_a_verbs_summary_fits_a_line_of_80_columns(verb: str) -> None:
    assert f"  {verb.ljust(max(map(len, VERBS)))}  {VERBS[verb]}" in vcpuid("--help", env={"COLUMNS": "80"}).stdout.splitlines()


def test_summaries_of_kvm_and_qemu_fit_a_line() -> None:
    for group in ("kvm", "qemu", "linux"):
        listed = vcpuid(group, "--help", env={"COLUMNS": "80"}).stdout.partition("Verbs:")[2].strip().splitlines()
        command = cli.get_command(click.Context(cli), group)
        assert isinstance(command, click.Group)
        assert len(listed) == len(command.commands)


def test_a_name_of_several_features_is_said_to_be_taken_for_which() -> None:
    """avx512 is those of x86-64-v4, and the host may have, or lack, others that are called so."""
    above = run("explain", "avx512", "--host", str(HOST), "--qemu", "11.1").stdout.partition("\n\n")[0]
    taken, others = " ".join(above.split("\n")[1:]).split("; others, to be named by themselves: ")
    assert taken.startswith("avx512 is taken for ")
    assert taken.endswith(", those that x86-64-v4 asks for")
    asked = {name.lower() for name in load("psabi")["levels"]["x86-64-v4"]}
    assert set(taken.removesuffix(", those that x86-64-v4 asks for").split()[4:]) == asked
    assert {"avx512_vnni", "avx512ifma"} <= set(others.split())
    assert "is taken for" not in run("explain", "avx512f,avx2", "--host", str(HOST), "--qemu", "11.1").stdout
