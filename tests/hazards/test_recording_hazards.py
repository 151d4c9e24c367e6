"""What a recording shows wrong: tables refused, late or unequal, MSRs that CPUID denies or that KVM did not take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.captures import CAPTURES
from support.command import vcpuid
from vcpuid.formats.recording import read_recording
from vcpuid.hazards.recording import RULES, of_calls
from vcpuid.vmm.observed import ShownGuest

HEAD = {"schema": "vcpuid/recording/1", "by": "ptrace"}
PLAIN = [[0, 0, 0, 7, 0x756E6547, 0x6C65746E, 0x49656E69], [1, 0, 0, 0x306C3, 0, 0, 0], [7, 0, 1, 0, 0x20, 0, 0]]


def made(vcpu: int) -> dict[str, object]:
    return {"t": 0, "pid": 1, "tid": 1, "call": "KVM_CREATE_VCPU", "fd": 4, "ret": 10 + vcpu, "arg": vcpu}


def handed(vcpu: int, table: list[list[int]] = PLAIN, ret: int = 0, ran: bool | None = None) -> dict[str, object]:
    row = {"t": 0, "pid": 1, "tid": 1, "call": "KVM_SET_CPUID2", "fd": 10 + vcpu, "ret": ret, "nent": len(table), "entries": table}
    return row if ran is None else {**row, "ran": ran}


def msrs(vcpu: int, given: list[list[str]], ret: int | None = None) -> dict[str, object]:
    taken = len(given) if ret is None else ret
    return {"t": 0, "pid": 1, "tid": 1, "call": "KVM_SET_MSRS", "fd": 10 + vcpu, "ret": taken, "asked": len(given), "msrs": given}


def changed(place: int, word: int, value: int) -> list[list[int]]:
    table = [list(entry) for entry in PLAIN]
    table[place][word] = value
    return table


def shown(*rows: dict[str, object]) -> dict[str, tuple[str, ...]]:
    text = "".join(json.dumps(row) + "\n" for row in (HEAD, *rows))
    return {hazard.rule.id: hazard.subjects for hazard in of_calls(ShownGuest.of(read_recording(text, "r.jsonl")))}


BOTH = (made(0), made(1))
IDS_OF_AMD = [[0x8000001E, 0, 0, 1, 1, 0, 0]]
"""Of vCPU 0 all of it is zeros, and QEMU hands over no such entry."""
ID = changed(1, 4, 0x01000000)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ((*BOTH, handed(0), handed(1, ID)), {}),
        ((*BOTH, handed(0), handed(1, ID), handed(0)), {}),
        ((made(0), handed(0, ret=-22)), {"recording.refused": ("vCPU 0: EINVAL (line 3)",)}),
        ((made(0), handed(0, ret=-7), handed(0)), {"recording.refused-once": ("vCPU 0: E2BIG (line 3)",)}),
        ((*BOTH, handed(0), handed(1, changed(2, 4, 0x28))), {"recording.unequal": ("vCPU 1 and vCPU 0: CPUID[eax=07h,ecx=00h].EBX",)}),
        ((*BOTH, handed(0), handed(1, PLAIN[:2])), {"recording.unequal": ("vCPU 1 and vCPU 0: CPUID[eax=07h,ecx=00h].EBX",)}),
        ((*BOTH, handed(0), handed(1, [*ID, *IDS_OF_AMD])), {}),
        ((made(0), handed(0, ran=False), handed(0, changed(2, 4, 0), ran=True)), {"recording.late": ("vCPU 0 (line 4)",)}),
        ((made(0), handed(0, ran=False), handed(0, ran=True)), {}),
        ((made(0), handed(0), handed(0, changed(2, 4, 0))), {}),
        ((made(0), handed(0), msrs(0, [["0x10a", "0x1"]])), {"recording.msr-denied": ("vCPU 0: MSR 0x10a = 0x1",)}),
        ((made(0), handed(0), msrs(0, [["0x10a", "0x0"], ["0x10", "0x5"]])), {}),
        ((made(0), handed(0, changed(2, 6, 1 << 29)), msrs(0, [["0x10a", "0x1"]])), {}),
        ((made(0), handed(0), msrs(0, [["0x480", "0x1"], ["0x6e0", "0x1"]])),
         {"recording.msr-denied": ("vCPU 0: MSR 0x480 = 0x1", "vCPU 0: MSR 0x6e0 = 0x1")}),
        ((made(0), handed(0), msrs(0, [["0x40000001", "0x1"]])), {"recording.msr-denied": ("vCPU 0: MSR 0x40000001 = 0x1",)}),
        ((made(0), handed(0), msrs(0, [["0x10", "0x1"], ["0x345", "0x20"]], 1)),
         {"recording.msrs-refused": ("vCPU 0: MSR 0x345 = 0x20 (1 of 2 taken, line 4)",)}),
        ((made(0), handed(0), msrs(0, [["0x345", "0x20"]], -14)),
         {"recording.msrs-refused": ("vCPU 0: MSR 0x345 = 0x20 (0 of 1 taken, line 4)",)}),
    ],
)  # fmt: skip
def test_what_calls_show_wrong(rows: tuple[dict[str, object], ...], found: dict[str, tuple[str, ...]]) -> None:
    assert shown(*rows) == found


def test_each_rule_is_shown_by_some_recording() -> None:
    cases = test_what_calls_show_wrong.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {rule for _, found in cases for rule in found} == {rule.id for rule in RULES}


FOLDER = CAPTURES / "recordings"


def test_check_tells_of_a_qemu_that_kvm_refused_an_msr() -> None:
    status, out, _ = vcpuid("check", "--recording", str(FOLDER / "qemu-7.2.22-q35-windows.jsonl.gz"), "--format", "json")
    told = {hazard["rule"]: hazard for hazard in json.loads(out)["hazards"]}
    assert status == 1
    assert told["recording.msrs-refused"]["subjects"] == ["vCPU 0: MSR 0x40000021 = 0x0 (20 of 92 taken, line 95)"]
    assert told["recording.msrs-refused"]["severity"] == "breaks"


def test_check_has_nothing_against_the_ids_of_two_vcpus_of_amd() -> None:
    found = vcpuid("check", "--recording", str(FOLDER / "qemu-7.2.22-q35-epyc-smp2-kvm_amd-6.12.117-amd.jsonl.gz"), "--format", "lines")
    assert (found.returncode, found.stdout) == (0, "")


def test_check_tells_of_two_vcpus_with_one_id() -> None:
    status, out, _ = vcpuid("check", "--recording", str(FOLDER / "runsc-20240729-kvm-amd.jsonl.gz"), "--format", "lines")
    assert status == 1
    assert "breaks topology.id-twice" in out


def test_check_takes_a_recording_that_tells_nothing_of_the_host(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in (HEAD, made(0), handed(0, ret=-22))), encoding="utf-8")
    status, out, said = vcpuid("check", "--recording", str(file), "--format", "lines")
    assert status == 1
    assert "breaks recording.refused vCPU 0: EINVAL (line 3)" in out
    assert "it tells nothing of the host, and the table is checked by itself" in said
    status, out, said = vcpuid("check", "--recording", str(file), str(tmp_path / "none"))
    assert (status, out, said) == (3, "", f"vcpuid: {tmp_path}/none: No such file or directory\n")
    status, out, said = vcpuid("explain", "avx2", "--recording", str(file))
    assert (status, out, said) == (3, "", f"vcpuid: {file}: it has no snapshot of the host: give HOST (or --host)\n")
