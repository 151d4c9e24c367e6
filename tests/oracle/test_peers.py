"""oracle/peers.py: what is whole, what is missing, what differs, and the archives that it makes of a clone."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vcpuid.errors import InputError

FILES = {"one.txt": b"CPUID 1\n", "two.txt": b"CPUID 2\n"}
NAMES = ["a/one.txt", "b/two.txt"]


@pytest.fixture
def peers(oracle: Callable[[str], ModuleType]) -> ModuleType:
    return oracle("peers")


@pytest.fixture
def peer(peers: ModuleType) -> dict[str, Any]:
    told = {"what": "dumps", "source": "a repository", "clone": "URL", "commit": "HEAD", "folder": "data/", "into": "dumps/"}
    return {**told, "tests": ["test_x.py"], "files": NAMES, "sha256": peers.digest(FILES)}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "clone"
    for name in NAMES:
        path = folder / "data" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(FILES[path.name])
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "m"]):
        subprocess.run(["git", "-C", folder, *command], check=True)
    return folder


@pytest.mark.parametrize("ending", [".tar.xz", ".tar.gz", ".tar"])
def test_an_archive_made_of_a_clone_is_whole(peers: ModuleType, peer: dict[str, Any], clone: Path, tmp_path: Path, ending: str) -> None:
    archive = tmp_path / f"dumps{ending}"
    assert peers.write(peer, clone, archive) == 0
    assert peers.contents(archive) == FILES
    assert peers.show("dumps", peer, archive, checked=True) == 0
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["dumps/a/one.txt", "dumps/b/two.txt"]


def test_a_clone_without_the_files_is_refused(peers: ModuleType, peer: dict[str, Any], clone: Path, tmp_path: Path) -> None:
    for change, cause in (
        ({"commit": "v9"}, "v9"),
        ({"files": ["a/none.txt"]}, "none.txt"),
        ({"sha256": "0"}, "not what the checksum says"),
    ):
        with pytest.raises(InputError, match=cause):
            peers.write({**peer, **change}, clone, tmp_path / "dumps.tar")
    assert not (tmp_path / "dumps.tar").exists()


def test_what_is_missing_or_changed_is_said(
    peers: ModuleType, peer: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dumps"
    assert peers.show("dumps", peer, folder, checked=False) == 0
    assert peers.show("dumps", peer, folder, checked=True) == 1
    assert capsys.readouterr().out.count("dumps: missing") == 2
    folder.mkdir()
    (folder / "one.txt").write_bytes(FILES["one.txt"])
    (folder / "two.txt").write_bytes(gzip.compress(FILES["two.txt"]))
    assert peers.show("dumps", peer, folder, checked=True) == 0
    (folder / "two.txt").write_bytes(b"CPUID 3\n")
    assert peers.show("dumps", peer, folder, checked=True) == 1
    assert "not what its checksum says" in capsys.readouterr().out


def test_a_cut_archive_is_refused(peers: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "cut.tar.xz").write_bytes(b"\xfd7zXZ\0cut")
    with pytest.raises(InputError, match=r"cut\.tar\.xz"):
        peers.contents(tmp_path / "cut.tar.xz")


def test_every_test_that_reads_others_data_is_named(peers: ModuleType) -> None:
    tests = Path(__file__).parents[1]
    reading = {
        str(path.relative_to(tests.parent))
        for path in tests.rglob("test_*.py")
        if path.parent != Path(__file__).parent and re.search(r"VCPUID_PEERS|support\.peers", path.read_text(encoding="utf-8"))
    }
    assert {name for peer in peers.manifest().values() for name in peer["tests"]} == reading


def test_the_manifest_agrees_with_itself(peers: ModuleType) -> None:
    for name, peer in json.loads(peers.MANIFEST.read_text(encoding="utf-8")).items():
        assert len(peer["sha256"]) == 64, name
        assert len({Path(file).name for file in peer.get("files", ())}) == len(peer.get("files", ())), name


def test_what_is_there_is_whole(peers: ModuleType) -> None:
    folder = Path(os.environ["VCPUID_PEERS"])
    there = [(name, peer) for name, peer in peers.manifest().items() if (folder / name).exists()]
    if not there:
        pytest.skip("VCPUID_PEERS names no folder with data of others")
    assert [name for name, peer in there if peers.digest(peers.contents(folder / name)) != peer["sha256"]] == []
