"""How answers are laid out: to the width that is told, between words, with nothing behind the last of them."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import sys
from itertools import chain
from pathlib import Path

import pytest

from support.captures import capture
from support.command import program, vcpuid
from test_json import CASES, other_machine, run
from vcpuid.answers.in_words import MANAGERS, in_words
from vcpuid.cli import layout, output
from vcpuid.cli.fleet_export import FORMS as EXPORTED
from vcpuid.cli.layout import Table, Verbatim, columns_of, folded, lines_of
from vcpuid.cli.output import Sheet, fitted, laid_out
from vcpuid.cli.short import SCREEN
from vcpuid.qemu.catalog import catalog

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
MILAN, ROME = (str(capture(name)) for name in ("kvm-amd.EPYC-Milan-v2@6.12", "kvm-amd.EPYC-Rome-v4@6.12"))
WIDTHS = (80, 100, 160)
_ = other_machine  # a fixture

ENDS = (",", ";", "/")


def whole(piece: str, words: set[str]) -> bool:
    """Whether a piece is a word, or the part of one between commas, semicolons and slashes."""
    if piece in words:
        return True
    for word in words:
        at = word.find(piece)
        while at >= 0:
            end = at + len(piece)
            if (at == 0 or word[at - 1] in ENDS) and (end == len(word) or piece.endswith(ENDS)):
                return True
            at = word.find(piece, at + 1)
    return False


@pytest.mark.usefixtures("other_machine")
@pytest.mark.parametrize("args", [args for name, args in CASES.items() if name != "snapshot"], ids=" ".join)
def test_every_answer_fits_and_splits_no_name(args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    sheets: list[Sheet] = []
    monkeypatch.setattr(output, "_table", sheets.append)
    if run(*args)[0] == 2:
        pytest.skip("it is no answer of this machine's")
    for sheet in sheets:
        piped = list(laid_out(sheet, sheet.rows, None, colours=False))
        words = set(chain.from_iterable(line.split() for line in piped))
        for width in (*WIDTHS, None):
            lines = list(laid_out(sheet, sheet.rows, width, colours=False))
            assert all(line == line.rstrip() for line in lines)
            verbatim = {line for line in (*sheet.head, *sheet.foot) if isinstance(line, Verbatim)}
            long = [line for line in lines if width is not None and columns_of(line) > width and line not in verbatim]
            assert all(line.startswith("vcpuid ") or len(line.removeprefix("-cpu ").split()) == 1 for line in long), long
            assert all(whole(piece, words) for line in lines for piece in line.split() if not piece.startswith("──"))
        for width in (*WIDTHS, 40, 20):
            lines = fitted(sheet, width, SCREEN, colours=False)
            assert all(one or other for one, other in itertools.pairwise(["", *lines, ""])) or not lines
            least = fitted(sheet, width, 0, colours=False)  # what stands above, a row, and the line on what is left out
            assert sheet.cut is None or sum(lines_of(line, width) for line in lines) <= max(
                SCREEN, sum(lines_of(line, width) for line in least)
            )
        assert len(piped) <= len(sheet.head) + len(sheet.foot) + len(sheet.rows) + 2


NAMES = "avx512_vpopcntdq avx512_bitalg hv-reenlightenment arch-capabilities avx512vbmi2"
PROSE = "the host's processor does not report it, so that no guest of it may ever have it either"


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120])
def test_names_are_never_split(width: int) -> None:
    table = Table(["feature", "why"], [[NAMES, PROSE], [NAMES, PROSE]], {})
    lines = list(table.lines(width, colours=False))
    assert set(NAMES.split()) <= set(chain.from_iterable(line.split() for line in lines))
    assert max(map(len, lines)) <= width


def test_without_a_width_a_row_is_a_line() -> None:
    table = Table(["feature", "why"], [[NAMES * 9, PROSE * 9]], {})
    lines = list(table.lines(None, colours=False))
    assert lines[2:] == [f"{NAMES * 9}   {PROSE * 9}"]
    assert len(lines[1]) == 100


def test_a_column_without_anything_is_left_out() -> None:
    lines = list(Table(["a", "empty", "b"], [["1", "", "2"], ["3", "", "4"]], {2: "bold"}).lines(80, colours=True))
    assert lines == ["\x1b[1ma\x1b[0m   \x1b[1mb\x1b[0m", "─────", "1   \x1b[1m2\x1b[0m", "3   \x1b[1m4\x1b[0m"]


def test_a_column_is_as_wide_as_what_stands_in_it_on_a_terminal() -> None:
    lines = list(Table(["a", "b"], [["ＡＢ", "x"], ["e\u0301", "y"]], {}).lines(80, colours=False))
    assert lines == ["a      b", "────────", "ＡＢ   x", "e\u0301      y"]


def test_rows_stand_below_each_other_where_columns_would_be_too_narrow() -> None:
    titles = ["first", "second", "third"]
    assert list(Table(titles, [["x" * 30, "y" * 30, "z y"], ["1", "", "3"]], {}).lines(60, colours=False)) == [
        f"first    {'x' * 30}", f"second   {'y' * 30}", "third    z y", "", "first    1", "third    3",
    ]  # fmt: skip


def test_a_short_cell_is_folded_last() -> None:
    lines = list(Table(["topic", "why"], [["glibc 2.36", PROSE]], {}).lines(60, colours=False))
    assert lines[2].startswith("glibc 2.36  the host's")


def test_a_word_without_end_ends_at_commas_and_else_stands_alone() -> None:
    cpu = ",".join(["Skylake-Server", *(f"avx512vnni{number}" for number in range(20))])
    lines = list(Table(["what", "do"], [["lacks", f"take {cpu}"]], {}).lines(60, colours=False))
    assert "".join(line.split()[-1] for line in lines[2:] if line.split()[-1] != "take").replace("lacks", "") == cpu
    assert max(map(len, lines)) <= 60
    assert folded(f"It runs with -cpu {cpu} here", 40) == ["It runs with", f"-cpu {cpu}", "here"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", [""]),
        ("  ", [""]),
        ("one two  ", ["one two"]),
        ("    and: one two three four", ["    and: one two", "    three four"]),
        ("a    b cccccccccccccccccccc", ["a    b", "cccccccccccccccccccc"]),
    ],
)
def test_a_sentence_is_folded_between_words(line: str, told: list[str]) -> None:
    assert folded(line, 20) == told


@pytest.mark.process
def test_a_pipe_honours_columns_and_has_any_width_without() -> None:
    args = ("check", "Icelake-Server", HOST, "--qemu", "11.1")
    wide, narrow = (program(*args, env={"COLUMNS": columns}).stdout for columns in ("", "80"))
    assert max(map(len, wide.splitlines())) > 160
    assert all(len(line) <= 80 or " " not in line.removeprefix("-cpu ") for line in narrow.splitlines())
    assert re.findall(r"\bavx512\w*", narrow) == re.findall(r"\bavx512\w*", wide)


def terminal(*args: str, **env: str) -> str:
    """What a terminal is sent."""
    child, fd = pty.fork()
    if child == 0:
        os.environ.pop("COLUMNS", None)
        os.execve(sys.executable, [sys.executable, "-m", "vcpuid", *args], {**os.environ, "TERM": "xterm", **env})
    shown = b""
    try:
        while part := os.read(fd, 1 << 16):
            shown += part
    except OSError:
        pass  # the other end is closed
    os.close(fd)
    os.waitpid(child, 0)
    return shown.decode()


@pytest.mark.process
def test_colours_are_for_terminals_that_want_them() -> None:
    args = ("guest", "--host", HOST, "--cpu", "Haswell", "--qemu", "11.1")
    coloured = terminal(*args)
    assert "\x1b[1m" in coloured
    plain = terminal(*args, "--no-color")
    assert plain == terminal(*args, NO_COLOR="1") == terminal(*args, TERM="dumb") == re.sub("\x1b\\[[0-9;]*m", "", coloured)
    assert "\x1b" not in vcpuid(*args, env={"COLUMNS": "80"}).stdout
    assert "\x1b[1m" in vcpuid(*args, env={"FORCE_COLOR": "1"}).stdout


def test_a_style_is_one_that_terminals_know() -> None:
    assert layout.painted("x", "bold red") == "\x1b[1;31mx\x1b[0m"
    with pytest.raises(KeyError):
        layout.painted("x", "purple")


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_a_remark_on_a_name_is_folded_once(columns: int) -> None:
    """A line that was folded for a hundred columns and again for eighty leaves a word or two on every other."""
    out = vcpuid("names", "spec_ctrl", env={"COLUMNS": str(columns)}).stdout
    lines = out.rstrip().rpartition("\n\n")[2].splitlines()
    assert len(lines) > 3
    for line, after in itertools.pairwise(lines):
        assert line.endswith(".") or len(f"{line} {after.split()[0]}") > min(columns, 100)


@pytest.mark.parametrize("form", EXPORTED)
def test_what_is_exported_is_the_same_at_any_width(form: str, tmp_path: Path) -> None:
    for host in (MILAN, ROME):
        (tmp_path / Path(host).name).symlink_to(Path(host).resolve())
    args = ("fleet", "export", str(tmp_path), "--to", form, "--qemu", "11.1")
    narrow, wide = (vcpuid(*args, env={"COLUMNS": columns}).stdout for columns in ("20", ""))
    assert max(map(len, wide.splitlines())) > 20
    assert narrow == wide


@pytest.mark.parametrize("manager", MANAGERS)
@pytest.mark.parametrize("args", [("check", "EPYC-Milan", MILAN), ("fleet", "baseline", MILAN, ROME)])
def test_what_is_written_for_a_manager_is_the_same_at_any_width(args: tuple[str, ...], manager: str) -> None:
    asked = (*args, "--for", manager, "--qemu", "11.1")
    told = json.loads(vcpuid(*asked, "--format", "json").stdout)
    pasted = in_words(told.get("proposal") or told["cpu"], manager, catalog("11.1")).lines
    shown = vcpuid(*asked, env={"COLUMNS": "20"}).stdout.splitlines()
    at = next(at for at, line in enumerate(shown) if line.strip() == pasted[0].strip())
    assert [line.strip() for line in shown[at : at + len(pasted)]] == [line.strip() for line in pasted]


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "lines"])
def test_what_programs_read_is_the_same_at_any_width(form: str) -> None:
    args = ("check", "EPYC-Milan", MILAN, "--qemu", "11.1", "--format", form)
    assert vcpuid(*args, env={"COLUMNS": "20"}).stdout == vcpuid(*args, env={"COLUMNS": ""}).stdout


def test_what_people_copy_stays_in_one_piece() -> None:
    cpu = "Icelake-Server-v2,-avx512vbmi,-pku,-gfni,+vmx"
    assert folded(f"See also: vcpuid check {cpu} tests/host.txt", 40) == ["See also:", f"vcpuid check {cpu} tests/host.txt"]
    assert f"recommended   {cpu}" in list(Table(["host", "recommended"], [["a", cpu]], {}).lines(40, colours=False))
    assert "a,b," in list(Table(["names"], [["a,b,c,d"]], {}).lines(5, colours=False))
