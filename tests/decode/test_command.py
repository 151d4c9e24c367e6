"""vcpuid decode as a user meets it."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest

from support.captures import capture
from support.command import Done, vcpuid
from vcpuid import decode, sources
from vcpuid.cli import safe
from vcpuid.cli.output import FORMATS
from vcpuid.errors import InputError

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))


def run(*args: str) -> Done:
    return vcpuid("decode", *args)


def assert_refused(done: Done, says: str) -> None:
    assert (done.returncode, done.stdout) == (InputError.exit_status, "")
    assert says in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("more", [(), ("--full",), ("7", "d.1"), ("--all-cpus",)], ids=" ".join)
def test_every_format_prints_and_parses(more: tuple[str, ...], form: str) -> None:
    done = run(HOST, *more, "--format", form)
    assert done.returncode == 0
    if form == "json":
        assert isinstance(json.loads(done.stdout), dict | list)
    elif form == "jsonl":
        assert all(isinstance(json.loads(line), dict) for line in done.stdout.splitlines())
    elif form == "csv":
        assert len({len(row) for row in csv.reader(io.StringIO(done.stdout))}) == 1


def test_a_person_sees_names_fields_and_drawings() -> None:
    shown = run(HOST).stdout
    assert "Skylake-X (Skylake)" in shown
    assert "avx512f" in shown
    assert "┌ package" in shown
    assert "ZMM_Hi256" in shown


def test_of_caches_and_tlbs_is_shown_what_is_told(tmp_path: Path) -> None:
    file = tmp_path / "willamette.txt"
    file.write_text(
        "CPU 0:\n"
        "   0x00000000 0x00: eax=0x00000002 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
        "   0x00000002 0x00: eax=0x665b5001 ebx=0x00000000 ecx=0x00000000 edx=0x007a7000\n",
        encoding="utf-8",
    )
    lines = run(str(file)).stdout.splitlines()
    assert "trace cache 12K µops, 8-way  [0x2]" in lines
    assert "L1d 8 KiB, 4-way, 64 bytes a line  [0x2]" in lines
    assert "TLB code: 4K 2M 4M pages, 64 entries  [0x2]" in lines


def test_full_shows_every_bit() -> None:
    table = sources.read(HOST).raw
    lines = run(HOST, "--full", "--format", "lines").stdout
    assert lines == safe.clean(decode.spell(table))
    rows = list(csv.DictReader(io.StringIO(run(HOST, "7.0", "--full", "--format", "csv").stdout)))
    width = sum(int(high or low) - int(low) + 1 for high, low in ((r["bits"].split(":")[0], r["bits"].split(":")[-1]) for r in rows))
    assert width == 4 * 32


def test_json_has_the_fields_and_what_they_say_together() -> None:
    told = json.loads(run(HOST, "--format", "json").stdout)
    assert told["identity"]["design"] == "Skylake-X"
    assert told["xsave"]["components"]
    assert {"identity", "caches", "tlbs", "topology", "xsave", "frequencies", "facts", "leaves", "part", "schema"} == set(told)
    (leaf,) = json.loads(run(HOST, "7.0", "--format", "json").stdout)["leaves"]
    (avx2,) = (field for field in leaf["fields"] if field["name"] == "avx2")
    assert (avx2["register"], avx2["bits"], avx2["raw"], avx2["text"]) == ("ebx", "5", 1, "yes")


def test_leaves_are_picked_with_and_without_a_sub_leaf() -> None:
    def leaves(*wanted: str) -> list[tuple[str, str]]:
        told = json.loads(run(HOST, *wanted, "--format", "json").stdout)
        return [(leaf["function"], leaf["index"]) for leaf in told["leaves"]]

    assert leaves("d.2") == [("0000000d", "2")]
    assert leaves("0x80000008", "1") == [("00000001", "0"), ("80000008", "0")]
    assert len(leaves("d")) > 2


RAW = "RAW 00000000.0 00000001 756e6547 6c65746e 49656e69"
SUP = "SUP 00000000.0 f0 00000001 756e6547 6c65746e 49656e69"
PARTS = {
    "raw": (RAW, ""),
    "table": (SUP.replace("SUP", "TAB"), "The table for KVM_SET_CPUID2, not a processor's own CPUID"),
    "kept": (SUP.replace("SUP", "GOT"), "The table that KVM kept, not a processor's own CPUID"),
    "supported": (SUP, "KVM_GET_SUPPORTED_CPUID, not a processor's own CPUID"),
    "emulated": (SUP.replace("SUP", "EMU"), "KVM_GET_EMULATED_CPUID, not a processor's own CPUID"),
    "hyperv": (SUP.replace("SUP", "HV"), "KVM_GET_SUPPORTED_HV_CPUID, not a processor's own CPUID"),
}


def snapshot(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("more", [(), ("0",), ("--all-cpus",)], ids=" ".join)
def test_what_is_no_processors_own_cpuid_is_said_to_be_what_it_is(part: str, more: tuple[str, ...], tmp_path: Path) -> None:
    line, said = PARTS[part]
    only = snapshot(tmp_path / "snapshot.txt", line)
    shown = run(only, *more).stdout
    assert shown.startswith(said)
    assert ("not a processor's own CPUID" in shown) == (part != "raw")
    if "--all-cpus" not in more:
        assert json.loads(run(only, *more, "--format", "json").stdout)["part"] == part


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("more", [(), ("--each",), ("--all-cpus",)], ids=" ".join)
def test_a_part_of_several_is_picked(part: str, more: tuple[str, ...], tmp_path: Path) -> None:
    lines = [line.replace("00000001", f"{number:08x}") for number, (line, _) in enumerate(PARTS.values(), 1)]
    everything = snapshot(tmp_path / "all.txt", *lines)
    assert PARTS[part][1] in run(everything, *more, "--part", part).stdout
    if "--all-cpus" not in more:
        row = json.loads(run(everything, "0", *more, "--part", part, "--format", "jsonl").stdout.splitlines()[0])
        assert row["value"] == hex(list(PARTS).index(part) + 1)
        others = snapshot(tmp_path / "others.txt", *(line for line in lines if line != lines[list(PARTS).index(part)]))
        if more:
            done = run(others, *more, "--part", part)
            assert (done.returncode, done.stdout) == (InputError.exit_status, "")
            assert "it has not " in done.stderr
        else:
            assert_refused(run(others, "--part", part), "it has not ")


def test_without_a_part_the_first_is_decoded(tmp_path: Path) -> None:
    lines = [line for line, _ in PARTS.values()]
    for number, part in enumerate(PARTS):
        rest = snapshot(tmp_path / "rest.txt", *lines[number:])
        assert json.loads(run(rest, "--format", "json").stdout)["part"] == part


@pytest.mark.parametrize("wanted", ["seven", "7.x", "", "7.", "1_0", "+7", " 7", "7 ", "100000007", "7.0.0", "0x", "0x0x7", "7.-1"])
def test_what_is_no_leaf_is_refused(wanted: str) -> None:
    assert_refused(run(HOST, wanted), "is no leaf")


def test_a_leaf_that_is_not_there_is_refused() -> None:
    assert_refused(run(HOST, "77777777"), "none of these leaves")


def test_all_cpus_shows_what_differs(tmp_path: Path) -> None:
    entries = [
        f"CPU {cpu}:\n   0x00000000 0x00: eax=0x0000001a ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
        f"   0x0000001a 0x00: eax=0x{core:x}000001 ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n"
        for cpu, core in enumerate((0x40, 0x40, 0x20, 0x20, 0x40))
    ]
    file = tmp_path / "hybrid.txt"
    file.write_text("".join(entries), encoding="utf-8")
    shown = run(str(file), "--all-cpus").stdout
    assert "5 CPUs, 1 fields that differ" in shown
    row = json.loads(run(str(file), "--all-cpus", "--format", "jsonl").stdout)
    assert row["value"] == "Core: CPU 0-1,4; Atom: CPU 2-3"
    told = json.loads(run(str(file), "--all-cpus", "--format", "json").stdout)
    (difference,) = told["differences"]
    assert difference["values"] == [{"text": "Core", "cpus": [0, 1, 4]}, {"text": "Atom", "cpus": [2, 3]}]
    assert json.loads(run(str(file), "1a", "--all-cpus", "--format", "json").stdout) == told
    assert json.loads(run(str(file), "0", "--all-cpus", "--format", "json").stdout)["differences"] == []


HYBRID = "".join(
    f"CPU {number}:\n"
    "   0x00000000 0x00: eax=0x0000001f ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
    "   0x00000007 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x00000000 edx=0x00008000\n"
    f"   0x0000001f 0x00: eax=0x00000001 ebx=0x0000000{threads} ecx=0x00000100 edx=0x{number:08x}\n"
    f"   0x0000001f 0x01: eax=0x00000004 ebx=0x00000006 ecx=0x00000201 edx=0x{number:08x}\n"
    for number, threads in ((0, 2), (1, 2), (2, 2), (3, 2), (8, 1), (10, 1))
)


def counts(topology: dict[str, Any]) -> dict[str, int]:
    return {level["name"]: level["count"] for level in topology["counts"]}


def test_cpus_that_are_not_alike_are_drawn_from_all_of_a_dump(tmp_path: Path) -> None:
    file = tmp_path / "hybrid.txt"
    file.write_text(HYBRID, encoding="utf-8")
    told = json.loads(run(str(file), "--format", "json").stdout)["topology"]
    assert (told["mixed"], counts(told)) == (True, {"thread": 6, "core": 4, "package": 1})
    assert "│ │ thread thread │ │ thread thread │ │" in run(str(file)).stdout.replace(" " * 5, " ")
    assert "if all were like this one" not in run(str(file)).stdout
    each = json.loads(run(str(file), "--each", "--format", "json").stdout)["cpus"]
    for number in (0, 4):
        name = f"{file}#{number}"
        alone = json.loads(run(name, "--format", "json").stdout)
        assert each[number] == {"cpu": name, **{key: value for key, value in alone.items() if key != "schema"}}
        assert json.loads(run(name, "--each", "--format", "json").stdout)["cpus"] == [each[number]]
        assert "if all were like this one" not in run(name).stdout
    assert not run(f"{file}#0").stderr
    assert [counts(cpu["topology"])["core"] for cpu in each] == [4] * 6
    alone = tmp_path / "alone.txt"
    alone.write_text("CPU " + HYBRID.rpartition("CPU ")[2], encoding="utf-8")
    assert json.loads(run(str(alone), "--format", "json").stdout)["topology"]["counts"] is None
    assert "… 6 if all were like this one" in run(str(alone)).stdout


@pytest.mark.parametrize("width", [60, 80, 120])
def test_drawings_take_the_terminals_width(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = run(HOST).stdout.splitlines()
    top = next(number for number, line in enumerate(lines) if line.startswith("┌ package"))
    assert max(map(len, lines[top:])) <= max(width, 62)


# A pile of dumps

DUMP = (
    "CPU {}:\n   0x00000000 0x00: eax=0x00000002 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
    "   0x00000001 0x00: eax=0x{:08x} ebx=0x00000000 ecx=0x00000000 edx=0x00000001\n"
)


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """A folder: a dump of two CPUs, a damaged file, a gzip dump in a folder of its own, a link that leads nowhere, a pipe."""
    folder = tmp_path / "pile"
    (folder / "more").mkdir(parents=True)
    (folder / "two.txt").write_text(DUMP.format(0, 0x50654) + DUMP.format(1, 0x50655), encoding="utf-8")
    (folder / "damaged.txt").write_text(f"{DUMP.format(0, 0x50654)[:-5]}\nregards\n", encoding="utf-8")
    (folder / "more" / "one.gz").write_bytes(gzip.compress(DUMP.format(0, 0x50656).encode()))
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    return folder


def cpus(pile: Path) -> list[str]:
    return [f"{pile}/two.txt#0", f"{pile}/two.txt#1", f"{pile}/more/one.gz"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("more", [(), ("--full",), ("1",)], ids=" ".join)
def test_each_shows_all_that_can_be_read_and_tells_what_cannot(more: tuple[str, ...], form: str, pile: Path) -> None:
    done = run(str(pile), *more, "--each", "--format", form)
    assert done.returncode == InputError.exit_status
    told = done.stderr.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in told] == [f"{pile}/damaged.txt", f"{pile}/link"]
    assert "cut" in told[0]
    assert "No such file" in told[1]
    names, steppings = cpus(pile), ["4", "5", "6"]
    if form == "json":
        shown = json.loads(done.stdout)["cpus"]
        assert [cpu["cpu"] for cpu in shown] == names
        fields = ((field for leaf in cpu["leaves"] for field in leaf["fields"] if field["name"] == "stepping") for cpu in shown)
        assert [str(field["value"]) for found in fields for field in found] == steppings
        assert all(("identity" in cpu) == ("1" not in more) for cpu in shown)
    elif form in ("jsonl", "csv"):
        csv_rows = list(csv.DictReader(io.StringIO(done.stdout))) if form == "csv" else []
        rows = csv_rows or [json.loads(line) for line in done.stdout.splitlines()]
        assert list(dict.fromkeys(row["cpu"] for row in rows)) == names
        assert [row["value"] for row in rows if row["name"] == "stepping"] == steppings
    else:
        first, *others = re.split(rf"(?:^|\n\n)({pile}.*):\n", done.stdout)
        assert (first, others[::2]) == ("", names)
        assert all(re.search(rf"\bstepping\W+{stepping}\b", text) for stepping, text in zip(steppings, others[1::2], strict=True))


def test_each_of_one_is_what_it_is_alone(pile: Path) -> None:
    each = json.loads(run(HOST, "--each", "--format", "json").stdout)
    (alone,) = each["cpus"]
    assert alone | {"schema": each["schema"]} == {"cpu": HOST, **json.loads(run(HOST, "--format", "json").stdout)}
    assert run(f"{pile}/two.txt#1", "1", "--each").stdout == f"{pile}/two.txt#1:\n{run(f'{pile}/two.txt#1', '1').stdout}\n"


def test_each_leaves_out_what_has_none_of_the_leaves(pile: Path) -> None:
    (pile / "two.txt").write_text(DUMP.format(0, 1) + DUMP.format(1, 2).replace("0x00000001 0x00", "0x00000002 0x00"), encoding="utf-8")
    (pile / "damaged.txt").unlink()
    (pile / "link").unlink()
    rows = [json.loads(line) for line in run(str(pile), "1", "--each", "--format", "jsonl").stdout.splitlines()]
    assert {row["cpu"] for row in rows} == {cpus(pile)[0], cpus(pile)[2]}
    assert_refused(run(str(pile), "7", "--each"), "pile: none of its CPUs has any of these leaves")


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_without_dumps_is_refused(form: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(run(str(tmp_path), "--each", "--format", form), "there is no file in it")
    (tmp_path / "README").write_text("nothing of the kind\n", encoding="utf-8")
    done = run(str(tmp_path), "--each", "--format", form)
    nothing = '{"schema": "vcpuid/decode/2", "cpus": []}\n' if form == "json" else ""
    assert (done.returncode, done.stdout) == (InputError.exit_status, nothing)
    assert done.stderr.startswith(f"vcpuid: {tmp_path}/README:1: no CPUID in it")


def test_a_link_to_a_folder_is_told_and_not_followed(pile: Path) -> None:
    (pile / "damaged.txt").unlink()
    (pile / "link").unlink()
    (pile / "more" / "circle").symlink_to(".")
    done = run(str(pile), "1", "--each", "--format", "jsonl")
    assert done.returncode == InputError.exit_status
    assert done.stderr == f"vcpuid: {pile}/more/circle: a link to a folder, which is not followed\n"
    assert list(dict.fromkeys(json.loads(line)["cpu"] for line in done.stdout.splitlines())) == cpus(pile)
    named = run(f"{pile}/more/circle", "1", "--each", "--format", "jsonl")
    assert {json.loads(line)["cpu"] for line in named.stdout.splitlines()} == {f"{pile}/more/circle/one.gz"}


def test_a_folder_that_cannot_be_listed_is_told(pile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("more"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    done = run(str(pile), "1", "--each", "--format", "jsonl")
    assert done.returncode == InputError.exit_status
    assert f"vcpuid: {pile}/more: a folder that cannot be looked into\n" in done.stderr
    assert {json.loads(line)["cpu"] for line in done.stdout.splitlines()} == set(cpus(pile)[:2])


def test_a_folder_is_not_read_as_one_dump(pile: Path) -> None:
    assert_refused(run(str(pile)), "Is a directory")


def test_each_and_all_cpus_exclude_each_other() -> None:
    done = run(HOST, "--each", "--all-cpus")
    assert done.returncode == click.UsageError.exit_code
    assert "--all-cpus compares the CPUs that --each shows one by one" in done.stderr


@pytest.mark.x86
def test_this_machine_is_decoded_without_a_source() -> None:
    assert "package" in run().stdout


def test_a_folder_with_hardly_a_dump_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rule of check and of fleet; what was read until then is a whole document."""
    monkeypatch.setattr("vcpuid.sources.folders._STRANGE", 20)
    for number in range(30):
        (tmp_path / f"{number:02}.txt").write_text("junk", encoding="utf-8")
    done = run(str(tmp_path), "--each", "--format", "json")
    assert done.returncode == InputError.exit_status
    assert done.stderr.splitlines()[-1] == f"vcpuid: {tmp_path}: of its first 20 files 0 can be read: no folder of snapshots"
    assert json.loads(done.stdout)["cpus"] == []
