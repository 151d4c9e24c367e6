"""vcpuid diff as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from support.captures import capture, lines
from support.command import vcpuid
from vcpuid.answers.survey import cpuid_features
from vcpuid.cli.output import FORMATS

SKYLAKE = "kvm-intel.corei7_skylake_x@6.12"
HOST = str(capture(SKYLAKE))
QEMU = ("--qemu", "11.1")


def told(*args: str, stdin: str = "") -> dict[str, dict[str, object]]:
    answer = json.loads(vcpuid("diff", HOST, *args, *QEMU, "--format", "json", stdin=stdin).stdout)
    return {difference["what"]: difference for difference in answer["differences"]}


@pytest.fixture(scope="module")
def guest() -> str:
    return vcpuid("guest", "--host", HOST, "--cpu", "Haswell-noTSX", *QEMU, "--no-probe", "--format", "lines").stdout


def test_a_cpu_on_the_host_differs_line_by_line() -> None:
    done = vcpuid("diff", HOST, "--cpu", "Haswell-noTSX", *QEMU)
    assert done.returncode == 1
    assert "features differ" in done.stdout
    found = told("--cpu", "Haswell-noTSX")
    assert (found["avx512f"]["host"], found["avx512f"]["guest"], found["avx512f"]["party"]) == (True, False, "qemu")
    assert found["avx512f"]["rules"] == ["qemu.model.absent"]


@pytest.mark.parametrize("cpu", ["qemu64", "Haswell-noTSX", "host,hv-passthrough"])
def test_features_are_counted_as_guest_counts_them(cpu: str) -> None:
    """KVM's clock has two bits and one name, and so have some of Hyper-V's."""
    counts = json.loads(vcpuid("diff", HOST, "--cpu", cpu, *QEMU, "--format", "json").stdout)["counts"]
    said = vcpuid("diff", HOST, "--cpu", cpu, *QEMU).stdout.splitlines()[0]
    seen = vcpuid("guest", HOST, "--cpu", cpu, *QEMU, "--no-probe").stdout
    lost, gained = (int(found[1]) for found in (re.search(rf"^{word} (\d+), by layer", seen, re.M) for word in ("Lost", "Gained")) if found)
    assert said.endswith(f": {lost} only in the host, {gained} only in the guest.")
    assert (counts["differ"], counts["not_told"]) == (lost + gained, 0)
    assert counts["same"] + counts["differ"] == len({feature.name for feature in cpuid_features()})


def test_an_observed_guest_is_read_from_its_snapshot_and_its_cpu_guessed(guest: str) -> None:
    assert told("-", stdin=guest) == told("--cpu", "Haswell-v2")
    done = vcpuid("diff", HOST, "-", *QEMU, stdin=guest)
    assert ", guessed: -cpu Haswell-v2\n" in done.stdout


def test_registers_are_shown_in_hexadecimal() -> None:
    found = told("--cpu", "Haswell-noTSX", "--by", "register")
    assert (found["0.0.eax"]["host"], found["0.0.eax"]["guest"], found["0.0.eax"]["party"]) == ("00000016", "0000000d", "qemu")


def test_flags_are_those_of_cpuinfo() -> None:
    found = told("--cpu", "Haswell-noTSX", "--flags")
    assert found["avx512f"]["place"] == "flags"
    assert found["hypervisor"]["guest"] is True


@pytest.mark.parametrize("cpu", ["host", "Skylake-Client-v3,+vmx", "Cascadelake-Server-v5"])
def test_a_guest_shows_the_flags_that_linux_flags_prints(cpu: str) -> None:
    """Its MSRs are its own: KVM makes up none of them for it, and a VMX control is allowed by the upper half of its MSR."""
    inside = json.loads(vcpuid("linux", "flags", HOST, "--guest", "--cpu", cpu, *QEMU, "--format", "json").stdout)
    host = json.loads(vcpuid("linux", "flags", HOST, *QEMU, "--format", "json").stdout)
    rows = json.loads(vcpuid("diff", HOST, "--cpu", cpu, "--flags", *QEMU, "--format", "json").stdout)["differences"]
    for line in ("flags", "bugs", "vmx_flags"):
        shown = {row["what"]: row["guest"] for row in rows if row["place"] == line.replace("_", " ")}
        differing = set(host[line]) ^ set(inside[line])
        assert {name: name in inside[line] for name in differing} == shown


def test_a_guest_whose_kvm_makes_up_an_immunity_has_it() -> None:
    """KVM gives every guest PSCHANGE_MC_NO, and with -cpu host what VMX allows there."""
    inside = json.loads(vcpuid("linux", "flags", HOST, "--guest", "--cpu", "host", *QEMU, "--format", "json").stdout)
    assert "itlb_multihit" not in inside["bugs"]
    assert {"ept_1gb", "preemption_timer", "shadow_vmcs"} <= set(inside["vmx_flags"])


def test_of_flags_none_is_ignored() -> None:
    flags, features = (
        json.loads(vcpuid("diff", HOST, "--cpu", "host", *QEMU, *more, "--format", "json").stdout)["ignored"] for more in (("--flags",), ())
    )
    assert (flags, features) == ([], ["cpu"])


def test_a_host_does_not_differ_from_itself() -> None:
    done = vcpuid("diff", HOST, HOST, "--cpu", "host", *QEMU, "--by", "register")
    assert done.returncode == 0
    assert "The registers are the same." in done.stdout


@pytest.mark.parametrize("by", [(), ("--by", "register"), ("--flags",)])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_prints_and_parses(by: tuple[str, ...], form: str) -> None:
    done = vcpuid("diff", HOST, "--cpu", "Haswell-noTSX", *by, *QEMU, "--format", form)
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
        (("diff", HOST, "--cpu", "Haswel", *QEMU), 3, "unable to find CPU model 'Haswel'"),
    ],
)
def test_what_goes_wrong_is_a_line_and_a_status(args: tuple[str, ...], status: int, says: str) -> None:
    done = vcpuid(*args)
    assert done.returncode == status
    assert says in done.stderr
    assert not done.stdout
    assert status == 2 or len(done.stderr.strip().splitlines()) == 1


def test_a_guest_without_raw_lines_is_bad_input(guest: str) -> None:
    only = "".join(line + "\n" for line in guest.splitlines() if line.startswith("TAB"))
    done = vcpuid("diff", HOST, "-", stdin=only)
    assert done.returncode == 3
    assert "RAW" in done.stderr


def test_two_dumps_differ_by_field_with_its_meaning() -> None:
    other = capture("kvm-intel.corei7_haswell_4770-rnd00@6.12")
    done = vcpuid("diff", HOST, str(other), "--by", "field", "--format", "json")
    rows = json.loads(done.stdout)["differences"]
    assert done.returncode == 1
    avx512f = next(row for row in rows if row["name"] == "avx512f")
    assert [avx512f[key] for key in ("function", "index", "register", "bits")] == ["00000007", "0", "ebx", "16"]
    assert (avx512f["host"], avx512f["guest"]) == ("yes", "no")
    assert vcpuid("diff", HOST, HOST, "--by", "field").returncode == 0


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("RAW", None),
        ("TAB", "the table for KVM_SET_CPUID2"),
        ("GOT", "the table that KVM kept"),
        ("SUP", "KVM_GET_SUPPORTED_CPUID"),
        ("EMU", "KVM_GET_EMULATED_CPUID"),
        ("HV", "KVM_GET_SUPPORTED_HV_CPUID"),
    ],
)
def test_fields_are_of_the_table_that_decode_takes_and_it_is_said_which(kind: str, said: str | None, tmp_path: Path) -> None:
    file = tmp_path / "table.txt"
    flags = "" if kind == "RAW" else "f0 "
    file.write_text(f"{kind} 00000000.0 {flags}00000001 756e6547 6c65746e 49656e69\n", encoding="utf-8")
    alone = vcpuid("decode", str(file)).stdout.splitlines()
    for args, side in (((str(file), HOST), "host"), ((HOST, str(file)), "guest")):
        done = vcpuid("diff", *args, "--by", "field")
        assert done.returncode == 1
        told = [line for line in done.stdout.splitlines() if "not a processor's own CPUID" in line]
        assert told == ([f"{side}: {said}, not a processor's own CPUID"] if said else [])
        assert not said or said[1:] in alone[0]


def test_each_side_is_said_to_be_what_it_is(guest: str, tmp_path: Path) -> None:
    file = tmp_path / "guest.txt"
    file.write_text("".join(line + "\n" for line in guest.splitlines() if line.startswith("TAB")), encoding="utf-8")
    done = vcpuid("diff", str(file), str(file), "--by", "field")
    assert done.returncode == 0
    said = "the table for KVM_SET_CPUID2, not a processor's own CPUID"
    assert [line for line in done.stdout.splitlines() if line] == ["The fields are the same.", f"host: {said}", f"guest: {said}"]


@pytest.fixture
def neighbour(tmp_path: Path) -> str:
    """Another CPU of the host: its APIC id alone differs."""
    there = tmp_path / "other.txt"
    there.write_text(
        "\n".join(line.replace("00010800", "02010800", 1) if line.startswith("RAW 00000001.0") else line for line in lines(SKYLAKE)),
        encoding="utf-8",
    )
    return str(there)


@pytest.mark.parametrize("by", [("field",), ("register", "--cpu", "host", *QEMU)])
@pytest.mark.parametrize(
    ("ignore", "foot"),
    [
        ([], "are the same, 1 left out (--ignore cpu)."),
        (["none"], "1 {by} differs, {same} are the same."),
        (["7.0.ebx"], "1 {by} differs, {same} are the same."),
        (["7.0.ebx", "cpu"], "are the same, 1 left out (--ignore 7.0.ebx --ignore cpu)."),
        (["1.0.ebx.31:24"], "are the same, 1 left out (--ignore 1.0.ebx.31:24)."),
    ],
)
def test_what_is_ignored_is_left_out_and_counted(neighbour: str, by: tuple[str, ...], ignore: list[str], foot: str) -> None:
    done = vcpuid("diff", HOST, neighbour, "--by", *by, *(word for text in ignore for word in ("--ignore", text)))
    answer = done.stdout.splitlines()[0]
    assert answer.endswith(foot.format(by=by[0], same={"field": 1066, "register": 351}[by[0]])), done.stderr
    assert done.returncode == (1 if "differ" in answer else 0)


def test_features_are_ignored_by_any_of_their_names() -> None:
    every = told("--cpu", "Haswell-noTSX")
    assert {"avx512f", "avx512cd", "clwb"} <= set(every)
    done = vcpuid("diff", HOST, "--cpu", "Haswell-noTSX", *QEMU, "--ignore", "AVX512F", "--ignore", "7.0.ebx.28", "--format", "json")
    answer = json.loads(done.stdout)
    assert {difference["what"] for difference in answer["differences"]} == set(every) - {"avx512f", "avx512cd"}
    assert (answer["ignored"], answer["left_out"]) == (["AVX512F", "7.0.ebx.28"], 2)


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (("--by", "field", "--ignore", "no_such_thing"), 3, "'no_such_thing' is no leaf, register, field or feature of CPUID"),
        (("--by", "register", "--cpu", "host", *QEMU, "--ignore", "1.0.ebx.3:4"), 3, "bits go from 31 down to 0"),
        (("--flags", "--cpu", "host", *QEMU, "--ignore", "cpu"), 2, "--ignore is not for --flags"),
    ],
)
def test_what_cannot_be_ignored_is_refused(args: tuple[str, ...], status: int, says: str) -> None:
    done = vcpuid("diff", HOST, HOST, *args)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr


LEAF_7 = "RAW 00000007"


def test_what_differs_what_is_the_same_and_what_is_not_told_are_three_counts(tmp_path: Path) -> None:
    part = tmp_path / "part.txt"
    kept = (line for line in lines(SKYLAKE) if line.startswith(("RAW", "KERNEL")) and not line.startswith(LEAF_7))
    part.write_text("\n".join(kept) + "\n", encoding="utf-8")
    for by in ("feature", "register"):
        done = vcpuid("diff", str(part), "--cpu", "Haswell-noTSX", "--by", by, *QEMU)
        counts = json.loads(vcpuid("diff", str(part), "--cpu", "Haswell-noTSX", "--by", by, *QEMU, "--format", "json").stdout)["counts"]
        assert counts["not_told"] > 0
        assert counts["same"] > 0
        said = f"{counts['differ']} {by}s differ, {counts['same']} are the same, {counts['not_told']} are not told"
        assert said in done.stdout
    done = vcpuid("diff", HOST, str(part), "--by", "field")
    assert "No field is known to differ" in done.stdout
    assert "not told" in done.stdout
    assert done.returncode == 1
    assert vcpuid("diff", HOST, HOST, "--by", "field").stdout.strip() == "The fields are the same."


def test_counts_of_flags_add_up() -> None:
    answer = json.loads(vcpuid("diff", HOST, "--cpu", "Haswell-noTSX", "--flags", *QEMU, "--format", "json").stdout)
    assert answer["counts"]["differ"] == len(answer["differences"])
    assert answer["counts"]["same"] > 50
    assert answer["counts"]["not_told"] == 0


OTHER, AMD = (str(capture(name)) for name in ("kvm-intel.sapphire_rapids-xfd@6.12", "kvm-amd.EPYC-Milan-v2@7.3"))


@pytest.mark.parametrize("by", [(), ("--by", "register"), ("--flags",)])
def test_a_snapshot_that_is_no_guests_is_compared_as_a_second_host(by: tuple[str, ...]) -> None:
    """It was taken for a guest of the first without a word, and nearly all differences were "unknown"."""
    done = vcpuid("diff", HOST, OTHER, *by)
    assert done.returncode == 1
    assert "since B's CPUID has no hypervisor bit; give --cpu or --domain if B is a guest of A" in done.stdout.splitlines()[1]
    answer = json.loads(vcpuid("diff", HOST, OTHER, *by, "--format", "json").stdout)
    assert answer["compares"] == "hosts"
    assert not {"qemu", "kvm", "guest's linux"} & {difference["party"] for difference in answer["differences"]}
    assert answer["counts"]["differ"] == len(answer["differences"])


def test_the_features_of_two_hosts_are_those_that_decode_shows() -> None:
    found = {
        row["what"]: (row["host"], row["guest"])
        for row in json.loads(vcpuid("diff", HOST, OTHER, "--format", "json").stdout)["differences"]
    }
    assert found["sha_ni"] == (False, True)
    assert not [name for name, sides in found.items() if sides == (True, False)]
    reverse = json.loads(vcpuid("diff", OTHER, HOST, "--format", "json").stdout)["differences"]
    assert {row["what"]: (row["guest"], row["host"]) for row in reverse} == found


def test_who_runs_on_another_hypervisor_is_a_host() -> None:
    done = vcpuid("diff", HOST, AMD)
    assert "B runs on another hypervisor (TCGTCGTCGTCG)" in done.stdout.splitlines()[1]


def test_a_guest_in_the_place_of_its_host_is_no_host(guest: str) -> None:
    done = vcpuid("diff", "-", HOST, stdin=guest)
    assert "so A is a guest itself: give B first if it is the host of A." in done.stdout.splitlines()[2]
    for pair in ((HOST, OTHER), ("-", HOST, "--hosts")):
        assert "is a guest itself" not in vcpuid("diff", *pair, stdin=guest).stdout


def test_fields_of_two_hosts_are_no_guests() -> None:
    title = vcpuid("diff", HOST, OTHER, "--by", "field").stdout.splitlines()[2].split()
    assert title == ["place", "field", "A", "B", "meaning"]


def test_hosts_with_a_cpu_and_guests_by_name_are_what_is_said_of_them(guest: str) -> None:
    assert json.loads(vcpuid("diff", HOST, OTHER, "--cpu", "host", *QEMU, "--format", "json").stdout)["cpu"] == "host"
    done = vcpuid("diff", HOST, "-", "--hosts", stdin=guest)
    assert "Compares two hosts, as --hosts says." in done.stdout
    assert vcpuid("diff", HOST, OTHER, "--hosts", "--cpu", "host").returncode == 2
    assert vcpuid("diff", HOST, "--hosts").returncode == 2


def test_a_guess_that_explains_little_is_doubted(guest: str) -> None:
    """A guest of AMD's cannot come of Intel's host by any of QEMU's models."""
    epyc = vcpuid("guest", "--host", AMD, "--cpu", "EPYC-Milan", *QEMU, "--no-probe", "--format", "lines").stdout
    assert "is GUEST really a guest of HOST?" in vcpuid("diff", HOST, "-", *QEMU, stdin=epyc).stdout
    assert "is GUEST really" not in vcpuid("diff", HOST, "-", *QEMU, stdin=guest).stdout


