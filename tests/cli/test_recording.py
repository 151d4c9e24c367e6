"""--recording: a recording as host and guest of explain, guest, check and diff."""

from __future__ import annotations

import json

import pytest

from support.captures import CAPTURES, capture
from support.command import vcpuid

FOLDER = CAPTURES / "recordings"
LIBKRUN = str(FOLDER / "microsandbox-0.7.11-libkrun-amd.jsonl.gz")
RUNSC, TINY = str(FOLDER / "runsc-20240729-kvm-amd.jsonl.gz"), str(FOLDER / "vcpuid-tiny-guest-amd.jsonl.gz")
QEMU, OLDER = str(FOLDER / "qemu-11.1.3-q35-haswell-smp2-amd.jsonl.gz"), str(FOLDER / "qemu-11.1.3-q35-haswell-smp2.jsonl.gz")
SKYLAKE = str(capture("kvm-intel.corei7_skylake_x@6.12"))


def test_the_vmm_is_a_party_that_was_observed() -> None:
    status, out, _ = vcpuid("explain", "arch-capabilities", "--recording", LIBKRUN)
    assert status == 1
    assert f"msb, as {LIBKRUN} shows it, Linux 6.18" in out
    assert "vmm       no      observed" in out
    assert "The guest does not see arch_capabilities: msb (observed) took it away." in out
    assert "[recorded.taken: " in out


def test_a_qemu_is_explained_by_its_own_rules_and_held_against_its_model() -> None:
    status, out, said = vcpuid("explain", "avx2", "rtm", "--recording", QEMU, "--format", "json")
    told = json.loads(out)["explanations"][0]
    assert status == 1
    assert told["cpu"] == "Haswell"
    assert told["setup"]["vmm"] == {"program": "QEMU", "release": "11.1.3", "tables": "11.1"}
    assert (told["setup"]["machine"], told["setup"]["smp"]) == ("q35", "2")
    assert [stage["basis"] for stage in told["stages"] if stage["party"] == "qemu"] == ["observed"]
    assert "vcpuid: the model of QEMU 11.1.3 makes the same tables\n" in said


def test_without_a_release_a_qemu_is_a_vmm_like_any_other_until_one_is_given() -> None:
    _, out, said = vcpuid("explain", "avx2", "--recording", OLDER)
    assert "qemu-system-x86_64, as " in out
    assert "it does not name QEMU's release; with --qemu, the table is compared with the model of that release" in said
    _, out, said = vcpuid("explain", "avx2", "--recording", OLDER, "--qemu", "11.1")
    assert "QEMU 11.1, q35, Linux " in out
    assert ", recorded: -cpu Haswell\n" in out
    assert "makes the same table as far as is told: 2 registers hang on the processor's own CPUID" in said


def test_what_is_given_besides_counts_instead_of_the_command_line() -> None:
    assert (
        "the model of QEMU 11.1.3 makes another table: it differs in "
        in vcpuid("explain", "avx2", "--recording", QEMU, "--machine", "microvm", "--global", "Haswell-x86_64-cpu.avx2=off")[2]
        or "makes the same tables" in vcpuid("explain", "avx2", "--recording", QEMU, "--machine", "microvm")[2]
    )
    assert "the model of QEMU 7.2 makes another table" in vcpuid("explain", "avx2", "--recording", QEMU, "--qemu", "7.2")[2]


def test_a_guest_by_its_vcpu() -> None:
    status, out, _ = vcpuid("guest", "--recording", f"{QEMU}#1", "--format", "lines")
    assert status == 0
    assert "TAB 00000001.0 f0 000306c4 01020800" in out
    status, _, said = vcpuid("guest", "--recording", f"{QEMU}#2")
    assert (status, said) == (3, f"vcpuid: {QEMU}: it has no vCPU 2: there are 2, counted from 0\n")


def test_what_was_kept_is_observed() -> None:
    _, out, _ = vcpuid("explain", "svm", "--recording", TINY, "--format", "json")
    assert {stage["party"]: stage["basis"] for stage in json.loads(out)["stages"]}["vcpu"] == "observed"


def test_diff_takes_both_sides_from_a_recording() -> None:
    status, out, _ = vcpuid("diff", "--recording", LIBKRUN, "--by", "register", "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 1
    assert {row["what"]: row["party"] for row in rows}["1.0.ebx"] == "vmm"
    status, out, _ = vcpuid("diff", "--recording", LIBKRUN, "--by", "field")
    assert "n_logical_cpu" in out


def test_a_recording_is_a_host_and_a_table_as_any_file() -> None:
    assert vcpuid("kvm", "supported", RUNSC)[0] == 0
    assert "AMD" in vcpuid("decode", LIBKRUN)[1]
    status, out, _ = vcpuid("explain", "hypervisor", "--table", f"{RUNSC}#1", "--host", SKYLAKE)
    assert status in (0, 1)
    assert "vmm" in out


@pytest.mark.parametrize("way", [("--recording",), ("--cpu", "host", "--qemu", "10.0", "--host")], ids=["recording", "host"])
def test_what_no_call_asked_for_is_not_told(way: tuple[str, ...]) -> None:
    kvmtool = str(FOLDER / "kvmtool-b48735e-kvm_amd-7.3.4.jsonl.gz")
    status, out, _ = vcpuid("explain", "rdctl-no", *way, kvmtool)
    assert status == 1
    assert "Whether the guest sees rdctl-no is not told: it depends on rdctl-no (MSR(10Ah) [bit 0])." in out


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["explain", "avx2", "--recording", LIBKRUN, "--cpu", "host"], 2, "--recording shows a guest as it ran; leave --cpu out"),
        (["explain", "avx2", "--recording", LIBKRUN, "--table", LIBKRUN], 2, "leave --table out"),
        (["diff", "--recording", LIBKRUN, "--cpu", "host"], 2, "leave --cpu out"),
        (["diff"], 2, "give HOST, or a --recording with the host's snapshot"),
        (["diff", SKYLAKE], 2, "give GUEST (a second snapshot), --cpu, --domain or --recording"),
        (["check", "--recording", LIBKRUN, "--table", LIBKRUN], 2, "--recording has the guest's table"),
        (["check", "--recording", LIBKRUN, SKYLAKE, SKYLAKE], 2, "one HOST at the most"),
        (["explain", "avx2", "--recording", "no-such"], 3, "no-such: No such file or directory"),
        (["explain", "avx2", "--recording", SKYLAKE], 3, "it is no recording of vcpuid record"),
    ],
)
def test_what_does_not_go_together_is_said(arguments: list[str], status: int, says: str) -> None:
    ended, out, said = vcpuid(*arguments)
    assert (ended, out) == (status, "")
    assert says in said
