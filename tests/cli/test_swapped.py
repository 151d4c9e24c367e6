"""A host in a CPU's place, a CPU in a host's, a file in a feature's: what was meant is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.captures import capture
from support.command import commands, vcpuid
from vcpuid.cli import choices, cli, swapped

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hosts").mkdir()
    for name in ("host.txt.gz", "other.txt.gz", "-dash.txt.gz", "new\nline.txt.gz", "no\udcfftext.txt.gz", "hosts/one.txt.gz"):
        shutil.copy(HOST, tmp_path / name)
    (tmp_path / "guest.xml").write_text("<domain type='kvm'/>", encoding="utf-8")
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize(
    ("typed", "odd", "meant"),
    [
        ("check host.txt.gz EPYC-Milan", "host.txt.gz is a file", "check EPYC-Milan host.txt.gz"),
        ("check host.txt.gz#0 EPYC-Milann,+vmx", "host.txt.gz#0 is a file", "check EPYC-Milann,+vmx 'host.txt.gz#0'"),
        ("check hosts EPYC-Milan --all --qemu 9.0", "hosts is a folder", "check EPYC-Milan hosts --all --qemu 9.0"),
        ("check live host", "live is this machine", "check host live"),
        ("check host.txt.gz other.txt.gz EPYC-Milan", "host.txt.gz is a file", "check EPYC-Milan host.txt.gz other.txt.gz"),
        ("check host.txt.gz guest.xml", "host.txt.gz is a file", "check guest.xml host.txt.gz"),
        ("check --cpu host.txt.gz --host EPYC-Milan", "host.txt.gz is a file", "check EPYC-Milan host.txt.gz"),
        ("qemu table host.txt.gz EPYC-Milan", "host.txt.gz is a file", "qemu table EPYC-Milan host.txt.gz"),
        ("qemu expand host.txt.gz EPYC-Milan", "host.txt.gz is a file", "qemu expand EPYC-Milan host.txt.gz"),
        ("guest Icelake-Server host.txt.gz", "Icelake-Server is a CPU", "guest host.txt.gz --cpu Icelake-Server"),
        ("guest host.txt.gz max,-vmx", "max,-vmx is a CPU", "guest host.txt.gz --cpu max,-vmx"),
        (
            "guest EPYC --host host.txt.gz --param nested=0 --param ept=0",
            "EPYC is a CPU",
            "guest host.txt.gz --cpu EPYC --param nested=0 --param ept=0",
        ),
        ("guest --host EPYC-Milan", "EPYC-Milan is a CPU", "guest --cpu EPYC-Milan"),
        ("guest --table EPYC-Milan", "EPYC-Milan is a CPU", "guest --cpu EPYC-Milan"),
        ("guest --cpu host.txt.gz", "host.txt.gz is a file", "guest host.txt.gz"),
        ("guest --cpu live", "live is this machine", "guest live"),
        ("explore EPYC --save a.html", "EPYC is a CPU", "explore --cpu EPYC --save a.html"),
        ("diff host.txt.gz EPYC-Milan", "EPYC-Milan is a CPU", "diff host.txt.gz --cpu EPYC-Milan"),
        ("drift EPYC host.txt.gz --to kernel=7.0", "EPYC is a CPU", "drift host.txt.gz --cpu EPYC --to kernel=7.0"),
        ("linux flags EPYC-Milan,+vmx host.txt.gz", "EPYC-Milan,+vmx is a CPU", "linux flags host.txt.gz --guest --cpu EPYC-Milan,+vmx"),
        ("hyperv host host.txt.gz", "host is a CPU", "hyperv --host host.txt.gz --cpu host"),
        ("hyperv host.txt.gz EPYC", "EPYC is a CPU", "hyperv --host host.txt.gz --cpu EPYC"),
        ("worth EPYC", "EPYC is a CPU", "worth --cpu EPYC"),
        ("explain avx2 EPYC-Milan host.txt.gz", "EPYC-Milan is a CPU", "explain avx2 --host host.txt.gz --cpu EPYC-Milan"),
        ("explain avx2 EPYC-Milan", "EPYC-Milan is a CPU", "explain avx2 --cpu EPYC-Milan"),
        ("explain host.txt.gz avx2", "host.txt.gz is a file", "explain avx2 --host host.txt.gz"),
        ("explain avx2 --cpu guest.xml", "guest.xml is a file", "explain avx2 --domain guest.xml"),
        ("explain avx2 guest.xml", "guest.xml is a file", "explain avx2 --domain guest.xml"),
        ("probe avx2 EPYC", "EPYC is a CPU", "probe avx2 --cpu EPYC"),
        ("fleet migrate EPYC-Milan hosts", "EPYC-Milan is a CPU", "fleet migrate hosts --cpu EPYC-Milan"),
        ("fleet migrate --host host.txt.gz other.txt.gz", "host.txt.gz is a file", "fleet migrate other.txt.gz host.txt.gz"),
        ("fleet drift EPYC hosts --to kernel=7.0", "EPYC is a CPU", "fleet drift hosts --cpu EPYC --to kernel=7.0"),
        ("fleet blame --host=hosts --all", "hosts is a folder", "fleet blame hosts --all"),
        ("explain Haswell --cpu avx2 --host host.txt.gz", "Haswell is a CPU", "explain avx2 --host host.txt.gz --cpu Haswell"),
        ("check -- -dash.txt.gz Haswell", "-dash.txt.gz is a file", "check Haswell ./-dash.txt.gz"),
        ("guest --host EPYC-Milan --quiet --no-color", "EPYC-Milan is a CPU", "guest --cpu EPYC-Milan --quiet --no-color"),
    ],
)
def test_words_in_each_others_place_are_answered_with_the_call_that_was_meant(typed: str, odd: str, meant: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"\nError: {odd}: did you mean vcpuid {meant}?\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("check host.txt.gz", "host.txt.gz is a file; missing CPU"),
        ("check host.txt.gz other.txt.gz", "host.txt.gz is a file; missing CPU"),
        ("qemu table host.txt.gz", "host.txt.gz is a file; missing CPU"),
        ("explain host", "host is a CPU; missing argument 'FEATURE...'"),
        ("explain host.txt.gz", "host.txt.gz is a file; missing argument 'FEATURE...'"),
        ("hyperv avx2=off --domain guest.xml", "avx2=off is a property of a CPU; --cpu and --domain both name the guest's CPU"),
        ("guest avx2=off --recording host.txt.gz", "avx2=off is a property of a CPU; --recording shows a guest as it ran; leave --cpu out"),
        ("drift Haswell host.txt.gz", "Haswell is a CPU; give --from or --to, --to-cpu or --to-domain: what the two sides differ in"),
        ("fleet drift EPYC hosts", "EPYC is a CPU; give --from or --to: what the two sides differ in"),
        ("diff host", "host is a CPU; give HOST, or a --recording with the host's snapshot"),
        ("probe avx2 EPYC --no-guest", "EPYC is a CPU; --no-guest starts no guest: leave --table, --cpu, --host, --force and --hide out"),
    ],
)
def test_where_something_is_missing_in_the_call_it_is_said_and_no_call(typed: str, said: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].partition(" (example:")[0] == f"Error: {said}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "new\nline.txt.gz", "Haswell"], "Error: new\\nline.txt.gz is a file"),
        (["check", "no\udcfftext.txt.gz", "Haswell"], "Error: no\\udcfftext.txt.gz is a file"),
        (["check", "./" * 1500 + "host.txt.gz", "Haswell"], "host.txt.gz is a file"),
        (["hyperv", "avx2", "avx2=off"], "unexpected extra argument (avx2=off)"),
        (["check", "host.txt.gz", "avx2", "Haswell"], "Haswell: No such file or directory"),
        (["check", "EPYC", "Haswell"], "Haswell: No such file or directory"),
        (["guest", "guest.xml", "-hle"], "No such option"),
    ],
)
def test_where_a_command_cannot_be_printed_or_loses_a_word_there_is_none(words: list[str], said: str, folder: Path) -> None:
    done = vcpuid(*words, cwd=folder)
    assert done.returncode in (2, 3)
    assert "did you mean vcpuid" not in done.stderr
    assert said in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("typed", "own"),
    [
        ("fleet baseline EPYC-Milan hosts", "fleet baseline hosts"),
        ("fleet blame hosts --cpu EPYC-Milan", "fleet blame hosts"),
        ("fleet baseline EPYC-Milan", ""),
        ("kvm supported EPYC-Milan", "kvm supported"),
        ("convert EPYC-Milan --to json", ""),
    ],
)
def test_where_no_cpu_is_taken_the_call_without_it_and_its_check_are_told(typed: str, own: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    check = f"vcpuid check EPYC-Milan{' hosts' if 'hosts' in typed else ''}"
    assert done.stderr.endswith(f" takes none: did you mean {f'vcpuid {own} or ' if own else ''}{check}?\n")


@pytest.mark.parametrize(
    ("typed", "word", "meant"),
    [
        ("check host -avx2 host.txt.gz", "-avx2", "check host,-avx2 host.txt.gz"),
        ("check host, -avx2 host.txt.gz", "-avx2", "check host,-avx2 host.txt.gz"),
        ("check EPYC +avx2 hv-time=on -hle host.txt.gz", "+avx2", "check EPYC,+avx2,hv-time=on,-hle host.txt.gz"),
        ("guest --host host.txt.gz -hle", "-hle", "guest host.txt.gz --cpu host,-hle"),
    ],
)
def test_a_property_apart_from_its_cpu_is_put_behind_it(typed: str, word: str, meant: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"\nError: {word} is a property of a CPU: did you mean vcpuid {meant}?\n")


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("decode host host", "host is a CPU, and vcpuid decode takes none: did you mean vcpuid check host?"),
        ("convert EPYC host.txt.gz", "EPYC is a CPU, and vcpuid convert takes none: did you mean vcpuid check EPYC host.txt.gz?"),
    ],
)
def test_of_two_calls_one_that_would_be_refused_is_not_told(typed: str, said: str, folder: Path) -> None:
    assert vcpuid(*typed.split(), cwd=folder).stderr.endswith(f"\nError: {said}\n")


def test_a_value_that_begins_with_a_dash_is_a_value() -> None:
    done = vcpuid("worth", "--host", HOST, "--hwcaps", "-avx2")
    assert (done.returncode, done.stderr.partition(":")[2]) == (
        3,
        " glibc.cpu.hwcaps takes no '-avx2': a feature with - before it, or a preference\n",
    )


@pytest.mark.parametrize("typed", ["check EPYC-Milan host", "check host EPYC-Milan"])
def test_of_two_cpus_one_is_no_host(typed: str) -> None:
    done = vcpuid(*typed.split())
    assert done.returncode == 2
    said = "host is a CPU, as EPYC-Milan is, and HOST a file, or left out for this machine: did you mean vcpuid check EPYC-Milan?"
    assert done.stderr.endswith(f"\nError: {said}\n")


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("guest host.txt.gz other.txt.gz", 2, "Error: Got unexpected extra argument (other.txt.gz)"),
        ("guest none", 3, "vcpuid: none: No such file or directory"),
        ("explain avx2 hosts", 3, "vcpuid: no CPU feature is called 'hosts'"),
        ("fleet migrate hosts none nobody", 3, "hosts: no host is called 'none'"),
        ("fleet history hosts host", 3, "has no history"),
        ("fleet baseline hsots", 3, "hsots: no such folder, and a store's name ends in .duckdb or .parquet; did you mean hosts?"),
    ],
)
def test_where_nothing_better_is_known_the_error_stays(typed: str, status: int, said: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr.splitlines()[-1]
    assert "did you mean vcpuid" not in done.stderr


def test_a_store_whose_hosts_are_called_as_models_is_asked_about_them(folder: Path) -> None:
    for name in ("EPYC", "max"):
        shutil.copy(HOST, folder / "hosts" / f"{name}.txt.gz")
    assert vcpuid("fleet", "migrate", "hosts", "EPYC", "max", cwd=folder).returncode == 0


def test_a_file_of_the_name_of_a_model_takes_nothing_from_the_model(folder: Path) -> None:
    shutil.copy(HOST, folder / "qemu64")
    assert vcpuid("check", "qemu64", "qemu64", "--qemu", "11.1", "--quiet", cwd=folder).returncode == 0


def test_a_host_that_is_neither_there_nor_a_model_is_no_more_than_that() -> None:
    done = vcpuid("guest", "--host", "none.txt")
    assert (done.returncode, done.stderr) == (3, "vcpuid: none.txt: No such file or directory\n")


def test_of_each_place_for_a_host_it_is_known_that_it_is_one() -> None:
    offered = [
        (" ".join(words), one.name)
        for words, verb in commands(cli)
        for one in verb.params
        if one._custom_shell_complete in (choices.hosts, choices.cpus_then_hosts)
        and not {other.name for other in verb.params} & swapped._FOREIGN
    ]
    assert len(offered) > 40
    assert [(verb, name) for verb, name in offered if name not in {*swapped._PLACES, swapped._CPU_THEN_HOSTS, "recording"}] == []
