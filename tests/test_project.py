"""What those who join read and run: versions, examples, figures and commands are those of the code, and a release is looked over."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent
from time import monotonic, sleep
from typing import Any

import pytest

import vcpuid
from support.tools import load_tool
from vcpuid.errors import VcpuidError

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


CHECK = load_tool("check_dist")


def test_one_version() -> None:
    assert vcpuid.__version__ == PROJECT["version"] == CHECK.newest_release(ROOT)


def test_the_version_costs_nothing_until_it_is_asked_for() -> None:
    code = "import sys, vcpuid; before = 'importlib.metadata' in sys.modules; print(before, vcpuid.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"False {PROJECT['version']}"


# What a command of the documentation, of a hook or of CI may be.
TARGETS = {target for line in re.findall(r"^(?![.#\t ])([\w ]+):(?!=)", MAKEFILE, re.MULTILINE) for target in line.split()}
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md"))]


def made(text: str) -> set[str]:
    """The targets of the make commands in a text's code, their variables left out."""
    commands = re.findall(r"(?:`|^ {4,}|&& )make ([\w =./-]+)", text, re.MULTILINE)
    return {word for command in commands for word in command.split("  ")[0].split() if "=" not in word}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_targets_that_the_makefile_has(document: Path) -> None:
    assert made(document.read_text(encoding="utf-8")) <= TARGETS


