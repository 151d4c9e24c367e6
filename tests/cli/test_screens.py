"""Answers fit a terminal of 24 lines unless all is asked for, begin with the answer, and say where they are cut."""

from __future__ import annotations

import json
import re

import pytest

from support.captures import CAPTURES
from support.command import vcpuid
from vcpuid.answers.file_verdict import SEVERITY
from vcpuid.cli.layout import lines_of
from vcpuid.cli.output import Sheet, fitted
from vcpuid.cli.short import SCREEN, Cut

WIDTHS = (80, 100)
SKYLAKE, SAPPHIRE, MILAN, UNTOLD = (
    f"tests/captures/{name}.txt.gz"
    for name in (
        "kvm/kvm-intel.corei7_skylake_x@6.12",
        "kvm/kvm-intel.sapphire_rapids-xfd@6.12",
        "kvm/kvm-amd.EPYC-Milan-v2@7.3",
        "reports/cascade-lake-without-msrs",
    )
)
QEMU = "--qemu 11.1"
MANY = [str(path) for path in sorted(CAPTURES.glob("kvm/*@6.12.txt.gz"))[::5]]

ANSWERS = {
    f"guest --host {SKYLAKE} {QEMU}": "The guest sees ",
    f"guest --host {MILAN} --cpu Haswell {QEMU}": "The guest sees ",
    f"guest --host {UNTOLD} {QEMU}": "The guest sees ",
    f"worth --host {SKYLAKE} --cpu qemu64 {QEMU}": "The guest reaches x86-64, its host x86-64-v4",
    f"worth --host {UNTOLD} {QEMU}": "The guest reaches x86-64-v4",
    f"diff {SKYLAKE} --cpu Haswell {QEMU}": "45 features differ",
    f"diff {SKYLAKE} {MILAN} --flags": "",
    f"diff {SKYLAKE} --cpu host --by register {QEMU}": "",
    f"drift {MILAN} --from kernel=6.1,qemu=7.2 --to kernel=7.3,qemu=11.1,nested=0": "The guest loses ",
    f"drift {SAPPHIRE} --from kernel=6.12,qemu=7.2 --to kernel=6.18,qemu=11.1": "The guest gains ",
    f"hyperv --host {SKYLAKE} {QEMU}": "A Windows guest",
    f"linux vulnerabilities {SKYLAKE}": "The host's kernel reports itself",
    f"linux vulnerabilities {SKYLAKE} --guest --cpu Haswell {QEMU}": "The guest's kernel reports itself",
    f"explain spec_ctrl --host {SAPPHIRE} --cpu Haswell {QEMU}": "The guest does not see spec-ctrl: ",
    f"qemu models {SKYLAKE} {QEMU}": "",
    f"qemu models {UNTOLD} {QEMU}": "",
    "rules kvm": "",
    f"fleet migrate {SKYLAKE} {SAPPHIRE}": "unsafe: ",
    f"fleet baseline {SKYLAKE} {SAPPHIRE} {MILAN}": "-cpu ",
    f"fleet blame {SKYLAKE} {SAPPHIRE} {MILAN}": "",
    f"fleet models {SKYLAKE} {SAPPHIRE} {MILAN}": "",
    "fleet classes tests/captures/kvm": "",
    f"fleet blame {' '.join(MANY)}": "",
    f"check EPYC-Milan {SKYLAKE} {QEMU}": "-cpu EPYC-Milan starts, but ",
}
"""What begins the first line of an answer."""


def lines(command: str, width: int) -> list[str]:
    return vcpuid(*command.split(), env={"COLUMNS": str(width)}).stdout.splitlines()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", ANSWERS)
def test_an_answer_is_a_screen_and_begins_with_the_answer(command: str, width: int) -> None:
    shown, whole = lines(command, width), lines(f"{command} --all", width)
    assert shown[0].startswith(ANSWERS[command])
    assert sum(lines_of(line, width) for line in shown) <= SCREEN
    assert all(len(line) <= width for line in shown if not line.startswith(("-cpu ", "vcpuid ")))
    assert any("--all prints" in line for line in shown[-2:]), "a cut answer says so"
    assert whole[0] == shown[0]
    assert len(whole) > len(shown)


def test_what_no_layer_has_is_told_in_a_line() -> None:
    command = f"explain spec_ctrl --host {SKYLAKE} --cpu Haswell {QEMU}"
    shown = lines(command, 80)
    assert len(shown) <= SCREEN
    assert not any("--all" in line for line in shown), "nothing is left out"
    assert "no in every layer, silicon, linux, kvm observed; qemu, vcpu, guest modelled" in " ".join(shown)
    assert len(vcpuid(*command.split(), "-o", "lines").stdout.splitlines()) == 6


