"""What dumps, files' names and arguments hold does nothing to a terminal, makes no second line of an error, and no formula in a sheet."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.command import vcpuid
from vcpuid import cli, read
from vcpuid.cli import safe
from vcpuid.cpuid.registers import CpuidTable
from vcpuid.formats.lines import format_snapshot

CASES = Path("tests/reliability")
HOST = "tests/captures/kvm/kvm-intel.corei7_skylake_x@6.12.txt.gz"
EVIL = "=a\x1b]0;x\x07\x9b2J\u202e\u2066\x7f"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def leaves(group: click.Group, *above: str) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        found += leaves(command, *above, name) if isinstance(command, click.Group) else [(*above, name)]
    return found


VERBS = leaves(cli.cli)
WITHOUT = {("completion",), ("collect",), ("qemu", "import"), ("fleet", "collect")}
"""Verbs that take no text but of a list, or that would start a program."""


def command_of(path: tuple[str, ...]) -> click.Command:
    found: click.Command = cli.cli
    for name in path:
        assert isinstance(found, click.Group)
        next_ = found.get_command(click.Context(found), name)
        assert next_ is not None
        found = next_
    return found


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A host whose file's name, CPU, parameters, names of vendor, brand and hypervisor are full of what a terminal obeys."""
    snapshot = read(HOST)
    text = [int.from_bytes(part, "little") for part in (b"=\x1b[2", b"J\x9b\x07\n", b"\r\x85\x7fx")]
    entries = []
    for entry in snapshot.raw:
        if entry.function in (0x80000002, 0x80000003, 0x80000004):
            entries.append(entry._replace(eax=text[0], ebx=text[1], ecx=text[2], edx=text[1]))
        elif entry.function == 0x40000000:
            entries.append(entry._replace(ebx=text[0], ecx=text[1], edx=text[2]))
        else:
            entries.append(entry)
    folder = tmp_path_factory.mktemp("hostile")
    path = folder / "=cmd|calc!A0\x1b[2J\n\x9b\u202e.txt"
    lines = [line for line in format_snapshot(snapshot) if not line.startswith(("RAW", "CPU "))]
    raw = ["RAW {:08x}.{:x} {:08x} {:08x} {:08x} {:08x}".format(*e[:2], *e[3:]) for e in CpuidTable(entries)]
    path.write_text("\n".join(["CPU =\x9b2J\u202e\x7f\x85", *lines, *raw]) + "\n", encoding="utf-8")
    return str(path)


def check(done: object, form: str | None = None) -> None:
    out, err, status = done.stdout, done.stderr, done.returncode  # type: ignore[attr-defined]
    assert not UNSAFE.search(out), out[:2000]
    assert not UNSAFE.search(err), err
    assert status != 70, err
    if status in (1, 3, 4) and not out:
        assert len(err.splitlines()) <= err.count("vcpuid: ") + len(re.findall("^error: ", err, re.MULTILINE)), err  # virsh's have two
    assert all(len(line) < 2100 for line in err.split("\n"))
    if form == "csv" and out:
        for row in csv.reader(io.StringIO(out)):
            assert not [text for text in row if re.match(r"[=+\-@\t\r].", text) and not re.fullmatch(r"[+-]?[0-9.]+", text)], row


@pytest.mark.parametrize("form", ["table", "lines", "csv"])
@pytest.mark.parametrize(
    "args",
    [
        ("decode",), ("decode", "--full"), ("decode", "--each"), ("decode", "--all-cpus"), ("guest", "--host"),
        ("explain", "avx2", "--host"),
        ("check", "Skylake-Server,model-id=\x1b[2J\x9b"), ("worth", "--host"), ("hyperv", "--host"), ("linux", "flags"),
        ("kvm", "supported"),
        ("kvm", "lookup"), ("qemu", "models"), ("qemu", "expand", "host,model-id=\x1b[2J日本"), ("diff", HOST),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_hostile_dump_reaches_no_terminal(args: tuple[str, ...], form: str, hostile: str) -> None:
    more = ("7",) if args == ("kvm", "lookup") else ()
    check(vcpuid(*args, hostile, *more, "--format", form), form)


@pytest.mark.parametrize("to", ["snapshot", "cpuid", "instlatx64", "cpudata", "qemu"])
def test_nor_does_what_is_converted_to_standard_output(to: str, hostile: str) -> None:
    check(vcpuid("convert", hostile, "--to", to))


@pytest.mark.parametrize("path", [verb for verb in VERBS if verb not in WITHOUT], ids=" ".join)
@pytest.mark.parametrize("evil", [EVIL, "x" * 5000, "a\nvcpuid: b"], ids=["escapes", "long", "lines"])
def test_every_argument_and_option_of_every_verb_is_echoed_safely(
    path: tuple[str, ...], evil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vcpuid.cli.explore._serve", lambda *_: None)
    command = command_of(path)
    required = [evil for parameter in command.params if isinstance(parameter, click.Argument) and parameter.required]
    check(vcpuid(*path, *required, evil, evil))
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_flag and parameter.name not in ("path", "glibc"):
            values = [evil, f"a={evil}", f"nested={evil}"] if parameter.name == "params" else [evil]
            for value in values:
                check(vcpuid(*path, *required, parameter.opts[0], value))


def test_an_error_is_one_line_whatever_is_in_the_file() -> None:
    done = vcpuid("decode", str(CASES / "newline-in-message.xml"))
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert r"a\nb" in done.stderr


def test_escapes_in_a_brand_are_spelled_out() -> None:
    for form in ("table", "lines", "csv"):
        done = vcpuid("decode", str(CASES / "escape-in-brand.txt"), "--format", form)
        check(done, form)
        assert done.returncode == 0


def test_a_file_with_bytes_that_are_no_text_in_its_name(tmp_path: Path) -> None:
    done = vcpuid("decode", str(tmp_path / "\udc9b2J\udcff.txt"))
    assert "\\x9b2J" in done.stderr
    assert done.returncode == 3


def test_json_escapes_of_itself(hostile: str) -> None:
    done = vcpuid("decode", hostile, "--format", "json")
    assert not UNSAFE.search(done.stdout)
    json.loads(done.stdout)


@pytest.mark.long
@given(st.text())
@example("0" * 23 + "\x1f" * 11 + "\x08")  # spelled out, a word is longer
def test_a_message_is_one_bounded_line(text: str) -> None:
    told = safe.message(text * 3)
    assert not UNSAFE.search(told)
    assert len(told.splitlines()) <= 1
    assert len(told) <= 2001
    assert safe.message(told) == told


def test_a_text_out_of_a_dump_has_no_tabs_in_any_form() -> None:
    assert (safe.line("\t"), safe.field("\t"), safe.message("a\tb")) == ("\\t", "\\t", "a\\tb")


@given(st.text(alphabet="ab \t\n"))
def test_what_is_harmless_stays(text: str) -> None:
    assert safe.clean(text) == text


@pytest.mark.parametrize("text", ["-5", "+3", "1.5", "-", "avx2", "", "-1.5e3"])
def test_numbers_and_words_of_csv_stay(text: str) -> None:
    assert safe.field(text) == text


@pytest.mark.parametrize("text", ["=1+1", "+avx2", "-cpu max", "@x", "=cmd|calc!A0.txt", "+1-2"])
def test_formulas_of_csv_are_text(text: str) -> None:
    assert safe.field(text) == f"'{text}"


def test_standard_error_is_written_in_one_place() -> None:
    for path in Path(cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "file" and ast.unparse(node.value) == "sys.stderr":
                assert path.name in ("streams.py", "qemu.py"), path  # qemu.py shows how far it is, on one line that it clears