def test_the_demo_asks_before_it_answers() -> None:
    done = subprocess.run(["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    asked = re.findall(r'"([^"]+\?)" "([^"]+)"; \S+/vcpuid ([^|]+) \|\|', done.stdout)
    assert len(asked) == 3
    assert all(shown == run for _, shown, run in asked)


def test_targets_are_found_in_text() -> None:
    assert {"setup", "quick", "hooks", "check", "docs"} <= made(CONTRIBUTING)
    assert {"test", "dist"} <= TARGETS
    assert "build" not in TARGETS


def test_hooks_are_what_make_hooks_and_ci_run() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    entries = re.findall(r"entry: (.*)", config)
    hooks = re.search(r"^hooks: (.*)", MAKEFILE, re.MULTILINE)
    assert hooks is not None
    assert entries == [f"make {target}" for target in hooks[1].split()]
    assert "\nmake hooks\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "run: make hooks " in WORKFLOW


def test_the_workflow_runs_the_makefiles_targets_under_each_python_that_is_claimed() -> None:
    claimed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: Python :: 3\.\d", line)]
    matrix = re.search(r"python: \[(.*)\]", WORKFLOW)
    assert matrix is not None
    assert re.findall(r"[\d.]+", matrix[1]) == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    commands = re.findall(r"run: (.*)", WORKFLOW)
    assert commands
    assert all(re.fullmatch(r"make (\w+) PYTHON=python", command) and command.split()[1] in TARGETS for command in commands)


EXAMPLES = re.findall(
    r"^From\s`([^`]+)`:\n\n```python\n(.*?)^```", re.sub(r"\. From\s`", ".\nFrom `", CONTRIBUTING), re.MULTILINE | re.DOTALL
)


BESIDE = ROOT / ".ci" / "beside"


def test_what_ci_runs_beside_each_other_is_shown_apart_and_fails_where_any_of_it_does() -> None:
    done = subprocess.run([BESIDE, "sleep 0.2; echo one", "echo two; false; echo never", "echo three"], capture_output=True, text=True)
    shown = [line for line in done.stdout.splitlines() if not line.startswith("==")]
    assert (done.returncode, shown) == (1, ["one", "two", "three"])
    assert done.stdout.splitlines()[-1] == "== failed: echo two; false; echo never"
    assert subprocess.run([BESIDE, "true", "true"], capture_output=True).returncode == 0


def test_what_runs_beside_ends_with_what_runs_it(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    with subprocess.Popen(
        [BESIDE, f"echo begun; sleep 60 & echo $! > {file}.new; mv {file}.new {file}; wait"], stdout=subprocess.PIPE
    ) as run:
        while not file.exists():
            assert run.poll() is None
            sleep(0.01)
        run.terminate()
        assert run.communicate()[0].splitlines()[1:] == [b"begun"]
    assert run.returncode == 143
    process, until = int(file.read_text(encoding="utf-8")), monotonic() + 10
    while b"sleep" in cmdline(process):
        assert monotonic() < until
        sleep(0.01)


def cmdline(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.parametrize(("file", "example"), EXAMPLES, ids=[file for file, _ in EXAMPLES])
def test_examples_stand_in_the_code(file: str, example: str) -> None:
    code = (ROOT / file).read_text(encoding="utf-8")
    for part in example.split("# …\n"):
        assert part in code or dedent(part) in code


def test_there_are_examples_of_a_rule_a_docstring_and_a_test() -> None:
    assert [Path(file).name for file, _ in EXAMPLES] == ["rules.py", "smp.py", "process.py", "test_caps.py"]


def constants(name: str) -> dict[str, int]:
    """The values that modules give to a constant, by file; the collector's are copies."""
    found = {}
    for path in (ROOT / "src").rglob("*.py"):
        match = re.search(rf"^{name} = (\d+)(?: << (\d+))?$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if match and path.name != "vcpuid_collect.py":
            found[path.name] = int(match[1]) << int(match[2] or 0)
    return found


BOUNDS = re.findall(r"^\| [^|]+ \| ([\d,]+)( MiB| KiB)? \| `(\w+)`(?: of `(\S+)`)? \|$", SECURITY, re.MULTILINE)


@pytest.mark.parametrize(("value", "unit", "name", "file"), BOUNDS, ids=[f"{row[2]} {row[3]}".strip() for row in BOUNDS])
def test_bounds_are_those_of_the_code(value: str, unit: str, name: str, file: str) -> None:
    found = constants(name)
    in_code = [found[file]] if file else list(found.values())
    assert in_code == [int(value) * {" MiB": 1 << 20, " KiB": 1 << 10, "": 1}[unit]]


def test_all_bounds_are_looked_at() -> None:
    assert len(BOUNDS) == len(re.findall(r"LIMIT`.* \|$", SECURITY, re.MULTILINE)) == 13


def kinds(error: type[VcpuidError]) -> list[type[VcpuidError]]:
    return [error, *(kind for below in error.__subclasses__() for kind in kinds(below))]


def test_exit_statuses_are_told() -> None:
    text = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    told = {int(status) for status in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    raised = {kind.exit_status for kind in kinds(VcpuidError) if kind.__module__ == "vcpuid.errors"}
    ended = {
        int(found)
        for path in (ROOT / "src" / "vcpuid" / "cli").rglob("*.py")
        for found in re.findall(r"\bexit\((\d+)\)", path.read_text(encoding="utf-8"))
    }
    assert raised | ended | {2} <= told
    assert {1, 3, 4} <= raised
    assert {70, 130} <= told


VERSION = "1.2.3"
METADATA = f"""Metadata-Version: 2.4
Name: vcpuid
Version: {VERSION}
License-Expression: Apache-2.0
Requires-Python: >=3.11
Requires-Dist: click>=8.1
Requires-Dist: rich>=13
Requires-Dist: pytest>=8; extra == 'dev'
Provides-Extra: dev
Description-Content-Type: text/markdown

# vcpuid
"""
PACKAGE = {"py.typed": b"", "data/features.json": b"{}", "cli/__init__.py": b"pass\n"}
WHEEL = {f"vcpuid/{name}": data for name, data in PACKAGE.items()} | {
    f"vcpuid-{VERSION}.dist-info/{name}": b"" for name in ("METADATA", "RECORD", "licenses/LICENSE")
}


def test_good_metadata_and_a_good_wheel_have_no_complaints() -> None:
    assert list(CHECK.complaints_of_metadata(METADATA.encode(), VERSION)) == []
    assert list(CHECK.complaints_of_wheel(WHEEL, PACKAGE, 100)) == []
    assert list(CHECK.complaints_of_sdist(["PKG-INFO", "Makefile"], {"Makefile"})) == []


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        (f"Version: {VERSION}", "Version: 1.2.4", "version 1.2.4"),
        (f"Version: {VERSION}", "Version: one", "'one' is invalid"),
        ("License-Expression: Apache-2.0", "License-Expression: MIT", "licence is MIT"),
        ("Requires-Dist: rich>=13", "Requires-Dist: requests", "click, requests"),
        ("; extra == 'dev'", "", "pytest"),
        ("Description-Content-Type: text/markdown", "Keywords: cpuid", "description"),
        ("Requires-Python: >=3.11", "Requires-Python: three", "three"),
        ("Name: vcpuid", "Nom: vcpuid", "nom"),
    ],
)
def test_metadata_that_are_wrong_are_told(good: str, bad: str, says: str) -> None:
    assert good in METADATA
    complaints = list(CHECK.complaints_of_metadata(METADATA.replace(good, bad, 1).encode(), VERSION))
    assert says in "\n".join(complaints)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"vcpuid/py.typed": None}, ["the wheel lacks vcpuid/py.typed"]),
        ({"vcpuid/data/features.json": b"[]"}, ["the wheel has another vcpuid/data/features.json"]),
        ({"vcpuid/cli/notes.txt": b""}, ["the wheel has vcpuid/cli/notes.txt, which git does not hold"]),
        ({"tests/test_project.py": b""}, ["the wheel has tests/test_project.py, which would lie beside the package"]),
        ({f"vcpuid-{VERSION}.dist-info/licenses/LICENSE": None}, ["the wheel lacks the licence"]),
    ],
)
def test_a_wheel_that_is_wrong_is_told(change: dict[str, bytes | None], says: list[str]) -> None:
    contents = {name: data for name, data in (WHEEL | change).items() if data is not None}
    assert list(CHECK.complaints_of_wheel(contents, PACKAGE, 100)) == says


