"""The verdict on vulnerabilities: what is not told stays open, what is needed helps, what is taken for granted is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support import captures
from support.command import vcpuid
from vcpuid.answers.file_verdict import FileVerdict
from vcpuid.answers.vulnerabilities import Verdicts, told, told_inside
from vcpuid.cpuid import CpuidTable, Snapshot
from vcpuid.formats.lines import format_snapshot
from vcpuid.linux import vulnerabilities
from vcpuid.path.pipeline import resolve
from vcpuid.setup import Setup, Stack
from vcpuid.sources import read

SAPPHIRE, SKYLAKE = "kvm-intel.sapphire_rapids-xfd@6.12", "kvm-intel.corei7_skylake_x@6.12"
ON = ("linux", "vulnerabilities", str(captures.capture(SKYLAKE)))


@pytest.mark.parametrize("value", [0, 0xEB, 0x80EB, 0x5000D63])
def test_what_hangs_on_an_msr_that_is_not_told_is_open_and_nothing_else_is_otherwise(value: int) -> None:
    host = read(captures.CAPTURES / "reports" / "cascade-lake-without-msrs.txt.gz")
    part = told(Setup.of(host, Stack(kernel="6.12")))
    assert set(part.named("not told")) > {"meltdown", "mds", "spectre_v2"}
    whole = vulnerabilities(host, "6.12", {"msr.10a": value, "microcode": 0x5003707})
    for verdict in part.files:
        assert verdict.text in (None, whole[verdict.file]), verdict.file
        assert (verdict.text is None) is bool(verdict.depends)


@pytest.mark.parametrize("cpu", ["Skylake-Server-v1", "Haswell-v1", "Nehalem-v1"])
def test_what_is_needed_lets_the_kernel_mitigate_it(cpu: str) -> None:
    path = resolve(cpu, host=captures.host(SKYLAKE), stack=Stack(kernel="6.12", qemu="11.1"))
    found, _ = told_inside(path)
    needed = {verdict.file: verdict.needs for verdict in found.files if verdict.needs}
    assert needed["spec_store_bypass"] == ("ssbd",)
    for file, needs in needed.items():
        more = resolve(f"{cpu},x-force-features=on," + ",".join(f"+{name}" for name in needs), host=path.setup)
        verdict = told_inside(more)[0].of(file)
        if not any(name.startswith(("fb-", "rfds-", "gds", "tsx-ctrl")) for name in needs):  # of MSRs KVM offers what it has
            assert verdict is not None
            assert verdict.state in ("mitigated", "partly"), file


def test_what_is_needed_may_stand_beyond_the_last_leaf_of_the_model() -> None:
    """QEMU raises the level of a CPU that is given a feature of a later leaf."""
    stack = Stack(kernel="6.12", qemu="11.1")
    old, _ = told_inside(resolve("Conroe", host=captures.host(SKYLAKE), stack=stack))
    spec_store_bypass = old.of("spec_store_bypass")
    assert spec_store_bypass is not None
    assert spec_store_bypass.needs == ("ssbd",)
    path = resolve("EPYC-v1", host=captures.host("kvm-amd.EPYC-Milan-v2@6.12"), stack=stack)
    assert path.tables[0].registers(0x80000000).eax < 0x80000021
    inception = told_inside(path)[0].of("spec_rstack_overflow")
    assert inception is not None
    assert inception.needs == ("ibpb-brtype",)
    more = told_inside(resolve("EPYC-v1,x-force-features=on,+ibpb-brtype", host=path.setup))[0].of("spec_rstack_overflow")
    assert more is not None
    assert more.well


def test_mitigations_off_is_what_the_answer_rests_on() -> None:
    found = told(Setup.of(captures.host(SAPPHIRE), Stack(kernel="6.12")))
    (files,) = (what for taken, what in found.assumes.items() if taken.otherwise == "mitigations=off")
    assert "spectre_v2" in files
    off = vulnerabilities(captures.host(SAPPHIRE), "6.12", {"cmdline": "mitigations=off"})
    assert off["spectre_v2"].startswith("Vulnerable; IBPB: disabled")


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("Not affected", "not affected"),
        ("Mitigation: PTI", "mitigated"),
        ("KVM: Mitigation: VMX unsupported", "mitigated"),
        ("Mitigation: Clear CPU buffers; SMT vulnerable", "partly"),
        ("Vulnerable: No microcode", "vulnerable"),
        ("Unknown: Dependent on hypervisor status", "unknown"),
        (None, "not told"),
    ],
)
def test_a_text_in_a_word(text: str | None, state: str) -> None:
    assert FileVerdict("file", text).state == state


def test_the_command_answers_first_and_is_cut_to_what_the_processor_is_affected_by() -> None:
    done = vcpuid(*ON, "--guest", "--cpu", "Haswell-v1", "--qemu", "11.1")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0].startswith("The guest's kernel reports itself vulnerable to mds, ")
    assert lines[1] == "Linux 6.12.107+deb13-cloud-amd64 in the guest of QEMU 11.1, q35, Linux 6.12.107+deb13-cloud-amd64, -cpu Haswell-v1"
    assert "vmscape" not in done.stdout
    assert lines[-1].endswith("--all prints the rest.")
    assert "the CPU lacks" in lines[3]
    assert next(line for line in lines if line.startswith("spec_store_bypass ")).split() == ["spec_store_bypass", "Vulnerable", "ssbd"]
    assert "vmscape" in vcpuid(*ON, "--guest", "--cpu", "Haswell-v1", "--qemu", "11.1", "--all").stdout


@pytest.mark.parametrize("machine", [SKYLAKE, "kvm-amd.EPYC-Milan-v2@6.12"])
def test_what_a_running_kernel_printed_makes_no_feature_of_use_and_no_setting_count(machine: str) -> None:
    """These were booted with mitigations=off, which their files do not tell: PTI is off, and no feature mends that."""
    printed = told(Setup.of(captures.host(machine)))
    ruled = told(Setup.of(captures.host(machine), Stack(params={"cmdline": "quiet"})))
    needs = {verdict.file: verdict.needs for verdict in ruled.files}
    assert needs["spec_store_bypass"]
    assert "meltdown" not in {file for file, names in needs.items() if names}
    for verdict in printed.files:
        assert verdict.needs == needs[verdict.file], verdict.file
    off = vulnerabilities(captures.host(machine), params={"cmdline": "mitigations=off"})
    (files,) = (what for taken, what in printed.assumes.items() if taken.otherwise == "mitigations=off")
    for file in files:
        verdict = printed.of(file)
        assert verdict is not None
        assert verdict.text != off[file]


@pytest.mark.long
def test_a_bug_that_an_old_kernel_does_not_know_is_not_denied_to_its_guests(tmp_path: Path) -> None:
    """A /proc/cpuinfo without the kernel's release, of early 2018, when three were known: KVM need not call it immune to others."""
    lines = ("vendor_id\t: GenuineIntel", "cpu family\t: 6", "model\t\t: 142", "stepping\t: 10",
             "flags\t\t: fpu vme sse sse2 avx2 vmx lm nx syscall cpuid", "bugs\t\t: cpu_meltdown spectre_v1 spectre_v2")  # fmt: skip
    (tmp_path / "old.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found, _ = told_inside(resolve("host", host=read(tmp_path / "old.txt"), stack=Stack(qemu="11.1")))
    for file in ("mds", "spec_store_bypass", "retbleed", "mmio_stale_data"):
        verdict = found.of(file)
        assert verdict is not None
        assert verdict.state in ("vulnerable", "not told"), file


@pytest.mark.parametrize("length", [2030, 2045, 2047])
def test_a_command_line_without_room_for_more_is_answered(length: int) -> None:
    cmdline = "quiet " + "x" * (length - 6)
    for verb in (("--param", f"cmdline={cmdline}"), ("--guest", "--guest-cmdline", cmdline)):
        done = vcpuid(*ON, *verb)
        assert done.returncode == 1
        assert "has more than" not in done.stderr
    assert told(Setup.of(captures.host(SAPPHIRE), Stack(params={"cmdline": cmdline}))).files


def test_what_the_guests_kernel_cannot_know_is_1_here_and_in_explain() -> None:
    path = resolve("Haswell-noTSX", host=captures.host(SKYLAKE), stack=Stack(kernel="6.12", qemu="11.1"))
    found, _ = told_inside(path)
    assert found.named("unknown")
    left = Verdicts(tuple(verdict for verdict in found.files if verdict.state != "vulnerable"))
    assert not left.protected
    on = ("--cpu", "Haswell-noTSX", "--kernel", "6.12", "--qemu", "11.1", "--host", str(captures.capture(SKYLAKE)))
    for verdict in found.files:
        assert vcpuid("explain", verdict.file, *on).returncode == (0 if verdict.protected else 1), verdict.file


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"a": "Not affected"}, "The kernel is not affected by, or mitigates, all vulnerabilities that it knows."),
        ({"a": "Not affected", "b": None}, "What the kernel says of b is not told; it is not affected by, or mitigates, all others."),
        ({"a": None, "b": None}, "What the kernel says of a, b is not told."),
        ({"a": "Vulnerable", "b": None}, "The kernel reports itself vulnerable to a; what it says of b is not told."),
        (
            {"a": "Vulnerable", "b": None, "c": "Not affected"},
            "The kernel reports itself vulnerable to a; what it says of b is not told; it is not affected by, or mitigates, all others.",
        ),
        ({"a": "Vulnerable", "b": "Unknown: x"}, "The kernel reports itself vulnerable to a; cannot tell about b."),
        (
            {"a": "Vulnerable", "b": "Mitigation: x"},
            "The kernel reports itself vulnerable to a; is not affected by, or mitigates, all others.",
        ),
    ],
    ids=str,
)
def test_the_sentence_speaks_of_others_only_where_there_are_some(texts: dict[str, str | None], says: str) -> None:
    assert Verdicts(tuple(FileVerdict(file, text) for file, text in texts.items())).summary("The kernel") == says


