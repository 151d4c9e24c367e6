"""A run's figures: how they are counted, the page of them, and the tables of them in the documentation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.tools import load_tool
from vcpuid.data import load
from vcpuid.errors import InputError
from vcpuid.releases import KERNELS, QEMUS

ROOT = Path(__file__).parents[1]
PARTIES = json.loads((ROOT / "tests" / "parties.json").read_text(encoding="utf-8"))["parties"]

Row = dict[str, Any]


@pytest.fixture(scope="module")
def tools() -> tuple[ModuleType, ModuleType]:
    """tools/figures.py and tools/support_matrix.py."""
    return load_tool("figures"), load_tool("support_matrix")


def counted(party: str, exact: int, tried: int, skipped: int = 0, **origin: str | None) -> Row:
    of = {"kernel": None, "qemu": None, "vendor": None} | origin
    return {"party": party, "how": PARTIES[party][1], **of, "test": "tests/test_it.py", "exact": exact, "tried": tried, "skipped": skipped}


SOME = [
    counted("KVM supported", 7, 7, kernel="6.12.107+deb13-cloud-amd64", vendor="GenuineIntel"),
    counted("KVM supported", 2, 3, kernel="6.12.107+deb13-cloud-amd64", vendor="HygonGenuine"),
    counted("vCPU", 1000, 1000, kernel="7.3.4", vendor="AuthenticAMD"),
    counted("QEMU tables", 5, 5, 2, kernel="6.12", qemu="10.0", vendor="AuthenticAMD"),
    counted("QEMU on real CPUs", 0, 0, 1),
    counted("live vCPU", 0, 0, 4, kernel="6.8.0-generic", vendor="GenuineIntel"),
]


@pytest.fixture
def page(tools: tuple[ModuleType, ModuleType], tmp_path: Path) -> str:
    (tmp_path / "figures.json").write_text(json.dumps(SOME), encoding="utf-8")
    tools[1].main(tmp_path / "figures.json", tmp_path / "folder" / "page.md")
    return (tmp_path / "folder" / "page.md").read_text(encoding="utf-8")


def cell(page: str, section: str, row: tuple[str, ...], column: str) -> str:
    """What the first table of a section that has the column says in the row that starts so."""
    lines = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0].splitlines()
    tables = [[part.strip() for part in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head = next(table for table in tables if column in table)
    below = tables[tables.index(head) + 1 :]
    return next(table for table in below if tuple(table[: len(row)]) == row)[head.index(column)]


def test_a_cell_sums_what_was_counted_there(page: str) -> None:
    assert cell(page, "Kernels", ("6.12", "Intel"), "KVM supported") == "7 of 7"
    assert cell(page, "Kernels", ("7.3", "AMD"), "vCPU") == "1,000 of 1,000"
    assert cell(page, "Vendors", ("AMD",), "KVM") == "1,000 of 1,000"


def test_what_is_not_exact_stands_out_and_what_is_skipped_is_no_success(page: str) -> None:
    assert cell(page, "Kernels", ("6.12", "Hygon"), "KVM supported") == "**2 of 3**"
    assert cell(page, "QEMUs", ("10.0", "AMD"), "QEMU tables") == "5 of 5, 2 skipped"
    assert cell(page, "QEMUs", ("10.0",), "Linux 6.12") == "5 of 5, 2 skipped"
    assert cell(page, "Live", ("live vCPU",), "exact") == "not run, 4 skipped"
    assert cell(page, "How each is verified", ("QEMU on real CPUs",), "exact") == "not run, 1 skipped"


def test_every_release_is_there_and_what_nothing_covers_is_said(page: str) -> None:
    for release in KERNELS:
        for party in ("/proc/cpuinfo", "KVM emulated"):
            assert cell(page, "Kernels", (release, "Intel"), party) == "sources only"
        assert re.search(rf"^- {release}: tables read off Linux {release.partition('-')[0]}\.\d+; ", page, re.MULTILINE)
    for release in QEMUS:
        assert re.search(rf"^- {release}: tables (?:asked of|read off the source of) QEMU {release}\.\d+", page, re.MULTILINE)
    gaps = page.partition("## What no capture covers")[2]
    assert "Linux 7.1: nothing was captured" in gaps
    assert "Linux 6.12 on AMD: no capture of KVM supported." in gaps
    assert "QEMU 11.1: nothing was captured" in gaps
    assert "Processors of Centaur and Zhaoxin:" in gaps
    idle = set(PARTIES) - {"KVM supported", "vCPU", "QEMU tables"}
    assert all(party in gaps.partition("Not tried in this run")[2] for party in idle)


def test_a_run_that_compared_nothing_still_names_every_release(tools: tuple[ModuleType, ModuleType]) -> None:
    page = tools[1].page([])
    assert all(cell(page, "Kernels", (release, "any"), "vCPU") == "sources only" for release in KERNELS)
    assert all(cell(page, "QEMUs", (release, "any"), "QEMU models") == "–" for release in QEMUS)


def test_figures_of_a_party_that_nobody_knows_are_refused(tools: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    for text in ("", "{", json.dumps([{"party": "vCPU"}]), json.dumps([SOME[0] | {"party": "magic"}])):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=r"not the figures of a run|has no magic"):
            tools[0].read_figures(file)


def test_tables_in_documents_are_written_and_held_to_the_run(tools: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    run, document = tmp_path / "figures.json", tmp_path / "page.md"
    run.write_text(json.dumps(SOME), encoding="utf-8")
    document.write_text("Before.\n\n<!-- figures: kernel dumps -->\n\n\nAfter.\n", encoding="utf-8")
    assert tools[0].main("check", run, document) == 1
    assert tools[0].main("write", run, document) == 0
    text = document.read_text(encoding="utf-8")
    assert "| vCPU |" in text
    assert "| Linux 7.3 | 1,000 of 1,000 | `test_it.py` |\n" in text
    assert text.startswith("Before.\n")
    assert text.endswith("|\n\nAfter.\n")
    assert "QEMU tables" not in text
    assert tools[0].main("check", run, document) == 0
    document.write_text(text.replace("1,000 of 1,000", "1,001 of 1,001"), encoding="utf-8")
    assert tools[0].main("check", run, document) == 1


def test_a_run_without_the_data_leaves_the_line_of_one_that_had_it(tools: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    with_data = [tools[0].Figure(**counted("QEMU on real CPUs", 9, 9, qemu="7.2", vendor="AuthenticAMD"))]
    without = [tools[0].Figure(**counted("QEMU on real CPUs", 0, 0, 1))]
    text = tools[0].rewritten("<!-- figures: dumps -->\n\n", with_data)
    assert "9 of 9" in text
    assert tools[0].rewritten(text, without) == text


@pytest.mark.parametrize("act", ["read", "check"])
def test_a_document_without_a_marker_is_refused(tools: tuple[ModuleType, ModuleType], act: str, tmp_path: Path) -> None:
    (tmp_path / "figures.json").write_text("[]", encoding="utf-8")
    (tmp_path / "page.md").write_text("No table.\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"nothing to {act}"):
        tools[0].main(act, tmp_path / "figures.json", tmp_path / "page.md")


def run(*arguments: str | Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    """Run pytest with --figures; what it said, and the file."""
    figures = Path(arguments[0])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--figures={figures}", *map(str, arguments[1:])]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120), figures


@pytest.mark.long
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_writes_what_it_counted(processes: str, tmp_path: Path) -> None:
    chosen = ("tests/linux/test_captures.py", "-k", "cpuinfo_is_what and Dhyana")
    done, figures = run(tmp_path / "new" / "figures.json", "--numprocesses", processes, *chosen)
    assert done.returncode == 0, done.stdout
    rows = json.loads(figures.read_text(encoding="utf-8"))
    assert {row.pop("kernel").split(".")[0] for row in rows} == {"5", "6", "7"}
    expected = counted("/proc/cpuinfo", 1, 1, vendor="HygonGenuine") | {"test": "tests/linux/test_captures.py"}
    assert rows == [{key: value for key, value in expected.items() if key != "kernel"}] * 8
    assert "/proc/cpuinfo: 8 of 8 exact" in done.stdout


INNER = """
import pytest

