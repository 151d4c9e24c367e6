"""What goes wrong where output goes: one line and status 4, whatever is written; and a reader that has gone changes no answer."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.captures import capture
from support.command import program, vcpuid
from support.elf import cpuids, say, write_program
from vcpuid.cli.output import FORMATS
from vcpuid.cli.streams import guard, replaced
from vcpuid.errors import UnavailableError
from vcpuid.sources import read

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
CPU = ("--cpu", "Haswell", "--qemu", "11.1")
FULL, CLOSED = "No space left on device", "Bad file descriptor"
ANSWERS = {
    **{("decode", HOST, "7", "--format", form): 0 for form in FORMATS},
    **{("diff", HOST, *CPU, "--format", form): 1 for form in FORMATS},
    **{("diff", HOST, HOST, "--by", "field", "--format", form): 0 for form in FORMATS},
    **{("explain", "avx2", "--host", HOST, *CPU, "--format", form): 0 for form in FORMATS},
    **{("explain", "avx512f", "--host", HOST, *CPU, "--format", form): 1 for form in FORMATS},
    ("convert", HOST, "--to", "snapshot"): 0,
    ("convert", HOST, "--to", "json"): 0,
    ("completion", "bash"): 0,
    ("--help",): 0,
}
"""Verbs, and what they end with where what they write is read. Two equal dumps have no rows: some formats write nothing of them."""
SOME = [("decode", HOST), ("decode", HOST, "--format", "csv"), ("diff", HOST, *CPU), ("convert", HOST, "--to", "json"), ("--help",)]


def name(args: tuple[str, ...]) -> str:
    return " ".join(arg for arg in args if arg != HOST)


def shell(line: str, *args: str) -> subprocess.CompletedProcess[bytes]:
    """Run vcpuid with redirections, where `line` has `vcpuid`."""
    command = line.replace("vcpuid", f'"{sys.executable}" -m vcpuid "$@"')
    return subprocess.run(["bash", "-c", command, "-", *args], capture_output=True, timeout=60)


@contextmanager
def nobody() -> Iterator[int]:
    """Give a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@contextmanager
def full() -> Iterator[int]:
    device = os.open("/dev/full", os.O_WRONLY)
    try:
        yield device
    finally:
        os.close(device)


@pytest.mark.parametrize(("args", "status"), ANSWERS.items(), ids=map(name, ANSWERS))
def test_a_reader_that_has_gone_changes_no_answer(args: tuple[str, ...], status: int) -> None:
    with nobody() as writer:
        done = vcpuid(*args, stdout=writer)
    assert (done.returncode, done.stderr) == (status, "")


@pytest.mark.parametrize("args", [args for args in ANSWERS if args[:3] != ("diff", HOST, HOST)], ids=name)
def test_an_output_that_is_full_is_one_line_and_status_4(args: tuple[str, ...]) -> None:
    with full() as device:
        done = vcpuid(*args, stdout=device)
    assert (done.returncode, done.stderr) == (4, f"vcpuid: standard output: cannot be written: {FULL}\n")


@pytest.mark.process
@pytest.mark.parametrize("args", SOME, ids=name)
def test_the_interpreter_has_nothing_to_add_when_it_ends(args: tuple[str, ...]) -> None:
    """It flushes its streams once more, and turns what goes wrong there into a status of its own."""
    with nobody() as writer:
        gone = program(*args, stdout=writer)
    assert (gone.returncode, gone.stderr) == (vcpuid(*args).returncode, "")
    with full() as device:
        done = program(*args, stdout=device)
    assert (done.returncode, done.stderr) == (4, f"vcpuid: standard output: cannot be written: {FULL}\n")


@pytest.mark.process
@pytest.mark.parametrize("args", SOME, ids=name)
def test_an_output_that_is_closed_is_one_line_and_status_4(args: tuple[str, ...]) -> None:
    done = shell("vcpuid >&-", *args)
    assert (done.returncode, done.stderr.decode()) == (4, f"vcpuid: standard output: cannot be written: {CLOSED}\n")


@pytest.mark.process
def test_a_reader_that_goes_in_the_middle_of_a_large_answer() -> None:
    done = shell("set -o pipefail; vcpuid | head -n 1", "names", "--all", "--format", "lines")
    assert (done.returncode, done.stderr, done.stdout.count(b"\n")) == (0, b"", 1)


