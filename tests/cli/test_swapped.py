"""A host in a CPU's place, a CPU in a host's, a file in a feature's: what was meant is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.captures import capture
from support.command import vcpuid

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
MODEL = "QEMU has a CPU model of that name: did you mean --cpu EPYC-Milan?"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hosts").mkdir()
    for name in ("host.txt.gz", "other.txt.gz", "hosts/one.txt.gz"):
        shutil.copy(HOST, tmp_path / name)
    (tmp_path / "guest.xml").write_text("<domain type='kvm'/>", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("check host.txt.gz EPYC-Milan", "check EPYC-Milan host.txt.gz"),
        ("check host.txt.gz#0 EPYC-Milann,+vmx", "check EPYC-Milann,+vmx 'host.txt.gz#0'"),
        ("check hosts EPYC-Milan", "check EPYC-Milan hosts"),
        ("check live host", "check host live"),
        ("check host.txt.gz other.txt.gz EPYC-Milan", "check EPYC-Milan host.txt.gz other.txt.gz"),
        ("check host.txt.gz guest.xml", "check guest.xml host.txt.gz"),
        ("check host.txt.gz", "check CPU host.txt.gz"),
        ("check host.txt.gz other.txt.gz", "check CPU host.txt.gz other.txt.gz"),
        ("check --cpu host.txt.gz --host EPYC-Milan", "check EPYC-Milan host.txt.gz"),
        ("qemu table host.txt.gz EPYC-Milan", "qemu table EPYC-Milan host.txt.gz"),
        ("qemu expand host.txt.gz EPYC-Milan", "qemu expand EPYC-Milan host.txt.gz"),
    ],
)
def test_a_host_before_the_cpu_is_answered_with_the_call_that_was_meant(typed: str, meant: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"Error: CPU comes before HOST: vcpuid {meant}\n")


def test_a_file_of_the_name_of_a_model_takes_nothing_from_the_model(folder: Path) -> None:
    shutil.copy(HOST, folder / "qemu64")
    assert vcpuid("check", "qemu64", "qemu64", "--qemu", "11.1", "--quiet", cwd=folder).returncode == 0


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("guest --host EPYC-Milan", 3, f"EPYC-Milan: No such file or directory; {MODEL}"),
        ("diff host.txt.gz EPYC-Milan", 3, f"EPYC-Milan: No such file or directory; {MODEL}"),
        ("check host EPYC-Milan", 3, f"EPYC-Milan: No such file or directory; {MODEL}"),
        ("linux flags EPYC-Milan,+vmx", 3, "EPYC-Milan,+vmx: No such file or directory; QEMU has a CPU model of that name"),
        ("kvm supported EPYC-Milan", 3, "QEMU has a CPU model of that name: HOST is a file, or live"),
        ("guest --cpu host.txt.gz", 2, "host.txt.gz is a file: did you mean --host host.txt.gz?"),
        ("guest --cpu live", 2, "live is this machine: did you mean --host live?"),
        ("explain avx2 --cpu guest.xml", 2, "guest.xml is a file: did you mean --domain guest.xml?"),
        ("explain host.txt.gz avx2", 3, "'host.txt.gz'; it is a file: give a host with --host, and a log on standard input, as '-'"),
    ],
)
def test_what_stands_in_the_place_of_another_is_said_to(typed: str, status: int, said: str, folder: Path) -> None:
    done = vcpuid(*typed.split(), cwd=folder)
    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr


def test_a_host_that_is_neither_there_nor_a_model_is_no_more_than_that() -> None:
    done = vcpuid("guest", "--host", "none.txt")
    assert (done.returncode, done.stderr) == (3, "vcpuid: none.txt: No such file or directory\n")
