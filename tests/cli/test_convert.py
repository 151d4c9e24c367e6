"""vcpuid convert: what is written is what the next program reads, what is lost is named, and nothing is written of what cannot be."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.captures import capture
from support.command import Done, vcpuid
from vcpuid.formats.writing import WRITABLE
from vcpuid.sources import read, read_all

HOST = capture("kvm-intel.corei7_skylake_x@6.12")


def convert(*args: str, stdin: str = "") -> Done:
    return vcpuid("convert", *args, stdin=stdin)


@pytest.mark.parametrize("form", WRITABLE)
def test_every_form_is_written_and_its_losses_are_named(form: str) -> None:
    done = convert(str(HOST), "--to", form)
    assert done.stdout
    lost = done.stderr.splitlines()
    assert done.returncode == bool(lost)
    assert all(line.startswith(f"vcpuid: {form} cannot hold ") for line in lost)
    assert (not lost) == (form in ("snapshot", "json"))


def test_a_chain_of_forms_ends_where_it_began() -> None:
    text = convert(str(HOST), "--to", "cpuid").stdout
    for form in ("tycho", "instlatx64", "cpudata", "json", "cpuid"):
        done = convert("-", "--to", form, stdin=text)
        assert not done.stderr
        text = done.stdout
    assert text == convert(str(HOST), "--to", "cpuid").stdout


def test_a_part_is_chosen_and_written_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "supported.json"
    done = convert(str(HOST), "--to", "firecracker", "--part", "supported", "--output", str(file))
    assert done.returncode == 1
    assert "cannot hold that these are KVM_GET_SUPPORTED_CPUID" in done.stderr
    assert read(file).table == read(HOST).supported


def test_all_cpus_or_the_one_with_a_number(tmp_path: Path) -> None:
    one = convert(str(HOST), "--to", "cpuid").stdout
    file = tmp_path / "two.txt"
    file.write_text(one + one.replace("CPU 0:", "CPU 1:").replace("0x00050654", "0x00050655"), encoding="utf-8")
    assert convert(str(file), "--to", "cpuid").stdout == file.read_text(encoding="utf-8")
    done = convert(f"{file}#1", "--to", "snapshot")
    assert done.stdout.splitlines()[1].startswith("RAW 00000001.0 00050655 ")
    assert not done.stderr
    assert "1 of 2 CPUs: this form holds one" in convert(str(file), "--to", "snapshot").stderr
    assert len(read_all(file)) == 2


@pytest.mark.parametrize(
    ("args", "stdin", "says"),
    [
        ((str(HOST), "--to", "json", "--part", "raw"), "", "json holds all tables"),
        ((str(HOST), "--to", "cpuid", "--part", "table"), "", "the snapshot has not the table for KVM_SET_CPUID2"),
        (("-", "--to", "cpuid"), "flags : fpu\n", "the snapshot has nothing that Todd Allen's cpuid -r holds"),
        (("-", "--to", "json"), "   0x00000000 0x00: eax=0x0000", "standard input:1: an answer of CPUID that is cut"),
        ((f"{HOST}#1", "--to", "json"), "", "it has no CPU 1"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_status_3(args: tuple[str, ...], stdin: str, says: str) -> None:
    done = convert(*args, stdin=stdin)
    assert done.returncode == 3
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


def test_an_unknown_form_is_a_usage_error() -> None:
    assert convert(str(HOST), "--to", "word").returncode == 2


# A guest's <cpu>

GOLDEN = Path(__file__).parents[1] / "golden"
HOST_MODEL, PASSED, NAMED = (str(GOLDEN / f"{name}.xml") for name in ("host-model", "host-passthrough", "haswell"))
OF = ("--libvirt", "11.3", "--qemu", "11.1")


def test_a_guests_cpu_is_written_again_as_it_is() -> None:
    done = convert(NAMED, "--to", "libvirt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "<cpu mode='custom' match='exact' check='full'>",
        "  <model fallback='forbid'>Haswell</model>",
        "  <feature policy='require' name='xop'/>",
        "</cpu>",
    ]
    again = convert("-", "--to", "libvirt", stdin=done.stdout)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert convert(HOST_MODEL, "--to", "libvirt").stdout == "<cpu mode='host-model'/>\n"


def test_a_guests_cpu_is_the_argument_that_libvirt_starts() -> None:
    done = convert(NAMED, "--to", "qemu", *OF)
    assert (done.returncode, done.stdout) == (1, "Haswell,xop=on\n")
    assert done.stderr.splitlines() == ["vcpuid: qemu cannot hold check='full'", "vcpuid: qemu cannot hold fallback='forbid'"]
    done = convert(PASSED, "--to", "qemu", *OF)
    assert (done.returncode, done.stdout, done.stderr) == (0, "host,migratable=on\n", "")


def test_a_host_is_asked_for_where_the_mode_asks_for_it() -> None:
    done = convert(HOST_MODEL, "--to", "qemu", *OF)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == f"vcpuid: {HOST_MODEL}: mode='host-model' is what libvirt makes of a host's CPU: give --host\n"
    done = convert(HOST_MODEL, "--to", "qemu", *OF, "--host", str(HOST))
    assert done.returncode == 1
    assert done.stdout.startswith("Skylake-Server,vmx=on,")
    assert done.stderr.splitlines()[-1] == "vcpuid: qemu cannot hold mode='host-model'"
    refused = convert(str(GOLDEN / "icelake.xml"), "--to", "qemu", *OF, "--host", str(HOST))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("vcpuid: libvirt 11.3 refuses: the CPU is incompatible with host CPU: ")


@pytest.mark.parametrize("form", ["snapshot", "json"])
def test_what_a_snapshot_does_not_hold_of_a_guests_cpu_is_named(form: str) -> None:
    done = convert(NAMED, "--to", form)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"vcpuid: {form} cannot hold check='full'", f"vcpuid: {form} cannot hold fallback='forbid'"]


def test_options_of_a_guests_cpu_are_for_no_other() -> None:
    assert (
        "--host has no effect: it is for a guest's <cpu> written --to qemu"
        in convert(str(HOST), "--to", "json", "--host", str(HOST)).stderr
    )
    assert convert(NAMED, "--to", "qemu", "--part", "raw").returncode == 2


def test_a_guest_read_from_a_pipe_is_a_guest(tmp_path: Path) -> None:
    pipe = tmp_path / "guest.pipe"
    os.mkfifo(pipe)
    text = "<cpu mode='custom' match='exact'><model>Skylake-Client</model><feature policy='require' name='avx512f'/></cpu>"
    with ThreadPoolExecutor() as pool:
        pool.submit(pipe.write_text, text, encoding="utf-8")
        done = convert(str(pipe), "--to", "qemu", "--qemu", "10.0", "--libvirt", "9.0")
    assert done.stdout == "Skylake-Client,avx512f=on\n"