def test_the_guests_own_kernel_and_command_line_count() -> None:
    lines = vcpuid(*ON, "--guest", "--cpu", "host", "--qemu", "11.1", "--guest-cmdline", "mitigations=off", "--format", "lines").stdout
    assert "meltdown: Vulnerable" in lines.splitlines() or "meltdown: Not affected" in lines.splitlines()
    assert any(line.startswith("spectre_v2: Vulnerable; ") for line in lines.splitlines())
    assert (
        "old_microcode: Not affected"
        in vcpuid(*ON, "--guest", "--cpu", "host", "--qemu", "11.1", "--guest-kernel", "7.3", "--format", "lines").stdout
    )


SEEN = {"spectre_v2": "Mitigation: Retpolines", "ssb": "Not affected", "retbleed": "Vulnerable"}


def with_files(name: str) -> Snapshot:
    """A host of which only its own sysfs tells what an MSR would."""
    host = read(captures.CAPTURES / "reports" / name)
    return replace(host, kernel="6.12.0", cpuinfo={**host.cpuinfo, **{f"vulnerability_{file}": text for file, text in SEEN.items()}})


def test_what_the_hosts_own_files_said_stands_before_rules_and_is_said_to(tmp_path: Path) -> None:
    host = with_files("cascade-lake-without-msrs.txt.gz")
    found = told(Setup.of(host))
    assert {verdict.file: verdict.text for verdict in found.files} == SEEN
    assert found.observed
    assert not found.assumes
    file = tmp_path / "host.txt"
    file.write_text("".join(f"{line}\n" for line in format_snapshot(host)), encoding="utf-8")
    assert read(file) == host
    done = vcpuid("linux", "vulnerabilities", str(file))
    assert done.stdout.splitlines()[1].endswith(", whose own files were read")
    assert "spectre_v2   Mitigation: Retpolines" in done.stdout


