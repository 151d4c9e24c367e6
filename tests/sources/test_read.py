"""`read`: plain and gzip files, standard input, and one error with the file, the line and the cause for whatever makes no sense."""

from __future__ import annotations

import builtins
import gzip
import io
import os
import random
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcpuid.cpuid import CpuidTable, Entry
from vcpuid.errors import InputError
from vcpuid.formats import files
from vcpuid.formats.files import read_text
from vcpuid.formats.lines import parse_snapshot
from vcpuid.sources import read

TEXT = """\
CPU Example
taken on a Sunday
KERNEL 6.12.1
# a remark
CPUINFO flags fpu vme

PARAM kvm_intel.nested Y
RAW 00000000.0 00000001 756e6547 6c65746e 49656e69
RAW 00000001.0 000806f8 00010800 7ffef3bf afebfbff
SUP 00000001.0 f0 000806f8 00010800 7ffef3bf afebfbff
MSR 10a 1 400000000c000069
MSR 345 0 0
"""


@pytest.fixture
def host(tmp_path: Path) -> Path:
    return tmp_path / "host.txt"


def give_stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


@pytest.mark.parametrize("begin", ["[pid 12] ", "[    0.123456] ", "RAW "])
def test_a_long_line_of_a_log_is_no_json(begin: str, host: Path) -> None:
    host.write_text(begin + "x" * (files.LINE_LIMIT + 1) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"host.txt:1: a line of more than 65536 bytes"):
        read(host)


def test_a_plain_file(host: Path) -> None:
    host.write_text(TEXT, encoding="utf-8")
    snapshot = read(host)
    assert snapshot.cpu == "Example"
    assert snapshot.kernel == "6.12.1"
    assert snapshot.notes == ("taken on a Sunday",)
    assert snapshot.cpuinfo == {"flags": "fpu vme"}
    assert snapshot.params == {"kvm_intel.nested": "Y"}
    assert snapshot.vendor == "GenuineIntel"
    assert snapshot.supported == CpuidTable([Entry(1, 0, 0, 0x806F8, 0x10800, 0x7FFEF3BF, 0xAFEBFBFF)])
    assert snapshot.emulated is None
    assert snapshot.msrs == {0x10A: 0x400000000C000069}
    assert snapshot.msrs.refused == (0x345,)


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TEXT.encode(), mtime=0),
        gzip.compress(TEXT[:100].encode(), mtime=0) + gzip.compress(TEXT[100:].encode(), mtime=0),
        TEXT.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.rstrip("\n").encode(),
    ],
    ids=["gzip", "gzip in two members", "CRLF", "byte order mark", "no end of the last line"],
)
def test_a_file_is_known_by_its_content(data: bytes, tmp_path: Path) -> None:
    plain, other = tmp_path / "plain.gz", tmp_path / "other.txt"
    plain.write_text(TEXT, encoding="utf-8")
    other.write_bytes(data)
    assert read(str(other)) == read(plain)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input(pack: Any, host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.write_text(TEXT, encoding="utf-8")
    give_stdin(monkeypatch, pack(TEXT.encode()))
    assert read("-") == read(host)


def test_standard_input_has_a_name_in_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    give_stdin(monkeypatch, b"RAW 0.0\n")
    with pytest.raises(InputError, match=r"^standard input:1: 1 fields where 5 belong"):
        read("-")


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="standard input: it is closed"):
        read("-")