def test_the_answer_comes_first_and_all_of_it_when_asked() -> None:
    brief = vcpuid("diff", HOST, "--cpu", "Haswell-noTSX", *QEMU).stdout
    whole = vcpuid("diff", HOST, "--cpu", "Haswell-noTSX", *QEMU, "--all").stdout
    assert brief.splitlines()[:2] == whole.splitlines()[:2]
    assert "features differ" in brief.splitlines()[0]
    assert "--all prints" in brief.splitlines()[-1]
    assert len(brief.splitlines()) < 24
    names = {word for line in whole.splitlines() for word in line.split()}
    assert set(told("--cpu", "Haswell-noTSX")) <= names


def test_osxsave_is_no_difference_of_a_guest_that_has_not_run(guest: str) -> None:
    assert "osxsave" not in told("--cpu", "Haswell-noTSX")
    assert "osxsave" not in told("-", stdin=guest)
    running = "".join(line + "\n" for line in guest.splitlines() if line.startswith("RAW"))
    assert "osxsave" in told("-", "--cpu", "Haswell-noTSX", stdin=running)


@pytest.mark.parametrize("against", [(str(capture("kvm-intel.sapphire_rapids-xfd@6.12")),), ("--cpu", "Haswell", *QEMU)])
@pytest.mark.parametrize(
    ("how", "counted"), [((), "features"), (("--flags",), "flags"), (("--by", "register"), "registers"), (("--by", "field"), "fields")]
)
def test_it_is_said_what_is_counted(how: tuple[str, ...], counted: str, against: tuple[str, ...]) -> None:
    lines = vcpuid("diff", HOST, *against, *how).stdout.splitlines()
    (said,) = (line for line in lines if line.startswith("Counted: "))
    assert said.startswith(f"Counted: the {counted}")
    assert f" {counted} differ, " in lines[0]
    assert ("--flags" in said) == (counted in ("features", "flags"))