def test_what_is_cut_of_vulnerabilities_is_the_least_and_warnings_take_a_part_of_the_screen() -> None:
    command = f"linux vulnerabilities {SKYLAKE} --guest --cpu Haswell {QEMU}"
    done = vcpuid(*command.split(), env={"COLUMNS": "80"})
    assert "warning" in done.stderr
    assert sum(lines_of(line, 80) for line in (*done.stdout.splitlines(), *done.stderr.splitlines())) <= SCREEN
    rows = {row["file"]: row for row in map(json.loads, vcpuid(*command.split(), "-o", "jsonl").stdout.splitlines())}
    whole = vcpuid(*command.split(), "--all").stdout.splitlines()
    named = [file for line in whole if (file := line.partition(" ")[0]) in rows]
    ranks = [
        SEVERITY.index("partly" if rows[file]["more"] and rows[file]["state"] == "mitigated" else rows[file]["state"]) for file in named
    ]
    assert len(named) == len(rows)
    assert ranks == sorted(ranks)
    table = done.stdout.split("\n\n")[1].splitlines()
    cut = [file for line in table if (file := line.partition(" ")[0]) in rows]
    assert cut == named[: len(cut)]
    assert cut[:2] == ["mds", "spec_store_bypass"]


ROWS = [{"name": f"row{number}", "text": "word " * 6} for number in range(9)]


def sheet(cut: Cut | None) -> Sheet:
    return Sheet(["name", "text"], ROWS, head=["Nine rows.", ""], cut=cut)


def names(shown: list[str]) -> list[str]:
    return [word for line in shown for word in line.split() if re.fullmatch(r"row\d", word)]


@pytest.mark.parametrize(("width", "height", "number"), [(None, 24, 9), (80, 10, 4), (80, 2, 1), (22, 16, 4), (12, 24, 2)])
def test_as_many_rows_are_shown_as_fit_whether_beside_or_below_each_other(width: int | None, height: int, number: int) -> None:
    shown = fitted(sheet(Cut(9)), width, height, colours=False)
    assert names(shown) == [f"row{at}" for at in range(number)]
    if number < 9:
        assert " ".join(" ".join(shown).split()).endswith(f"{number} of 9 rows; --all prints the rest.")


def test_what_is_wider_than_the_screen_counts_as_the_lines_that_a_terminal_makes_of_it() -> None:
    wide = sheet(Cut(9))
    wide.head = [f"-cpu {'x' * 200}", ""]
    assert len(fitted(wide, 80, 12, colours=False)) == 10


@pytest.mark.parametrize(
    ("height", "rows", "notes", "said"),
    [
        (30, 9, "abcde", ""),
        (17, 7, "abcde", "7 of 9 rows; --all prints the rest."),
        (10, 2, "abc", "2 of 9 rows, 3 of 5 notes; --all prints the rest."),
        (7, 2, "a", "2 of 9 rows, 1 of 5 notes; --all prints the rest."),
        (3, 1, "", "1 of 9 rows, 0 of 5 notes; --all prints the rest."),
    ],
)
def test_two_rows_come_before_the_sentences_below_and_these_before_further_rows(height: int, rows: int, notes: str, said: str) -> None:
    noted = sheet(Cut(9))
    noted.head, noted.foot = ["Nine rows."], ["a", "b", "c", "  of c", "d", "e"]
    shown = fitted(noted, 80, height, colours=False)
    assert len(names(shown)) == rows
    assert "".join(line for line in shown if len(line) == 1) == notes
    assert ("  of c" in shown) == ("c" in notes)
    assert shown[-1] == (said or "e")


def test_what_stands_apart_is_so_by_one_empty_line() -> None:
    loose = Sheet(["name"], [{"name": "row"}], head=["", "Head.", "", ""], foot=["", "", "Foot.", ""])
    for cut in (None, Cut()):
        loose.cut = cut
        assert fitted(loose, 80, 24, colours=False) == ["Head.", "", "name", "────", "row", "", "Foot."]
    loose.rows = []
    assert fitted(loose, 80, 24, colours=False) == ["Head.", "", "Foot."]


def test_the_weightiest_rows_are_kept_in_their_order() -> None:
    assert names(fitted(sheet(Cut(2, weights=[0, 1, 0, 0, 0, 2, 0, 0, 0])), 80, 24, colours=False)) == ["row1", "row5"]


def test_one_row_more_is_shown_where_it_is_the_last() -> None:
    assert len(names(fitted(sheet(Cut(8)), 80, 24, colours=False))) == 9
    assert len(names(fitted(sheet(Cut(7)), 80, 24, colours=False))) == 7


def test_rows_that_the_table_never_had_are_counted_too() -> None:
    assert fitted(sheet(Cut(9, of=40, what="things")), 80, 24, colours=False)[-1] == "9 of 40 things; --all prints the rest."


def test_a_whole_table_says_only_what_else_there_is() -> None:
    assert fitted(sheet(Cut(9, more="every name")), 80, 24, colours=False)[-2:] == ["", "--all prints every name."]
    assert len(fitted(sheet(Cut(9)), 80, 24, colours=False)) == len(fitted(sheet(None), 80, 24, colours=False))