def test_words_for_the_machine_are_files_as_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("live").write_text(TEXT, encoding="utf-8")
    assert read(Path("live")) == read("./live")
    assert read(Path("live")).cpu == "Example"


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("RAW 00000007.0 00000000 019803ab 0000000c", "4 fields where 5 belong"),
        ("RAW 00000007.0 f1 00000000 019803ab 0000000c 20000000", "6 fields where 5 belong"),
        ("SUP 00000007.0 00000000 019803ab 0000000c 20000000", "5 fields where 6 belong"),
        ("SUP 00000007.0 1 00000000 019803ab 0000000c 20000000", "'1' is not of the form fFLAGS"),
        ("SUP 00000007 f1 00000000 019803ab 0000000c 20000000", "'00000007' is not of the form func.index"),
        ("SUP 00000007.0 f1 00000000 019803ab 0000000c 2000000g", "register '2000000g' is not a hexadecimal number"),
        ("SUP 00000007.0 f1 00000000 019803ab 0000000c -0000001", "register '-0000001' is not a hexadecimal number"),
        ("SUP 00000007.0 f1 00000000 019803ab 0000000c 0x000001", "register '0x000001' is not a hexadecimal number"),
        ("SUP 00000007.0 f1 00000000 019803ab 0000000c 0000_001", "register '0000_001' is not a hexadecimal number"),
        ("SUP 00000007.0 f1 00000000 019803ab 0000000c ００００００００", "is not a hexadecimal number"),
        ("SUP 00000007.0 f1 00000000 019803ab 0000000c 120000000", "register '120000000' has more than 8 digits"),
        ("SUP 00000007. f1 00000000 019803ab 0000000c 20000000", "sub-leaf '' is not a hexadecimal number"),
        ("RAW 00000001.0 00000000 019803ab 0000000c 20000000", "a second answer of CPUID 1.0"),
        ("SUP", "0 fields where 6 belong"),
        ("EMU empty 1", "2 fields where 6 belong"),
        ("MSR 10b 1", "2 fields where 3 belong"),
        ("MSR 10b 2 0", "'2' does not tell whether it was read"),
        ("MSR 10b 1 10000000000000000", "value '10000000000000000' has more than 16 digits"),
        ("MSR 10a 1 0", "a second value of MSR 10a"),
        ("MSR 345 1 0", "a second value of MSR 345"),
        ("SETRC", "'' is not a return value"),
        ("SETRC 1.5", "'1.5' is not a return value"),
        ("SETRC " + "1" * 5000, "is not a return value"),
        ("CPUINFO", "a name is missing"),
        ("CPUINFO flags fpu", "a second CPUINFO line of 'flags'"),
        ("PARAM kvm_intel.nested Y", "a second PARAM line of 'kvm_intel.nested'"),
        ("CPU Other", "a second CPU line"),
        ("KERNEL 6.1.0", "a second KERNEL line"),
        ("RAWX 00000007.0 0 0 0 0", "'RAWX' is not a kind of line"),
        ("<html>", "'<html>' is not a kind of line"),
        ("x" * (files.LINE_LIMIT + 1), "a line of more than 65536 bytes"),
        ("RAW 00000007.0 00000000\x00 019803ab 0000000c 20000000", "not text: a byte 0x00"),
        ("RAW 00000007.0 00000000\r 019803ab 0000000c 20000000", "not text: a byte 0x0d"),
    ],
)
def test_a_wrong_line_is_named(line: str, cause: str, host: Path) -> None:
    host.write_text(TEXT + line + "\n" + TEXT.splitlines()[7] + "\n", newline="", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read(host)
    assert (caught.value.source, caught.value.line) == (str(host), 13)
    assert str(caught.value).startswith(f"{host}:13: ")
    assert cause in caught.value.cause
    assert len(str(caught.value)) < len(str(host)) + 200


@pytest.mark.parametrize("digits", range(1, 8))
def test_a_file_cut_in_its_last_register(digits: int, host: Path) -> None:
    host.write_text(TEXT + f"SUP 00000007.0 f1 00000000 019803ab 0000000c {'2000000'[:digits]}", encoding="utf-8")
    with pytest.raises(InputError, match=r"host.txt:13: the file is cut within this line"):
        read(host)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "host.txt: no CPUID in it"),
        (b"\n\n# nothing\n", "host.txt:3: no CPUID in it"),
        (b"<html>\n<p>Not found\n", "host.txt:2: no CPUID in it"),
        (b"CPUINFO flags fpu vm", "host.txt:1: no CPUID in it"),
        (b"RAW 0.0 0 0 0 0\ncaf\xe9\n", "host.txt:2: not text: byte 0xe9 is not UTF-8"),
        (bytes(range(256)), "host.txt:1: not text: a byte 0x00"),
        (gzip.compress(b"RAW 0.0 0\n", mtime=0), "host.txt:1: 2 fields where 5 belong"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-1], "host.txt: damaged gzip data: "),
        (gzip.compress(TEXT.encode(), mtime=0)[:40], "host.txt: damaged gzip data: "),
        (gzip.compress(TEXT.encode(), mtime=0)[:3], "host.txt: damaged gzip data: "),
        (b"\x1f\x8b", "host.txt: damaged gzip data: "),
        (b"\x1f\x8bRAW 0.0 0 0 0 0\n", "host.txt: damaged gzip data: "),
        (gzip.compress(TEXT.encode(), mtime=0) + b"more", "host.txt: damaged gzip data: "),
        (gzip.compress(gzip.compress(TEXT.encode(), mtime=0), mtime=0), "host.txt:1: not text"),
    ],
)
def test_a_wrong_file_is_named(data: bytes, cause: str, host: Path) -> None:
    host.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read(host)
    assert cause in str(caught.value)


