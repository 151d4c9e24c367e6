"""Folders without end, and files that never come to one: a fleet is read in bounded time, or it is said why it is none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from fuzz.inprocess import run
from support.captures import capture
from vcpuid import fleet
from vcpuid.errors import InputError
from vcpuid.fleet import reading
from vcpuid.formats.files import read_text
from vcpuid.sources import folders


def strangers(where: Path, number: int) -> None:
    """Put files into a folder that are nobody's snapshots."""
    where.mkdir(parents=True, exist_ok=True)
    for one in range(number):
        (where / f"x{one:04}").write_text("x\n", encoding="utf-8")


def test_a_folder_with_hardly_a_snapshot_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_STRANGE", 50)
    strangers(tmp_path / "there", 200)
    (tmp_path / "a").symlink_to(capture("kvm-intel.corei7_skylake_x@6.12"))
    with pytest.raises(InputError, match=r"of its first 51 files 1 can be read: no folder of snapshots") as raised:
        fleet.open(tmp_path)
    assert raised.value.source == str(tmp_path)
    ended = run(["fleet", "add", str(tmp_path / "new.duckdb"), str(tmp_path)])
    assert (ended.status, ended.stderr.count("\n")) == (3, 1)
    assert not (tmp_path / "new.duckdb").exists()


def test_many_that_cannot_be_read_are_named_where_others_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_STRANGE", 50)
    strangers(tmp_path, 60)
    for number in range(10):
        (tmp_path / f"node{number}").symlink_to(capture("kvm-intel.corei7_skylake_x@6.12"))
    census = fleet.open(tmp_path).census()
    assert (census.hosts, len(census.unread)) == (10, 60)


def test_folders_without_files_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_EMPTY", 30)
    for number in range(40):
        (tmp_path / f"{number:02}").mkdir()
    with pytest.raises(InputError, match=r"0 files in its first 30 folders: no folder of snapshots"):
        fleet.open(tmp_path)


def test_pipes_devices_and_circles_of_links_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "node").symlink_to(capture("kvm-intel.corei7_skylake_x@6.12"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    found = fleet.open(tmp_path).census()
    assert found.hosts == 1
    assert {one.name for one in found.unread} == {"pipe", "zero", "circle", "self"}


def test_what_has_nothing_to_read_yet_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # somebody who may write into it, and does not
    try:
        assert read_text(pipe, waiting=False) == (str(pipe), "")
    finally:
        os.close(writer)


def test_how_far_the_reading_has_come_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "EVERY", 3)
    for number in range(10):
        (tmp_path / f"node{number}").symlink_to(capture("kvm-intel.corei7_skylake_x@6.12"))
    told: list[int] = []
    assert fleet.open(tmp_path, told=told.append).census().hosts == 10
    assert told == [3, 6, 9]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_kernels_own_files_are_no_fleet() -> None:
    ended = run(["fleet", "classes", "/proc"])
    assert ended.status == 3
    assert ended.stderr.splitlines()[-1].startswith("vcpuid: /proc: of its first ")
