"""worth and hyperv on the command line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest

from support.captures import CAPTURES, capture
from support.command import vcpuid
from vcpuid.cli.output import FORMATS
from vcpuid.software.brief import WITHOUT_AVX2

SKYLAKE = str(capture("kvm-intel.corei7_skylake_x@6.12"))
IVY = str(capture("kvm-intel.corei7_ivy_bridge_3770k@6.12"))
RECOMMENDED = (
    "hv-relaxed,hv-vapic,hv-time,hv-vpindex,hv-runtime,hv-synic,hv-stimer,hv-frequencies,hv-tlbflush,hv-ipi,hv-stimer-direct,"
    "hv-xmm-input,hv-tlbflush-ext"
)


def rows(*args: str) -> list[dict[str, str]]:
    done = vcpuid(*args, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("verb", [("worth", SKYLAKE), ("hyperv", "--fields", SKYLAKE), ("hyperv", "--host", SKYLAKE)])
def test_every_format_prints_and_parses(verb: tuple[str, ...], form: str) -> None:
    done = vcpuid(*verb, "--format", form)
    assert done.returncode in (0, 1), done.stderr
    assert done.returncode == (verb[0] == "hyperv")
    if form == "json":
        assert json.loads(done.stdout)
    elif form == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    elif form == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(done.stdout))}) == 1


def test_worth_of_a_guest_tells_what_holds_it_back() -> None:
    found = {(row["topic"], row["item"]): row for row in rows("worth", "--cpu", "IvyBridge", "--host", SKYLAKE, "--qemu", "10.0")}
    assert found["level", "x86-64-v2"]["value"] == "yes"
    assert found["level", "x86-64-v3"]["why"] == "lacks AVX2 BMI1 BMI2 FMA LZCNT MOVBE"
    assert found["glibc 2.41", "strlen"]["value"] == "sse2"
    assert found["glibc 2.41", "strlen"]["why"] == "not avx2: lacking AVX2 BMI1 BMI2 LZCNT"
    assert found["clock", "kvm-clock"]["value"] == "chosen"


def test_forced_flags_fault_where_the_processor_lacks_them() -> None:
    forced = ("worth", "--cpu", "Haswell,x-force-features=on", "--qemu", "10.0", "--glibc", "2.36")
    on_ivy = {row["item"]: row for row in rows(*forced, "--host", IVY)}
    assert on_ivy["strlen"]["why"] == "FAULTS: the host lacks AVX2 BMI1 BMI2 LZCNT"
    assert not on_ivy["memcpy"]["why"].startswith("FAULTS"), "AVX is there, and REP MOVSB always is"
    assert not any(row["why"].startswith("FAULTS") for row in rows(*forced, "--host", SKYLAKE))


def test_rtm_forced_on_takes_the_functions_that_execute_xtest() -> None:
    cpu = "Haswell,model=94,stepping=15,-hle,+rtm,x-force-features=on"
    told = {row["item"]: row for row in rows("worth", "--cpu", cpu, "--host", IVY, "--qemu", "10.0", "--glibc", "2.36")}
    assert told["strlen"]["value"] == "avx2", "glibc itself takes RTM away from this model"
    cpu = cpu.replace("model=94", "model=79")
    told = {row["item"]: row for row in rows("worth", "--cpu", cpu, "--host", IVY, "--qemu", "10.0", "--glibc", "2.36")}
    assert told["strlen"]["value"] == "avx2_rtm"
    assert "RTM" in told["strlen"]["why"]


def test_a_host_whose_kvm_answers_is_no_guest_s_table(tmp_path: Path) -> None:
    named = vcpuid("worth", SKYLAKE)
    assert named == vcpuid("worth", "--host", SKYLAKE)
    assert named.stdout.splitlines()[0] == "The guest reaches x86-64-v4, as its host does."
    two = vcpuid("worth", SKYLAKE, "--host", IVY)
    assert (two.returncode, two.stdout) == (2, "")
    assert two.stderr.endswith(f"Error: {SKYLAKE} is a host's snapshot, and --host names a host as well\n")
    alone = tmp_path / "processor.txt"  # of which no KVM is known to be a host
    alone.write_text(vcpuid("convert", SKYLAKE, "--to", "cpuid").stdout, encoding="utf-8")
    assert vcpuid("worth", str(alone)).stdout.splitlines()[1] == str(alone)


def test_hwcaps_are_those_of_the_tunable() -> None:
    plain, masked = (
        {row["item"]: row["value"] for row in rows("worth", "--host", SKYLAKE, "--glibc", "2.36", "--hwcaps", hwcaps)}
        for hwcaps in ("", "-AVX512VL,-AVX2")
    )
    assert plain["memchr"] == "evex"
    assert masked["memchr"] == "sse2"
    done = vcpuid("worth", SKYLAKE, "--hwcaps", "AVX2")
    assert done.returncode == 3
    assert "hwcaps" in done.stderr


def test_a_vendor_that_glibc_does_not_know_cannot_start_debian() -> None:
    found = rows("worth", "--cpu", "qemu64,vendor=Strange12345", "--host", SKYLAKE, "--qemu", "10.0")
    assert [row["value"] for row in found if row["item"] == "libc.so.6"] == ["does not start"] * 2


def test_hyperv_ends_with_0_where_windows_has_all_that_is_recommended() -> None:
    done = vcpuid("hyperv", "--cpu", f"host,{RECOMMENDED}", "--host", SKYLAKE, "--qemu", "10.0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].endswith(" finds all 13 recommended Hyper-V enlightenments")
    lacking = vcpuid("hyperv", "--cpu", "host,hv-relaxed", "--host", SKYLAKE, "--qemu", "10.0")
    assert lacking.returncode == 1
    first, basis, paste, idle, *_ = lacking.stdout.splitlines()
    assert (
        first
        == "A Windows guest with -cpu host,hv-relaxed lacks 12 of the 13 recommended enlightenments; 4 of them keep an idle guest quiet"
    )
    assert basis.startswith("QEMU 10.0, q35, Linux 6.12")
    assert paste == f"Recommended: -cpu host,{RECOMMENDED}"
    assert idle == "For a quiet idle guest, at least: hv-time,hv-vpindex,hv-synic,hv-stimer"
    assert vcpuid("hyperv", "--cpu", paste.partition("-cpu ")[2], "--host", SKYLAKE, "--qemu", "10.0").returncode == 0


def test_hyperv_lists_what_is_missing_and_all_only_when_asked() -> None:
    ask = ("hyperv", "--cpu", "host,hv-relaxed", "--host", SKYLAKE, "--qemu", "10.0")
    short, full = (vcpuid(*ask, *more).stdout.splitlines() for more in ((), ("--all",)))
    assert len(short) <= 24
    assert short[-1] == "--all prints all 22 enlightenments."
    assert not any(line.startswith("hv-relaxed ") for line in short)
    assert sum(line.startswith("hv-") for line in full) == 22
    marked = {line.split()[0] for line in short if line.startswith("hv-") and line.split()[1] == "idle"}
    assert marked == {"hv-time", "hv-vpindex", "hv-synic", "hv-stimer"}


def test_what_this_qemu_lacks_is_left_out_and_named() -> None:
    told = vcpuid("hyperv", "--cpu", "host", "--host", SKYLAKE, "--qemu", "7.0").stdout
    assert "hv-xmm-input is left out: QEMU 7.0 does not have it" in told
    paste = next(line for line in told.splitlines() if line.startswith("Recommended: -cpu "))
    assert "hv-xmm-input" not in paste
    assert vcpuid("check", paste.partition("-cpu ")[2], SKYLAKE, "--qemu", "7.0").returncode == 0


def test_on_a_kvm_without_hyperv_no_flag_is_said_to_run(tmp_path: Path) -> None:
    """QEMU ignores them there without a word, but for hv-vpindex, which it refuses."""
    without = tmp_path / "without.txt"
    lines = gzip.decompress(Path(SKYLAKE).read_bytes()).decode().splitlines(True)
    without.write_text("".join(line for line in lines if not line.startswith("HV ")) + "HV empty\n", encoding="utf-8")
    ask = ("--cpu", "host,hv-relaxed", "--host", str(without), "--qemu", "10.0")
    done = vcpuid("hyperv", *ask)
    assert done.returncode == 1
    assert done.stdout.startswith(
        "A Windows guest finds no Hyper-V on this host: its KVM offers none, so QEMU ignores every hv-* property\n"
    )
    assert "Recommended" not in done.stdout
    checked = vcpuid("check", "host,hv-relaxed", str(without), "--qemu", "10.0")
    assert checked.returncode == 1
    assert checked.stdout.startswith("-cpu host,hv-relaxed starts, but this host's KVM offers no Hyper-V: QEMU ignores hv-relaxed\n")
    assert "\nRecommended, keeps the most: -cpu host\n" in checked.stdout


def test_what_hyperv_asks_to_be_added_is_what_qemu_accepts() -> None:
    told = json.loads(vcpuid("hyperv", "--cpu", "host", "--host", SKYLAKE, "--qemu", "10.0", "--format", "json").stdout)
    assert not told["present"]
    again = vcpuid("hyperv", "--cpu", ",".join(("host", *told["missing"])), "--host", SKYLAKE, "--qemu", "10.0")
    assert again.returncode == 0, again.stderr


def brief(*args: str) -> list[str]:
    done = vcpuid("worth", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_first_line_is_the_level_and_the_second_on_what_it_stands() -> None:
    lines = brief("--cpu", "IvyBridge", "--host", SKYLAKE, "--qemu", "10.0")
    assert lines[0] == "The guest reaches x86-64-v2, its host x86-64-v4: for x86-64-v3 it lacks AVX2 BMI1 BMI2 FMA LZCNT MOVBE."
    assert lines[1].startswith("QEMU 10.0, q35, Linux 6.12")
    assert len(lines) < 24
    assert brief("--cpu", "host", "--host", SKYLAKE, "--qemu", "10.0")[0] == "The guest reaches x86-64-v4, as its host does."


def test_what_is_not_as_on_the_host_is_counted_and_all_of_it_is_printed_when_asked() -> None:
    asked = ("--cpu", "IvyBridge", "--host", SKYLAKE, "--qemu", "10.0", "--glibc", "2.41")
    (row,) = [line for line in brief(*asked) if line.startswith("glibc 2.41")]
    own, hosts = (
        {row["item"]: row["value"] for row in rows("worth", *asked[2:], "--cpu", cpu) if row["topic"] == "glibc 2.41"}
        for cpu in ("IvyBridge", "host")
    )
    assert f"{sum(own[name] != hosts[name] for name in own)} of {len(own)} functions" in row
    every = brief(*asked, "--all")
    assert sum(line.startswith("glibc 2.41") for line in every) == len(own)
    assert f"all {len(rows('worth', *asked))} answers" in brief(*asked)[-1]


def test_the_cost_of_no_avx2_is_the_one_that_was_measured() -> None:
    measured = json.loads((Path(__file__).parents[2] / "docs" / "strings.json").read_text(encoding="utf-8"))["rows"]
    times = {(row["hidden"], row["function"], row["size"]): row["ns"][0] for row in measured}
    ratios = [
        times["AVX-512 AVX2", function, size] / times["", function, size]
        for function in ("memcpy", "memcmp", "memchr", "strlen")
        for size in (1024, 4096, 16384)
    ]
    assert f"{min(ratios):.1f} to {max(ratios):.1f} times" in WITHOUT_AVX2
    assert WITHOUT_AVX2 in brief("--cpu", "IvyBridge", "--host", SKYLAKE, "--qemu", "10.0")
    assert WITHOUT_AVX2 not in brief("--cpu", "Haswell-v1", "--host", SKYLAKE, "--qemu", "10.0")


@pytest.mark.long
def test_functions_that_fault_are_named_and_what_is_not_told_is_no_level() -> None:
    (row,) = [
        line
        for line in brief("--cpu", "Haswell,x-force-features=on", "--qemu", "10.0", "--glibc", "2.36", "--host", IVY)
        if "FAULTS  " in line
    ]
    assert "the host lacks AVX2" in row
    named = str(CAPTURES / "reports" / "proc-cpuinfo-of-a-kvm64-guest.txt.gz")
    assert any("not told" in line and "clock" in line for line in brief(named))