def test_damage_to_gzip_data_is_refused_or_does_no_harm(host: Path) -> None:
    good = gzip.compress(TEXT.encode(), mtime=0)
    host.write_bytes(good)
    expected = read(host)
    accounted = harmless = 0
    for position in range(2, len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 0x10
        host.write_bytes(damaged)
        try:
            snapshot = read(host)
        except InputError as error:
            accounted += "damaged gzip data" in error.cause
        else:
            assert snapshot == expected  # the time of day in the header, say
            accounted += 1
            harmless += 1
    assert accounted == len(good) - 2
    assert harmless < len(good) * 0.1


def test_noise_is_refused(host: Path) -> None:
    noise = random.Random(1)
    for _ in range(50):
        host.write_bytes(noise.randbytes(2000))
        with pytest.raises(InputError):
            read(host)


@settings(deadline=None)  # the machine may be busy
@given(data=st.data())
def test_whatever_becomes_of_a_file_it_is_read_or_refused(data: st.DataObject) -> None:
    text = list(TEXT)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 12))] = data.draw(st.text(max_size=6))
    refusal = None
    try:
        snapshot = parse_snapshot("".join(text).split("\n"), "host.txt")
    except InputError as error:
        refusal = error
    assert refusal is None or str(refusal).startswith("host.txt:")
    assert refusal is not None or len(snapshot.raw) + len(snapshot.supported or ()) > 0


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere.txt: No such file or directory"):
        read(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(("named", "meant"), [("hosst1.txt", "host1.txt"), ("host1", "host1.txt"), ("other.txt", "other.txt.gz")])
def test_a_missing_file_whose_name_is_like_another_ones_is_asked_about(
    named: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("host1.txt", "other.txt.gz", "unlike", ".hosst1.txt"):
        (tmp_path / name).write_text(TEXT, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        read(tmp_path / named)
    assert str(raised.value) == f"{tmp_path}/{named}: No such file or directory; did you mean {tmp_path}/{meant}?"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"; did you mean {meant}\\?$"):
        read(named)


def test_in_a_large_folder_the_nearest_name_is_asked_about(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"host{number:05}.txt").touch()
    for slip, meant in (("hsot00001.txt", "host00001.txt"), ("host0271.txt", "host00271.txt"), ("host02999.json", "host02999.txt")):
        with pytest.raises(InputError, match=f"; did you mean {tmp_path}/{meant}\\?$"):
            read(tmp_path / slip)


def test_a_name_that_cannot_be_typed_is_not_asked_about(tmp_path: Path) -> None:
    for name in ("host\udcff1.txt", "host\n1.txt", "host\x1b1.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"No such file or directory$"):
        read(tmp_path / "host1.txt")


def test_a_pipe_is_read_to_its_end_however_late_and_slow_it_comes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        time.sleep(0.2)
        with open(pipe, "w", encoding="utf-8") as file:
            for part in ("", TEXT[:300], TEXT[300:]):
                time.sleep(0.2)
                file.write(part)
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    assert read_text(pipe) == (str(pipe), TEXT)
    writer.join()


@pytest.mark.parametrize("gone", [False, True], ids=["nobody comes", "somebody came and went"])
def test_a_pipe_into_which_nobody_writes_is_not_waited_for_for_ever(gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(files, "_NOBODY", 0.2 if not gone else 30)
    began = time.monotonic()
    if gone:
        leaver = threading.Timer(0.2, lambda: open(pipe, "wb").close())
        leaver.start()
        assert read_text(pipe)[1] == ""
        leaver.join()
    else:
        with pytest.raises(InputError, match="pipe: a pipe into which nobody writes"):
            read(pipe)
    assert time.monotonic() - began < 20


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory"):
        read(tmp_path)


def test_a_path_that_cannot_be_one() -> None:
    with pytest.raises(InputError, match="null byte"):
        read("host\0.txt")


def test_no_permission(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:  # whoever runs the tests may be root, who is never refused
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(InputError, match=r"host.txt: Permission denied"):
        read(host)


@pytest.mark.parametrize("source", ["live:", "live:x", "live:-1", "kvm:1.0", "cpu:٣", "cpu:" + "9" * 5000, "/dev/cpu/x/cpuid"])
def test_a_cpu_has_a_number(source: str) -> None:
    with pytest.raises(InputError, match="is not the number of a CPU"):
        read(source)


@pytest.mark.bounds
@pytest.mark.parametrize("what", ["bomb", "bomb of lines", "endless line", "endless notes", "device"])
def test_memory_is_bounded(what: str, host: Path) -> None:
    sizes = 8 * files.SIZE_LIMIT
    data = {
        "bomb": lambda: gzip.compress(bytes(sizes), 1),
        "bomb of lines": lambda: gzip.compress(b"RAW 0.0 0 0 0 0\n" * (sizes // 16), 1),
        "endless line": lambda: b"x" * (2 * files.SIZE_LIMIT),
        "endless notes": lambda: b"a note\n" * (files.SIZE_LIMIT // 7),
        "device": lambda: None,
    }[what]()
    if data is not None:
        host.write_bytes(data)
        del data
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more than"):
            read(Path("/dev/zero") if what == "device" else host)
        assert tracemalloc.get_traced_memory()[1] < 6 * files.SIZE_LIMIT
    finally:
        tracemalloc.stop()
