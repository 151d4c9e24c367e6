"""vcpuid for where people are: what `make packages` builds is built and tried here, each kind where its tool is to be had."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.tools import load_tool
from vcpuid import data
from vcpuid.cli import VERBS
from vcpuid.cli.completion import SHELLS

ROOT = Path(__file__).parents[1]
PACKAGES, SHARE = load_tool("packages"), load_tool("share")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.packages
@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("kind", PACKAGES.KINDS)
def test_what_is_built_answers_where_it_is_installed(kind: str) -> None:
    try:
        made = PACKAGES.build(kind)
    except PACKAGES.LackingError as lacking:
        pytest.skip(str(lacking))
    except subprocess.CalledProcessError as error:
        if "No matching distribution" in (error.output or "") or "onnect" in (error.output or ""):
            pytest.skip("there is no package index to be reached")
        raise
    assert made.stat().st_size


def test_what_lacks_its_tool_is_passed_over_and_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def lacking(work: Path, base: str) -> Path:
        raise PACKAGES.LackingError("there is no such tool")

    monkeypatch.setattr(PACKAGES, "KINDS", {"pipx": lacking})
    assert PACKAGES.main([]) == 0
    assert PACKAGES.main(["pipx"]) == 1
    assert capsys.readouterr().out == "pipx       passed over: there is no such tool\n" * 2


def test_make_has_a_target_for_each_kind() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^([\w ]+): \$\(VENV\)/\.ready-dev\n\t\$\(BIN\)/python tools/packages\.py \$@", makefile, re.MULTILINE)
    assert targets is not None
    assert targets[1].split() == list(PACKAGES.KINDS)


def test_man_pages_and_completions_are_made_of_the_verbs() -> None:
    files = SHARE.files("1.2.3")
    assert {f"share/man/man1/vcpuid-{verb}.1" for verb in VERBS} < files.keys()
    assert set(SHARE.COMPLETIONS) == set(SHELLS)
    assert all("vcpuid" in files[place] for place in SHARE.COMPLETIONS.values())
    assert '"vcpuid 1.2.3"' in files["share/man/man1/vcpuid.1"]
    assert ".SH EXAMPLES" in files["share/man/man1/vcpuid-check.1"]
    assert files[SHARE.COMPLETIONS["zsh"]].startswith("#compdef vcpuid\n")


def test_a_man_page_has_no_line_that_groff_complains_of(tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("there is no groff")
    SHARE.write(tmp_path, "1.2.3")
    pages = sorted((tmp_path / "share" / "man" / "man1").iterdir())
    done = subprocess.run([groff, "-Kutf8", "-man", "-ww", "-z", "-Tutf8", *pages], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_debians_changelog_has_this_version() -> None:
    text = (ROOT / "packaging" / "debian" / "changelog").read_text(encoding="utf-8")
    assert text.startswith(f"vcpuid ({PROJECT['version']}-")


def test_a_package_in_an_archive_reads_its_own_files(tmp_path: Path) -> None:
    """By the very path that it began with, also one that no path library would spell so."""
    shutil.make_archive(str(tmp_path / "package"), "zip", ROOT / "src")
    code = """
import sys; sys.path.insert(0, "./package.zip")
from vcpuid import data
from vcpuid.explore import page
from vcpuid.fleet.kept import _this_vcpuid
from vcpuid.sources import collector_script
assert "package.zip" in data.__file__
print(len(data.load("psabi")), len(data.schema("explain")), len(collector_script()), len(page._file("page.js")), _this_vcpuid().hex())
"""
    told = [subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()]
    assert told[0][:2] == [str(len(data.load("psabi"))), str(len(data.schema("explain")))]
    assert len(set(told[0][4])) > 1