def origin(n, **more):
    return {"kernel": "6.12.1", "qemu": None, "vendor": "AuthenticAMD"} | more

@pytest.mark.conformance("vCPU", origin)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_counted(n):
    if n == 1:
        pytest.skip("told so")
    assert n == 2

@pytest.mark.conformance("KVM supported", origin)
@pytest.mark.parametrize("n", [])
def test_without_data(n):
    raise AssertionError

@pytest.mark.conformance("KVM supported", lambda n: {"kernel": "6.12", "vendor": "AuthenticAMD"})
@pytest.mark.parametrize("n", [1])
def test_lacking(n):
    pass

@pytest.mark.conformance("KVM supported", lambda n: origin(n, vendor=""))
@pytest.mark.parametrize("n", [1])
def test_empty(n):
    pass

@pytest.mark.conformance("KVM supported")
def test_no_origin():
    pass

@pytest.mark.conformance("nobody", origin)
@pytest.mark.parametrize("n", [1])
def test_unknown_party(n):
    pass

@pytest.mark.conformance("live vCPU")
@pytest.mark.skip(reason="no matter")
def test_live():
    pass
"""


def run_inner(tests: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests of another folder under tests/conftest.py."""
    (folder / "test_inner.py").write_text(tests, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "conftest", "-p", "no:cacheprovider", *options]
    return subprocess.run(
        [*command, f"--rootdir={folder}", "-c", ROOT / "pyproject.toml", folder / "test_inner.py"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.long
@pytest.mark.parametrize("processes", ["0", "2"])
def test_every_outcome_counts_as_what_it_is_and_no_row_lacks_its_origin(processes: str, tmp_path: Path) -> None:
    done = run_inner(INNER, tmp_path, f"--figures={tmp_path / 'figures.json'}", "--numprocesses", processes)
    assert "1 failed, 1 passed, 3 skipped, 4 errors" in done.stdout, done.stdout
    for test in ("test_lacking", "test_empty", "test_no_origin", "test_unknown_party"):
        assert re.search(rf"^ERROR \S*{test}", done.stdout, re.MULTILINE), done.stdout
    rows = {row["party"]: row for row in json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))}
    assert set(rows) == {"vCPU", "KVM supported", "live vCPU"}
    expected = counted("vCPU", 1, 2, 1, kernel="6.12.1", vendor="AuthenticAMD")
    assert rows["vCPU"] == expected | {"test": rows["vCPU"]["test"]}
    assert rows["KVM supported"] == counted("KVM supported", 0, 0, 1) | {"test": rows["vCPU"]["test"]}
    assert rows["live vCPU"]["kernel"] == os.uname().release
    assert rows["live vCPU"]["skipped"] == 1


FIRING = """
from types import SimpleNamespace

def test_firing(fired):
    fired("kvm/some", [SimpleNamespace(rule=SimpleNamespace(id="{}"))])
"""


@pytest.mark.long
@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_run_in_which_a_rule_fires_that_the_table_does_not_have_has_failed(processes: str, tmp_path: Path) -> None:
    told = run_inner(FIRING.format("no.such.rule"), tmp_path, "--numprocesses", processes)
    assert (told.returncode, "1 passed" in told.stdout) == (1, True), told.stdout
    assert "no.such.rule decided a bit of kvm/some, and the table does not have it" in told.stdout
    known = next(iter(load("captured-rules")["rules"]))
    told = run_inner(FIRING.format(known), tmp_path, "--numprocesses", processes, f"--fired={tmp_path / 'fired.json'}")
    assert told.returncode == 0, told.stdout
    assert json.loads((tmp_path / "fired.json").read_text(encoding="utf-8")) == {"answers": 1, "rules": {known: "kvm/some"}}