def test_a_file_that_says_nothing_tells_nothing_and_words_that_no_kernel_has_are_no_verdict() -> None:
    host = with_files("cascade-lake-without-msrs.txt.gz")
    odd = {"vulnerability_mds": "", "vulnerability_": "Vulnerable", "vulnerability_../x": "Vulnerable", "vulnerability_new": "Mitigated"}
    found = told(Setup.of(replace(host, cpuinfo={**host.cpuinfo, **odd})))
    assert {verdict.file for verdict in found.files} == {*SEEN, "new"}
    assert found.named("unknown") == ["new"]
    assert not found.protected


@pytest.mark.parametrize("asked", [Stack(kernel="6.6"), Stack(what_if=True), Stack(params={"cmdline": "mitigations=off"})])
def test_they_say_nothing_of_another_kernel_or_another_command_line(asked: Stack) -> None:
    found = told(Setup.of(with_files("cascade-lake-without-msrs.txt.gz"), asked))
    assert not found.observed
    assert "ssb" not in {verdict.file for verdict in found.files}


def test_whether_kvm_is_loaded_is_taken_for_granted_where_nothing_tells() -> None:
    whole = captures.host("kvm-intel.corei7_skylake_x-rnd17@5.10")
    bare = Snapshot(raw=whole.raw, kernel=whole.kernel, cpuinfo=whole.cpuinfo, msrs=whole.msrs)
    granted = {taken.taken: files for taken, files in told(Setup.of(bare)).assumes.items()}
    assert "l1tf" in granted["kvm_intel is not loaded"]
    part = CpuidTable((whole.supported or ())[:9])
    for loaded in (whole, replace(bare, params={"kvm_intel.nested": "Y"}), replace(bare, supported=part)):
        found = told(Setup.of(loaded))
        assert "VMX: conditional cache flushes" in str(found.of("l1tf"))
        assert "kvm_intel is not loaded" not in {taken.taken for taken in found.assumes}
