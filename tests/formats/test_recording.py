"""Recordings of vcpuid record: what they tell of host and guests, and what is refused."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import pytest

from support.captures import CAPTURES
from support.command import vcpuid
from vcpuid.cpuid import CpuidTable, Entry, Snapshot
from vcpuid.errors import InputError
from vcpuid.formats import parse
from vcpuid.formats.recorded_calls import Recording
from vcpuid.formats.recording import CALL_LIMIT, ROW_LIMIT, read_recording
from vcpuid.formats.recording_rows import RecordingWriter, entries
from vcpuid.sources import read, read_all

SUPPORTED = [[0, 0, 0, 7, 0x756E6547, 0x6C65746E, 0x49656E69], [1, 0, 0, 0x306C3, 0, 5, 9], [7, 0, 1, 0, 0x20, 0, 0]]
HEAD = {"schema": "vcpuid/recording/1", "by": "ptrace", "command": ["vmm", "--go"], "kernel": "6.12.1"}
ASKED = {"t": 0.1, "pid": 7, "tid": 7, "call": "KVM_GET_SUPPORTED_CPUID", "fd": 3, "ret": 0, "asked": 64, "nent": 3, "entries": SUPPORTED}
LISTED = {
    "t": 0.1,
    "pid": 7,
    "tid": 7,
    "call": "KVM_GET_MSR_FEATURE_INDEX_LIST",
    "fd": 3,
    "ret": 0,
    "asked": 2,
    "n": 2,
    "indices": ["0x10a", "0x345"],
}
READ = {"t": 0.1, "pid": 7, "tid": 7, "call": "KVM_GET_MSRS", "fd": 3, "ret": 1, "asked": 1, "msrs": [["0x10a", "0x6d"]]}


def made(vcpu: int, vm: int = 4) -> dict[str, object]:
    return {"t": 0.2, "pid": 7, "tid": 8 + vcpu, "call": "KVM_CREATE_VCPU", "fd": vm, "ret": 10 * vm + vcpu, "arg": vcpu}


def handed(vcpu: int, ebx: int = 0, vm: int = 4, **more: object) -> dict[str, object]:
    row = {
        "t": 0.3,
        "pid": 7,
        "tid": 8 + vcpu,
        "call": "KVM_SET_CPUID2",
        "fd": 10 * vm + vcpu,
        "ret": 0,
        "nent": 1,
        "entries": [[7, 0, 1, 0, ebx, 0, 0]],
    }
    return {**row, **more}


def text(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in (HEAD, *rows))


def recording(*rows: object) -> Recording:
    return read_recording(text(*rows), "r.jsonl")


def table(ebx: int) -> CpuidTable:
    return CpuidTable([Entry(7, 0, 1, 0, ebx, 0, 0)])


RAW = CpuidTable([Entry(7, 0, 0, 0, 0xFF, 0, 0)])
WHOLE = (ASKED, LISTED, READ, made(1), made(0), handed(0, 1), handed(1, 2))


def test_a_recording_is_a_host_and_a_table_for_each_vcpu() -> None:
    first, second = parse(text(*WHOLE), "r.jsonl")
    assert (first.table, second.table) == (table(1), table(2))
    assert first.supported == CpuidTable(Entry(*row) for row in SUPPORTED)
    assert (first.msrs, first.kernel, first.set_result, first.kept) == ({0x10A: 0x6D}, "6.12.1", 0, None)
    assert (first.emulated, first.hyperv, first.raw) == (None, None, CpuidTable())


def test_older_recordings_without_a_schema_are_read_alike() -> None:
    head = {"command": HEAD["command"], "kernel": HEAD["kernel"]}
    older = [{key: dict(value) if key == "msrs" else value for key, value in row.items() if key != "pid"} for row in WHOLE]  # type: ignore[call-overload]
    rows = "".join(json.dumps(row) + "\n" for row in (head, *older))
    assert parse(rows, "r.jsonl") == parse(text(*WHOLE), "r.jsonl")


def test_what_kvm_kept_counts_from_the_last_table_on() -> None:
    got = {**handed(0, 9), "call": "KVM_GET_CPUID2"}
    assert [vcpu.kept for vcpu in recording(*WHOLE, got).vcpus] == [table(9), None]
    assert [vcpu.kept for vcpu in recording(*WHOLE, got, handed(0, 3)).vcpus] == [None, None]
    kept = [{**handed(vcpu, vcpu), "call": "kept", "vcpu": vcpu, "vm": 0} for vcpu in (0, 1)]
    alone = recording(*kept)
    assert [(vcpu.handed, vcpu.kept) for vcpu in alone.vcpus] == [(None, table(0)), (None, table(1))]
    assert [snapshot.kept for snapshot in alone.snapshots()] == [table(0), table(1)]


def test_the_last_table_that_kvm_took_counts_and_a_refused_one_where_it_took_none() -> None:
    (first, _) = recording(*WHOLE, handed(0, 5), handed(0, 6, ret=-22)).vcpus
    assert first.handed is not None
    assert first.handed.table == table(5)
    (only,) = recording(made(0), handed(0, 6, ret=-22)).snapshots()
    assert (only.table, only.set_result) == (table(6), -22)


def test_guests_are_told_apart_and_a_descriptor_that_is_used_again_is_another_vcpu() -> None:
    vm = {"t": 0, "pid": 7, "tid": 7, "call": "KVM_CREATE_VM", "fd": 3, "ret": 4, "arg": 0}
    found = recording(vm, made(0), handed(0, 1), made(0, 5), handed(0, 2, 5), vm, made(0), handed(0, 3))
    assert [[vcpu.handed.table for vcpu in guest if vcpu.handed] for guest in found.guests] == [[table(1)], [table(2)], [table(3)]]


def test_tables_of_vcpus_that_nobody_saw_made_are_told_apart_by_process_and_descriptor() -> None:
    rows = [handed(0, 1), {**handed(0, 2, pid=9), "vcpu": 0}, {**handed(1, 3, pid=9), "vcpu": 1}]
    assert [[vcpu.number for vcpu in guest] for guest in recording(*rows).guests] == [[0], [0, 1]]


def test_feature_msrs_are_those_that_the_device_told() -> None:
    of_vcpu = {**READ, "fd": 40, "msrs": [["0x10a", "0x1"]]}
    other = {**READ, "msrs": [["0x10", "0x99"]]}
    assert recording(LISTED, READ, made(0), of_vcpu, other).host.msrs == {0x10A: 0x6D}


def test_kvm_without_hyper_v_is_told_by_what_it_said_of_that() -> None:
    check = {"t": 0, "pid": 7, "tid": 7, "call": "KVM_CHECK_EXTENSION", "fd": 3, "arg": 44}
    assert recording({**check, "ret": 0}).host.hyperv == CpuidTable()
    assert recording({**check, "ret": 1}).host.hyperv is None


def test_a_machine_in_it_tells_of_the_host_what_nobody_asked() -> None:
    out = io.StringIO()
    machine = Snapshot(raw=RAW, supported=table(0xF0), cpuinfo={"flags": "fpu"}, kernel="6.1")
    write = RecordingWriter(out, "ptrace", ["vmm"], "6.12.1", machine)
    write({"t": 0, "pid": 7, "tid": 7, "call": "KVM_SET_CPUID2", "fd": 9, "ret": 0, "nent": 1, "entries": entries(table(1))})
    write.end()
    (found,) = parse(out.getvalue(), "r.jsonl")
    assert (found.raw, found.supported, found.cpuinfo, found.kernel) == (RAW, table(0xF0), {"flags": "fpu"}, "6.12.1")
    assert found.table == table(1)
    more = out.getvalue() + json.dumps(ASKED) + "\n"
    assert parse(more, "r.jsonl")[0].supported == CpuidTable(Entry(*row) for row in SUPPORTED)  # what the VMM was told comes first


@pytest.mark.long
def test_what_finds_no_room_is_counted_and_what_was_written_is_read() -> None:
    out = io.StringIO()
    write = RecordingWriter(out, "ptrace")
    for _ in range(4000):
        write({**ASKED, "nent": 256, "entries": entries(CpuidTable([Entry(*[0xFFFFFFFF] * 7)] * 256))})
    write.end()
    found = read_recording(out.getvalue(), "r.jsonl")
    assert 0 < len(found.calls) == write.calls < 4000
    assert found.notes == (f"{4000 - write.calls} more calls are not in it: it had grown too large",)


@pytest.mark.parametrize("name", sorted(path.name for path in (CAPTURES / "recordings").glob("*.gz")))
def test_every_captured_recording_is_read_and_cut_anywhere_it_is_refused_or_read_in_one_line(name: str, tmp_path: Path) -> None:
    path = CAPTURES / "recordings" / name
    assert all(snapshot.table or snapshot.kept for snapshot in read_all(path))
    whole = gzip.decompress(path.read_bytes())
    for at in (len(whole) // 7, len(whole) // 2, len(whole) - 40):
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(whole[:at])
        with pytest.raises(InputError, match=r"cut\.jsonl:[0-9]+: damaged or cut JSON"):
            read(cut)


SET = handed(0)


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ([], "a row is one JSON object"),
        ("x", "a row is one JSON object"),
        ({**SET, "entries": "x"}, "entries is no list of at most 4096"),
        ({**SET, "entries": [[1, 2]]}, "an entry has function, index, flags and four registers, not a list"),
        ({**SET, "entries": [[1, 0, 0, 0, 0, 0, 1 << 32]]}, "a word of an entry 4294967296 is no number from 0 to 0xffffffff"),
        ({**SET, "entries": [[1, 0, 0, 0, 0, 0, -1]]}, "a word of an entry -1 is no number"),
        ({**SET, "entries": [[1, 0, 0, 0, 0, 0, True]]}, "a word of an entry True is no number"),
        ({**SET, "entries": [[1, 0, 0, 0, 0, 0, 1.5]]}, "a word of an entry 1.5 is no number"),
        ({**SET, "entries": [[1] * 7] * 4097}, "entries is no list of at most 4096"),
        ({**SET, "entries": [[1] * 7] * 2}, "2 entries where KVM_SET_CPUID2 tells of 1"),
        ({**SET, "nent": -1}, "nent -1 is no number"),
        ({**SET, "nent": 1 << 70}, "is no number from 0 to 0xffffffff"),
        ({**SET, "ret": "0"}, "ret 0 is no number"),
        ({**SET, "ret": None}, "ret None is no number"),
        ({**SET, "fd": 1.5}, "fd 1.5 is no number"),
        ({**SET, "pid": [[[]]]}, "pid a list is no number"),
        ({**SET, "tid": -4}, "tid -4 is no number"),
        ({**SET, "t": "now"}, "t now is no time in seconds"),
        ({**SET, "t": -1}, "t -1 is no time in seconds"),
        ({**SET, "vcpu": {}}, "vcpu a dict is no number"),
        ({**SET, "ran": 1}, "ran 1 is neither true nor false"),
        ({**SET, "call": 7}, "call is no text"),
        ({**SET, "exe": ["x"]}, "exe is no text"),
        ({**SET, "exe": "x", "argv": [1]}, "argv is no list of texts"),
        ({**READ, "msrs": 5}, "msrs is no list of at most 4096"),
        ({**READ, "msrs": [["0x10a"]]}, "an MSR is its index and its value"),
        ({**READ, "msrs": [["10g", "0x0"]]}, "'10g' is no hexadecimal number up to 0xffffffff"),
        ({**READ, "msrs": [["0x10a", 5]]}, "'5' is no hexadecimal number"),
        ({**READ, "msrs": [["0x10a", "0x" + "f" * 5000]]}, "is no hexadecimal number up to 0xffffffffffffffff"),
        ({**LISTED, "indices": ["0x1"] * 5000}, "indices is no list of at most 4096"),
        ({**SET, "call": "KVM_ENABLE_CAP", "args": [0] * 5}, "args is no list of at most 4"),
        ({"left_out": "many"}, "left_out many is no number"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_line(row: object, cause: str) -> None:
    with pytest.raises(InputError) as refused:
        recording(ASKED, row)
    assert str(refused.value).startswith("r.jsonl:3: ")
    assert cause in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (json.dumps({**HEAD, "schema": "vcpuid/recording/9"}), "its schema is 'vcpuid/recording/9', and vcpuid/recording/1 is known"),
        (json.dumps({**HEAD, "kernel": 6}), "kernel is no text"),
        (json.dumps({**HEAD, "command": {}}) + "\n" + json.dumps({**HEAD, "command": [[]]}), "command is no list of texts"),
        (json.dumps({**HEAD, "host": {"raw": 5}}), "not of the form of vcpuid's JSON"),
        (json.dumps({**HEAD, "host": [1]}), "host is a list, and no snapshot"),
        (text() + "[" * 100_000, "nested too deep"),
        (text() + '{"call": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deep"),
        (text() + '{"call": ' + "1" * 5000 + "}", "endless number"),
        (text() + "{" + " " * (ROW_LIMIT + 1) + "}", "a row of more than 256 KiB"),
        (text() + "\0\1\2", "not text: a byte 0x00"),
        (text(), "nobody in it spoke to KVM of CPUID"),
    ],
)
def test_hostile_files_end_with_one_line_and_status_3(content: str, cause: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.jsonl"
    file.write_text(content, encoding="utf-8")
    for arguments in (("decode", str(file)), ("explain", "avx2", "--recording", str(file))):
        status, out, said = vcpuid(*arguments)
        assert (status, out, said.count("\n")) == (3, "", 1), said
        assert cause in said or "no guest's table is in it" in said


@pytest.mark.long
def test_calls_without_end_are_refused() -> None:
    row = json.dumps({"t": 0, "tid": 1, "call": "x", "fd": 0, "ret": 0}) + "\n"
    with pytest.raises(InputError, match=f"more than {CALL_LIMIT} calls"):
        read_recording(text() + row * (CALL_LIMIT + 1), "r.jsonl")


def test_what_is_no_recording_is_said_to_be_none(tmp_path: Path) -> None:
    file = tmp_path / "x.txt"
    file.write_text("RAW 0.0 1 2 3 4\n", encoding="utf-8")
    status, _, said = vcpuid("explain", "avx2", "--recording", str(file))
    assert (status, said) == (3, f"vcpuid: {file}: it is no recording of vcpuid record\n")
