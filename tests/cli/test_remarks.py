"""What verbs say of the dump that they were given: one line on standard error where an answer depends on it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from support.captures import CAPTURES
from support.command import vcpuid
from vcpuid.cli.setup import read_host
from vcpuid.cpuid import CpuidTable, Entry, Snapshot, excerpt
from vcpuid.formats.writing import write
from vcpuid.sources import read, read_dump

RAW = CpuidTable([Entry(0, 0, 0, 7, 0x756E6547, 0x6C65746E, 0x49656E69), Entry(7, 0, 0, 0, 0x219C07AB, 0, 0)])
HOST = str(CAPTURES / "kvm" / "kvm-intel.corei7_skylake_x@6.12.txt.gz")
PAIR = [Snapshot(raw=RAW), Snapshot(raw=RAW)]
FIRST = "the first of 2 CPUs in the dump: append #1 and so on to its name for another"
EXCERPT = "leaf 0 is missing: this is a part of what CPUID answers"


def dump(path: Path, snapshots: list[Snapshot], form: str) -> str:
    path.write_text("".join(line + "\n" for line in write(snapshots, form)), encoding="utf-8")
    return str(path)


def test_the_first_of_several_cpus_is_said_to_be_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = dump(tmp_path / "dump.txt", PAIR, "tycho")
    assert read_host(source).snapshot.raw == RAW
    assert capsys.readouterr().err == f"vcpuid: {source}: {FIRST}\n"
    assert read_host(f"{source}#1").snapshot.raw == RAW
    assert capsys.readouterr().err == ""


def test_an_excerpt_is_said_to_be_one(tmp_path: Path) -> None:
    source = dump(tmp_path / "dump.txt", [Snapshot(raw=CpuidTable(RAW[1:]))], "cpuid")
    assert read_dump(source).remarks() == (EXCERPT,)
    done = vcpuid("kvm", "supported", source, "--kernel", "7.3")
    assert (done.returncode, done.stderr) == (0, f"vcpuid: {source}: {EXCERPT}\n")


@pytest.mark.parametrize("cpu", ["qemu64", "EPYC", "coreduo", "host"])
def test_a_guest_that_vcpuid_wrote_is_whole(tmp_path: Path, cpu: str) -> None:
    """Its table lacks the last leaves of which leaf 0 or 0x80000000 tells: CPUID answers zeros for them."""
    path = tmp_path / "guest.txt"
    path.write_text(vcpuid("guest", "--cpu", cpu, "--qemu", "11.1", "--host", HOST, "--format", "lines").stdout, encoding="utf-8")
    assert excerpt.missing(read(path).raw)
    assert read_dump(path).remarks() == ()
    assert vcpuid("worth", str(path)).stderr == ""


def test_notes_in_a_file_of_ones_own_are_the_collectors(tmp_path: Path) -> None:
    noted = Snapshot(raw=RAW, notes=("taken on a Sunday", "HV ERR EINVAL: no Hyper-V"))
    for form in ("snapshot", "json"):
        told = read_dump(dump(tmp_path / form, [noted], form))
        assert (told.first, told.remarks()) == (noted, ())
    pair = dump(tmp_path / "pair", [noted, noted], "json")
    assert read_dump(pair).remarks() == (FIRST,)
    assert read(pair).notes[-1] == FIRST


def test_what_is_written_of_all_cpus_is_remarked_on_once(tmp_path: Path) -> None:
    def convert(source: str, form: str) -> tuple[int, str]:
        done = vcpuid("convert", source, "--to", form)
        return done.returncode, done.stderr

    part = Snapshot(raw=CpuidTable(RAW[1:]))
    source = dump(tmp_path / "dump.txt", [Snapshot(raw=RAW), part, part], "cpuid")
    assert convert(source, "tycho") == (0, f"vcpuid: {source}: {EXCERPT}\n")
    assert convert(f"{source}#0", "tycho") == (0, "")
    assert convert(f"{source}#2", "snapshot") == (0, f"vcpuid: {source}#2: {EXCERPT}\n")
    kept = dump(tmp_path / "kept.txt", [Snapshot(raw=RAW, notes=("taken on a Sunday",))], "snapshot")
    assert convert(kept, "json") == (0, "")


def test_a_dump_on_standard_input_is_called_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(line + "\n" for line in write(PAIR, "cpuid"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
    read_host("-")
    assert capsys.readouterr().err == f"vcpuid: standard input: {FIRST}\n"


def test_a_dump_whose_cpus_each_lack_something_else_does_not_flood_the_terminal(tmp_path: Path) -> None:
    cpus = (
        f"CPU {number}:\n"
        f"   0x00000000 0x00: eax=0x{0x100 + number:08x} ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
        "   0x00000001 0x00: eax=0x000906ea ebx=0x00100800 ecx=0x7ffafbff edx=0xbfebfbff\n"
        for number in range(200)
    )
    path = tmp_path / "many.txt"
    path.write_text("".join(cpus), encoding="utf-8")
    for args in (("decode", "--all-cpus", str(path)), ("convert", "--to", "snapshot", str(path))):
        lines = vcpuid(*args).stderr.splitlines()
        assert len(lines) < 12
        assert any("192 more remarks like these" in line for line in lines)


def test_vulnerabilities_among_features_are_told_by_what_the_guest_s_kernel_makes_of_them() -> None:
    done = vcpuid("explain", "spectre", "l1tf", "avx2", "--host", str(CAPTURES / "kvm" / "kvm-intel.sapphire_rapids-xfd@6.12.txt.gz"))
    assert "Not told" not in done.stdout
    assert "\nThe guest sees: avx2\n" in done.stdout
    assert "\nIn the guest, mitigated: spectre_v1 spectre_v2\nIn the guest, not affected: l1tf\n" in done.stdout
    assert done.returncode == 0