SHARED = {"share/man/man1/vcpuid.1": "a page\n"}
IN_WHEEL = {f"vcpuid-{VERSION}.data/data/share/man/man1/vcpuid.1": b"a page\n"}


@pytest.mark.parametrize(
    ("contents", "shared", "says"),
    [
        (IN_WHEEL, SHARED, []),
        ({}, SHARED, ["the wheel lacks share/man/man1/vcpuid.1"]),
        (IN_WHEEL, {}, ["the wheel has share/man/man1/vcpuid.1, which is not of the verbs"]),
        (IN_WHEEL, {"share/man/man1/vcpuid.1": "another\n"}, ["the wheel has another share/man/man1/vcpuid.1"]),
    ],
)
def test_what_is_installed_beside_the_package_is_that_of_the_verbs(
    contents: dict[str, bytes], shared: dict[str, str], says: list[str]
) -> None:
    assert list(CHECK.complaints_of_wheel(WHEEL | contents, PACKAGE, 100, shared)) == says


def test_a_file_that_no_list_has_is_missed_all_the_same() -> None:
    bare = {name: data for name, data in PACKAGE.items() if name != "py.typed"}
    contents = {name: data for name, data in WHEEL.items() if name != "vcpuid/py.typed"}
    assert list(CHECK.complaints_of_wheel(contents, bare, 100)) == ["the wheel lacks vcpuid/py.typed"]


def test_a_wheel_that_is_too_large_is_told() -> None:
    (said,) = CHECK.complaints_of_wheel(WHEEL, PACKAGE, CHECK.SIZE_LIMIT + 1)
    assert "2,000,001 bytes" in said


def test_a_source_archive_that_differs_from_what_git_holds_is_told() -> None:
    assert list(CHECK.complaints_of_sdist(["PKG-INFO", "a", "c"], {"a", "b"})) == [
        "the source archive lacks b",
        "the source archive has c, which git does not hold",
    ]


@pytest.mark.parametrize(
    ("code", "status", "text", "good"),
    [
        ("print('here')", 0, "here", True),
        ("print('here')", 1, "here", False),
        ("print('here')", 0, "there", False),
        ("raise SystemExit(1)", 1, "", True),
        ("import traceback, sys; print('Traceback', file=sys.stderr)", 0, "", False),
    ],
)
def test_a_run_is_held_to_status_output_and_silence(code: str, status: int, text: str, good: bool, tmp_path: Path) -> None:
    assert (list(CHECK.complaints_of_run([sys.executable, "-c", code], tmp_path, status, text)) == []) is good


def test_the_consumer_uses_the_whole_public_face() -> None:
    nodes = ast.walk(ast.parse(CHECK.CONSUMER.read_text(encoding="utf-8")))
    used = {node.attr for node in nodes if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "vcpuid"}
    errors = {name for name in vcpuid.__all__ if name.endswith("Error")}
    assert {*vcpuid.__all__, "__version__"} - errors <= used
    assert used & errors
