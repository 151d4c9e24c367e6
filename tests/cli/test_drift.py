"""vcpuid drift on the command line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from support.captures import capture
from support.command import vcpuid
from vcpuid.cli.drift import named_stack
from vcpuid.cli.setup import Asked
from vcpuid.releases import KERNELS, QEMUS

MILAN = str(capture("kvm-amd.EPYC-Milan-v2@7.3"))
SKYLAKE = str(capture("kvm-intel.corei7_skylake_x@6.12"))
SIDES = ("--from", "qemu=7.2", "--to", "qemu=10.0,nested=0")


def test_the_answer_comes_first_and_names_both_sides() -> None:
    done = vcpuid("drift", MILAN, *SIDES)
    first, _, before, after = done.stdout.splitlines()[:4]
    assert done.returncode == 1
    assert first.startswith("The guest loses ")
    assert before.startswith("before: QEMU 7.2, ")
    assert after.startswith("after:  QEMU 10.0, ")
    assert before.endswith(", -cpu host")
    assert "kvm_amd with nested=1" in done.stdout


def test_a_row_a_feature_for_programs() -> None:
    document = json.loads(vcpuid("drift", MILAN, *SIDES, "--format", "json").stdout)
    lines = [json.loads(line) for line in vcpuid("drift", MILAN, *SIDES, "--format", "jsonl").stdout.splitlines()]
    table = list(csv.DictReader(io.StringIO(vcpuid("drift", MILAN, *SIDES, "--format", "csv").stdout)))
    plain = vcpuid("drift", MILAN, *SIDES, "--format", "lines").stdout.splitlines()
    assert document["changes"] == lines
    assert [row["feature"] for row in table] == [line["feature"] for line in lines] == [line.split()[1] for line in plain]
    assert "lost svm kvm kvm.svm.nested" in plain
    assert document["counts"]["differ"] == len(lines)


def test_what_neither_side_changes_is_status_0() -> None:
    done = vcpuid("drift", MILAN, "--cpu", "Haswell", "--to", "nested=0")
    assert done.returncode == 0
    assert done.stdout.startswith("The guest loses and gains nothing; ")


def test_a_side_that_does_not_start_the_guest() -> None:
    done = vcpuid("drift", SKYLAKE, "--from", "qemu=7.2", "--to", "qemu=7.2,machine=pc-q35-10.0")
    assert done.returncode == 1
    assert "before, where it starts: QEMU 7.2, q35, " in done.stdout
    assert "after: unsupported machine type" in done.stdout


def test_options_of_both_sides_hold_where_a_side_does_not_name_them() -> None:
    asked = ("--machine", "pc", "--param", "npt=0", "--to", "npt=1,machine=q35")
    document = json.loads(vcpuid("drift", MILAN, *asked, "--format", "json").stdout)
    told = [(document[side]["setup"]["machine"], document[side]["setup"]["params"]) for side in ("before", "after")]
    assert told == [("pc", {"npt": 0}), ("q35", {"npt": 1})]


def test_what_if_holds_on_both_sides() -> None:
    assert vcpuid("drift", MILAN, "--what-if", *SIDES, "--quiet").returncode == 1
    assert [named_stack(Asked(what_if=wanted), "--to", "qemu=10.0")[0].what_if for wanted in (False, True)] == [False, True]


def domain(path: Path, cpu: str) -> str:
    """Write a domain with a <cpu>."""
    path.write_text(f"<domain type='kvm'><name>d</name><memory>1</memory><os><type>hvm</type></os>{cpu}</domain>", encoding="utf-8")
    return str(path)


def test_two_domains_on_one_host(tmp_path: Path) -> None:
    one = domain(tmp_path / "one.xml", "<cpu check='none'><model>Skylake-Server</model></cpu>")
    other = domain(tmp_path / "other.xml", "<cpu check='none'><model>Skylake-Server</model><feature policy='disable' name='avx2'/></cpu>")

    def changes(*args: str) -> dict[str, tuple[str, str, str]]:
        done = vcpuid("drift", SKYLAKE, "--domain", one, *args, "--libvirt", "11.3", "--format", "jsonl")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert done.returncode == bool(rows), done.stderr
        return {row["feature"]: (row["change"], row["party"], row["why"]) for row in rows}

    qemu = ("--from", "qemu=10.0", "--to", "qemu=10.0")
    assert changes("--from", "qemu=10.0,libvirt=11.3", "--to", "qemu=10.0,libvirt=9.0") == {}
    told = changes("--to-domain", other, *qemu)
    assert told["avx2"][:2] == ("lost", "domain")
    assert told["avx2"][2].endswith("the domain's <cpu> has <feature policy='disable' name='avx2'/>")
    by_model = changes("--to-cpu", "Nehalem", *qemu)
    assert by_model["avx2"][:2] == ("lost", "qemu")
    head = vcpuid("drift", SKYLAKE, "--domain", one, "--to-domain", other, *qemu, "--libvirt", "11.3").stdout.splitlines()
    assert head[2] == "before: libvirt 11.3: the domain has the model Skylake-Server"
    assert head[4] == "after:  libvirt 11.3: the domain has the model Skylake-Server"


def test_a_domain_that_libvirt_refuses_is_told_in_the_first_line(tmp_path: Path) -> None:
    strict = domain(tmp_path / "strict.xml", "<cpu match='exact'><model>Icelake-Server</model></cpu>")
    done = vcpuid("drift", SKYLAKE, "--domain", strict, "--from", "libvirt=9.0,qemu=10.0", "--to", "libvirt=11.3,qemu=10.0")
    assert done.returncode == 1
    assert done.stdout.startswith("libvirt does not start the guest before and after. Without its check: the guest loses and gains nothing")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        ((), 2, "give --from or --to"),
        (("--to-cpu", "max", "--to-domain", "d.xml"), 2, "--to-cpu and --to-domain both name the guest's CPU"),
        (("--to", "kernel"), 3, "--to: 'kernel' is not of the form NAME=VALUE"),
        (("--to", "kernel="), 3, "--to: 'kernel=' is not of the form NAME=VALUE"),
        (("--to", "kernel=6.1,kernel=6.12"), 3, "--to: kernel stands there twice"),
        (("--to", "kernel=new"), 3, "'new' is not a release number"),
        (("--to", "qmu=7.2"), 3, "did you mean qemu"),
        (("--to", "libvirt=11.3"), 0, "--to libvirt=11.3 has no effect"),
    ],
)
def test_a_wrong_side(arguments: tuple[str, ...], status: int, told: str) -> None:
    done = vcpuid("drift", MILAN, *arguments)
    assert (done.returncode, told in done.stderr) == (status, True), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("wrong", "meant"), [("qmeu=7.2", "qemu"), ("kernal=6.1", "kernel"), ("kvm_amd.nestd=0", "kvm_amd.nested")])
def test_a_misspelled_name_is_asked_about(wrong: str, meant: str) -> None:
    done = vcpuid("drift", MILAN, "--to", wrong)
    assert done.returncode == 3
    assert f"did you mean {meant}" in done.stderr


def test_two_commas_are_one_in_a_value() -> None:
    done = vcpuid("drift", MILAN, "--to", "cmdline=clearcpuid=avx,,aes,kernel=7.3", "--format", "json")
    document = json.loads(done.stdout)
    assert document["after"]["setup"]["params"] == {"cmdline": "clearcpuid=avx,aes"}
    assert {change["feature"] for change in document["changes"]} >= {"aes", "avx"}


def test_msrs_that_are_not_told_are_not_the_same(tmp_path: Path) -> None:
    document = json.loads(vcpuid("drift", SKYLAKE, "--from", "kvm_intel.ept=1", "--to", "kvm_intel.ept=0", "--format", "json").stdout)
    assert document["counts"]["not_told"] > 50
    assert document["changes"] == []
    assert [one["place"] for one in document["registers"]] == ["CPUID[eax=80000008h].EAX"]  # its address bits


def test_a_release_of_libvirt_counts_where_either_side_has_a_domain(tmp_path: Path) -> None:
    guest = domain(tmp_path / "g.xml", "<cpu check='none'><model>Skylake-Server</model></cpu>")
    assert "has no effect" not in vcpuid("drift", SKYLAKE, "--to-domain", guest, "--libvirt", "11.3").stderr
    assert "--libvirt has no effect" in vcpuid("drift", SKYLAKE, "--to", "kernel=6.1", "--libvirt", "11.3").stderr


def test_a_cut_answer_keeps_what_is_lost_and_the_cause_of_it() -> None:
    """What the guest loses without arch-capabilities had the room that its own row needed."""
    sides = ("--from", "kernel=6.1,qemu=7.2", "--to", "kernel=7.3,qemu=11.1,nested=0")
    shown = vcpuid("drift", MILAN, *sides, env={"COLUMNS": "80"}).stdout
    assert "of 8 rows; --all prints the rest" in shown
    assert shown.index("lost    qemu   arch_capabilities") < shown.index("now: it needs")
    assert "load kvm_amd" in shown
    assert "\ngained " not in shown


@pytest.mark.parametrize("side", ["--from", "--to"])
def test_a_kernel_that_the_host_does_not_tell_is_not_the_same(side: str, tmp_path: Path) -> None:
    """The newest stands for it, which may be the one that is asked about."""
    host = tmp_path / "host.txt"
    lines = gzip.decompress(Path(SKYLAKE).read_bytes()).decode().splitlines(keepends=True)
    host.write_text("".join(line for line in lines if not line.startswith("KERNEL ")), encoding="utf-8")
    done = vcpuid("drift", str(host), side, f"kernel={KERNELS[-1]}", "--cpu", "qemu64")
    other = "--to" if side == "--from" else "--from"
    assert (done.returncode, done.stdout) == (3, "")
    assert (
        f"before and after are the same, QEMU {QEMUS[-1]} (the newest known), q35, Linux {KERNELS[-1]}: "
        f"which kernel runs on the host is not told; {other} kernel=RELEASE names it" in done.stderr
    )
    done = vcpuid("drift", str(host), side, "kernel=6.12", "--cpu", "qemu64")
    assert f"the kernel is not told: it is taken to be Linux {KERNELS[-1]}, the newest with tables" in done.stderr
    assert f"which kernel runs on the host is not told; {other} kernel=RELEASE names it" in done.stderr
    assert done.stdout.count(f"Linux {KERNELS[-1]} (assumed)") == 1
    assert "is not told" not in vcpuid("drift", SKYLAKE, side, "kernel=6.12", "--cpu", "qemu64").stderr


@pytest.mark.parametrize("side", ["--from", "--to"])
def test_a_qemu_that_the_host_does_not_tell_is_not_the_same(side: str) -> None:
    """The rule is that of a kernel, and of many hosts: the newest stands for it, which may be the one that is asked about."""
    other = "--to" if side == "--from" else "--from"
    done = vcpuid("drift", SKYLAKE, side, f"qemu={QEMUS[-1]}", "--cpu", "qemu64")
    assert (done.returncode, done.stdout) == (3, "")
    assert f": which QEMU runs on the host is not told; {other} qemu=RELEASE names it" in done.stderr
    done = vcpuid("drift", SKYLAKE, side, "qemu=10.0", "--cpu", "qemu64")
    assert f"which QEMU runs on the host is not told; {other} qemu=RELEASE names it" in done.stderr
    assert f"QEMU {QEMUS[-1]} (the newest known), q35" in done.stdout
    both = vcpuid("drift", SKYLAKE, side, "qemu=10.0", other, "qemu=10.1", "--cpu", "qemu64")
    assert "is not told" not in both.stderr
