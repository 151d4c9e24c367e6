"""vcpuid for where people are: what `make packages` builds is built and tried here, each kind where its tool is to be had."""

from __future__ import annotations

import os
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
    assert made.stat().st_size


@pytest.fixture
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for what is built, in which nothing is yet."""
    monkeypatch.setattr(PACKAGES, "OUT", tmp_path / "packages")
    monkeypatch.setattr(PACKAGES, "_made", [])
    (tmp_path / "packages").mkdir()
    return tmp_path / "packages"


def test_an_image_has_the_present_source_and_not_an_archive_of_an_older_one(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, packed = away / PACKAGES.ARCHIVE, []

    def present(work: Path) -> Path:
        archive.write_text("present", encoding="utf-8")
        return archive

    def builds(*command: str | Path, **how: object) -> str:
        packed.extend(file.read_text(encoding="utf-8") for part in command if (file := Path(part) / PACKAGES.ARCHIVE).exists())
        return ""

    archive.write_text("stale", encoding="utf-8")
    monkeypatch.setattr(PACKAGES, "_engine", lambda: "/usr/bin/podman")
    monkeypatch.setattr(PACKAGES, "_zip_app", present)
    monkeypatch.setattr(PACKAGES, "run", builds)
    monkeypatch.setattr(PACKAGES, "tried", lambda *command, **how: None)
    PACKAGES.build("container")
    assert packed == ["present"]


@pytest.mark.process
@pytest.mark.parametrize("kind", ["wheel", "uvx"])
def test_a_package_index_that_cannot_be_reached_is_lacking(kind: str, away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "uvx":
        PACKAGES._made.append(away / "vcpuid-0-py3-none-any.whl")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    for index in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"):
        monkeypatch.setenv(index, "http://127.0.0.1:9/simple")  # nobody listens there
    with pytest.raises(PACKAGES.LackingError, match=r"no package index answers|there is no uvx"):
        PACKAGES.build(kind)


def test_what_fails_while_the_index_answers_has_failed(away: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(work: Path, base: str) -> Path:
        raise subprocess.CalledProcessError(1, "pip", "Could not connect its parts")

    monkeypatch.setattr(PACKAGES, "KINDS", {"wheel": failing})
    monkeypatch.setattr(PACKAGES, "_index_answers", lambda kind, work: True)
    with pytest.raises(subprocess.CalledProcessError):
        PACKAGES.build("wheel")


@pytest.mark.process
def test_a_command_that_does_not_end_is_stopped_with_what_it_started(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(subprocess.CalledProcessError, match="SIGKILL") as stopped:
        PACKAGES.run("sh", "-c", "sleep 60 >held & wait", cwd=tmp_path, seconds=1)
    assert stopped.value.output == "stopped: not done after 1 s"
    os.set_blocking(held, True)
    assert os.read(held, 1) == b""  # nobody holds the other end
    os.close(held)


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


@pytest.mark.long
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
