"""The user's own files: kept whole under several processes at once, passed over where they are out of reach and nobody asked for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.captures import capture
from support.command import program, vcpuid
from vcpuid import data
from vcpuid.errors import InputError, RemarkWarning, UnavailableError
from vcpuid.live import installed, qemu_import
from vcpuid.live.user_files import write_whole
from vcpuid.releases import qemu

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
GUEST = ("guest", "--cpu", "Haswell", "--format", "lines", "--no-probe")
SEVERAL = 8


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, and a QEMU 9.2.1 as the one that is installed."""
    home, programs = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    programs.mkdir()
    binary = programs / "qemu-system-x86_64"
    binary.write_text("#!/bin/sh\necho QEMU emulator version 9.2.1\n", encoding="utf-8")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("HOME", str(home))
    for variable in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return home


@pytest.fixture(params=["a loop", "damaged", "not a list"])
def unreadable(home: Path, request: pytest.FixtureRequest) -> Path:
    """A list of imported QEMUs that is out of reach, for root too."""
    folder = home / ".local" / "share" / "vcpuid"
    folder.parent.mkdir(parents=True)
    if request.param == "a loop":
        folder.symlink_to(folder)
    else:
        folder.mkdir()
        (folder / "imported.json").write_text({"damaged": "{", "not a list": '{"9.2.1-own": 1}'}[request.param], encoding="utf-8")
    return folder / "imported.json"


def test_a_list_that_nobody_asked_for_is_passed_over(unreadable: Path) -> None:
    with pytest.warns(RemarkWarning, match=r"imported\.json: not the list .*; whether the installed QEMU was imported is not known"):
        assert installed.qemu_release() == "9.2.1"
    done = vcpuid(*GUEST)
    assert (done.returncode, done.stdout) == vcpuid(*GUEST, "--qemu", "9.2.1")[:2]
    assert f"vcpuid: {unreadable}: not the list of imported QEMUs" in done.stderr
    assert str(unreadable) not in vcpuid(*GUEST, "--qemu", "9.2").stderr


def test_a_list_that_is_needed_is_an_error(unreadable: Path) -> None:
    with pytest.raises(InputError, match=r"imported\.json: not the list of imported QEMUs"):
        qemu("9.2.1-own")
    with pytest.raises((InputError, UnavailableError), match=r"home/\.local/share/vcpuid"):
        qemu_import._keep("9.2.1-own", {}, Path(sys.executable))


def test_completion_offers_what_is_left(unreadable: Path) -> None:
    asked = {"_VCPUID_COMPLETE": "bash_complete", "COMP_WORDS": "vcpuid guest --qemu ", "COMP_CWORD": ""}
    assert "plain,11.1" in vcpuid(env=asked).stdout.splitlines()


@pytest.mark.process
@pytest.mark.parametrize("cache", ["/proc", "/dev/null", "/nonexistent"])
def test_a_home_that_takes_nothing(cache: str, home: Path) -> None:
    done = program(*GUEST, env={"XDG_CACHE_HOME": cache, "XDG_DATA_HOME": "/nonexistent", "PATH": os.environ["PATH"]})
    assert (done.returncode, done.stdout) == vcpuid(*GUEST, "--qemu", "9.2.1")[:2]


@pytest.fixture
def no_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user of whom neither the environment nor the system knows a home."""

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)


@pytest.mark.usefixtures("no_home")
def test_a_user_without_a_home() -> None:
    assert installed.qemu_release() == "9.2.1"
    assert data.imported() == {}
    done = vcpuid(*GUEST)
    assert (done.returncode, done.stdout) == vcpuid(*GUEST, "--qemu", "9.2.1")[:2]
    with pytest.raises(UnavailableError, match="this user has no home folder; XDG_DATA_HOME may name a place"):
        qemu_import._keep("9.2.1-own", {}, Path(sys.executable))


def test_the_release_is_remembered(home: Path) -> None:
    assert installed.qemu_release() == "9.2.1"
    cache = home / ".cache" / "vcpuid" / "qemu.json"
    kept = json.loads(cache.read_text(encoding="utf-8"))
    cache.write_text(json.dumps({**kept, "release": "9.2.7"}), encoding="utf-8")
    assert installed.qemu_release() == "9.2.7"
    for damaged in ("", "{", "[]", '{"of": 1}', "\udcff"):
        cache.write_text(damaged, encoding="utf-8", errors="surrogateescape")
        assert installed.qemu_release() == "9.2.1"
    assert json.loads(cache.read_text(encoding="utf-8")) == kept
    assert [file.name for file in cache.parent.iterdir()] == ["qemu.json"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "file"
    write_whole(file, "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(file, "x" * 100_000 + "\ud800")
    assert file.read_text(encoding="utf-8") == "before"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.process
def test_several_import_at_once_and_none_is_lost(home: Path) -> None:
    code = """
import sys
from pathlib import Path
from vcpuid import data
from vcpuid.live import installed, qemu_import
sys.stdin.read()
for number in range(8):
    name = f"9.2.1-own-{sys.argv[1]}-{number}"
    qemu_import._keep(name, {"name": name, "much": "x" * 200_000}, Path(sys.executable))
    assert name in data.imported()
    assert installed.qemu_release() == "9.2.1"
"""
    started = [subprocess.Popen([sys.executable, "-c", code, str(n)], stdin=subprocess.PIPE) for n in range(SEVERAL)]
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(timeout=120) for process in started] == [0] * SEVERAL
    names = {f"9.2.1-own-{n}-{number}" for n in range(SEVERAL) for number in range(8)}
    assert set(data.imported()) == names
    folder = data.user_folder()
    assert {file.name for file in folder.iterdir()} == {f"qemu-{name}.json" for name in names} | {"imported.json", "lock"}
    assert all(json.loads((folder / f"qemu-{name}.json").read_text(encoding="utf-8"))["name"] == name for name in names)


@pytest.mark.process
def test_several_run_at_once_as_one_alone(home: Path) -> None:
    alone = vcpuid(*GUEST)
    (home / ".cache" / "vcpuid" / "qemu.json").unlink()
    command = [sys.executable, "-m", "vcpuid", *GUEST]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") for _ in range(SEVERAL)]
    assert [(process.communicate(timeout=120)[0], process.returncode) for process in started] == [
        (alone.stdout, alone.returncode)
    ] * SEVERAL
    assert [file.name for file in (home / ".cache" / "vcpuid").iterdir()] == ["qemu.json"]