def test_a_pile_of_dumps_is_not_read_on_for_nobody(tmp_path: Path) -> None:
    good = "CPU 0:\n   0x00000000 0x00: eax=0x00000000 ebx=0x756e6547 ecx=0x6c65746e edx=0x49656e69\n"
    (tmp_path / "1").write_text(good, encoding="utf-8")
    (tmp_path / "2").write_text(good, encoding="utf-8")
    (tmp_path / "3").write_text("nonsense", encoding="utf-8")
    assert vcpuid("decode", str(tmp_path), "--each").returncode == 3
    with nobody() as writer:
        done = vcpuid("decode", str(tmp_path), "--each", stdout=writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_character_that_the_encoding_lacks_has_its_like(encoding: str, form: str) -> None:
    text = vcpuid("decode", HOST, "--format", form).stdout
    done = vcpuid("decode", HOST, "--format", form, encoding=encoding)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) == len(text)
    assert "?" not in done.stdout
    if form != "table":  # whose columns rich separates otherwise
        assert all(one == other or not one.isascii() for one, other in zip(text, done.stdout, strict=True))
    assert ("+ package -" in done.stdout) == (form == "table")


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_the_encoding_is_what_python_was_told(encoding: str) -> None:
    codec = encoding.partition(":")[0]
    done = program("decode", HOST, env={"PYTHONIOENCODING": encoding}, encoding=codec)
    assert (done.returncode, done.stdout, done.stderr) == vcpuid("decode", HOST, encoding=encoding)
    utf8 = program("decode", HOST, env={"PYTHONIOENCODING": "utf-8"})
    assert (utf8.returncode, utf8.stdout, utf8.stderr) == vcpuid("decode", HOST)


@pytest.mark.parametrize(
    ("text", "encoding", "written"),
    [
        ("┌─┐│├┴ ██", "ascii", b"+-+|++ ##"),
        ("64 µs, café…", "ascii", b"64 us, cafe..."),
        ("64 µs, café…", "latin-1", "64 µs, café...".encode("latin-1")),
        ("┌─┐", "utf-8", "┌─┐".encode()),
        ("dump\udcff.txt", "utf-8", b"dump\xff.txt"),
        ("dump\udcff.txt", "ascii", b"dump\xff.txt"),
        ("\ud800 中", "ascii", b"? ?"),
    ],
)
@pytest.mark.usefixtures("capsys")  # guard() replaces no stream of pytest's
def test_likes(text: str, encoding: str, written: bytes) -> None:
    guard()
    assert text.encode(encoding, "vcpuid-like") == written


@pytest.mark.parametrize(
    ("path", "why"),
    [("/dev/full", FULL), ("{}/missing/file", "No such file or directory"), ("{}", "Is a directory")],
    ids=["full", "missing", "folder"],
)
@pytest.mark.parametrize("verb", [("convert", HOST, "--to", "json"), ("collect", "--script")], ids=" ".join)
def test_a_file_that_cannot_be_written_is_one_line_and_status_4(verb: tuple[str, ...], path: str, why: str, tmp_path: Path) -> None:
    file = path.format(tmp_path)
    done = vcpuid(*verb, "--output", file)
    assert done == (4, "", f"vcpuid: {file}: cannot be written: {why}\n")


@pytest.mark.process
def test_a_file_is_written_where_standard_output_is_of_no_use(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    done = shell("vcpuid >&-", "convert", HOST, "--to", "json", "--output", str(file))
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(file) == read(HOST)
    with nobody() as writer:
        gone = program("convert", HOST, "--to", "json", "--output", f"/dev/fd/{writer}", pass_fds=[writer])
    assert (gone.returncode, gone.stdout, gone.stderr) == (0, "", "")


def test_nothing_is_written_where_nothing_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "host.json"
    assert vcpuid("convert", "/missing", "--to", "json", "--output", str(file)).returncode == 3
    assert not file.exists()


@pytest.mark.process
@pytest.mark.parametrize("stderr", ["/dev/full", "&-"])
@pytest.mark.parametrize(
    ("args", "status"),
    [(("explain", "nonsense", "--host", HOST), 3), (("convert", HOST, "--to", "cpuid"), 1), (("nonsense",), 2)],
    ids=["error", "remarks", "usage"],
)
def test_what_cannot_be_told_changes_no_status_and_goes_nowhere_else(args: tuple[str, ...], status: int, stderr: str) -> None:
    done = shell(f"vcpuid 2>{stderr}", *args)
    assert (done.returncode, done.stdout.decode()) == (status, vcpuid(*args).stdout)


@pytest.mark.long
@pytest.mark.parametrize(("closed", "status", "told"), [(">&-", 4, b"hi\nvcpuid: standard output: "), ("2>&-", 0, b"")])
def test_a_command_that_is_traced_prints_nothing_into_the_answer(closed: str, status: int, told: bytes, tmp_path: Path) -> None:
    says_hi = write_program(tmp_path / "says-hi", cpuids(1) + say("hi\n"))
    done = shell(f"vcpuid {closed}", "trace", "--step", "--format", "json", "--", says_hi)
    if status != 4 and done.returncode == 4:
        pytest.skip(done.stderr.decode())
    assert done.returncode == status
    assert done.stderr.startswith(told)
    assert bool(done.stderr) == bool(told)
    assert not done.stdout if status else json.loads(done.stdout)["cpuids"]


def test_a_file_that_is_replaced_is_called_by_its_name_and_gzipped_by_it(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=rf"^{tmp_path}/none/x: cannot be written: "), replaced(f"{tmp_path}/none/x"):
        pass
    with replaced(f"{tmp_path}/x.gz") as output:
        output.write("told\n")
    assert gzip.decompress((tmp_path / "x.gz").read_bytes()) == b"told\n"
    assert [path.name for path in tmp_path.iterdir()] == ["x.gz"]
