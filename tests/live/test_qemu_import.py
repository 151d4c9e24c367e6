"""The installed QEMU, asked for its catalog as a user's own would be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import captures
from vcpuid import data, qemu
from vcpuid.errors import InputError, UnavailableError
from vcpuid.live import installed, qemu_import
from vcpuid.live.qemu_import import Imported
from vcpuid.releases import QEMUS, choose
from vcpuid.setup import Setup, Stack

PROGRAM = "qemu-system-x86_64"


@pytest.fixture(scope="module")
def asked() -> list[str]:
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, asked: list[str]) -> Iterator[Imported]:
    """Import once: it takes several seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield qemu_import.import_qemu(PROGRAM, "test", lambda name, number, count: asked.append(f"{number}/{count} {name}"))
    data.load.cache_clear()


@pytest.mark.long
@pytest.mark.qemu
def test_what_the_program_tells_is_what_the_bundled_catalog_of_its_release_has(made: Imported) -> None:
    release = choose(made.name, QEMUS, "QEMU")
    if release.remark:
        pytest.skip(f"no catalog is bundled of this QEMU: {release.remark}")
    bundled, own = data.load(f"qemu-{release.tables}"), data.load(f"qemu-{made.name}")
    assert {key for key in bundled if bundled[key] != own[key]} == {"release", "source"}
    assert not made.new_models
    assert not made.remarks


@pytest.mark.long
@pytest.mark.qemu
def test_progress_is_told_model_by_model(made: Imported, asked: list[str]) -> None:
    assert len(asked) > made.models
    assert asked[0].startswith("1/")


@pytest.mark.long
@pytest.mark.qemu
def test_an_imported_qemu_is_used_by_its_name_and_by_default(made: Imported) -> None:
    host = captures.host("kvm-intel.corei7_skylake_x@6.12")
    assert installed.qemu_release() == made.name
    assert Setup.of(host, Stack(qemu=made.name)).vmm.remark is None
    tables = qemu.guest_tables("Skylake-Server-v4", host=host, qemu=made.name).tables
    assert tables == qemu.guest_tables("Skylake-Server-v4", host=host, qemu=choose(made.name, QEMUS, "QEMU").tables).tables


def test_what_is_no_qemu_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match="no such program"):
        qemu_import.import_qemu("/nonexistent/qemu")
    with pytest.raises(UnavailableError, match="does not answer as a QEMU does"):
        qemu_import.import_qemu("true")
    with pytest.raises(InputError, match="label"):
        qemu_import.import_qemu(PROGRAM, "a/b")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "script",
    [
        "yes",  # a child of the shell's, and no end of it
        "head -c 100000 /dev/urandom",
        "tr -c a '[' < /dev/zero | head -c 100000",
        "echo 1",
        """echo '{"QMP": {"version": {}}}'; exec 0<&-; sleep 0.2""",
    ],
    ids=["words", "bytes", "depth", "number", "end"],
)
def test_what_says_no_qmp_is_refused_and_ended(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    binary = tmp_path / "qemu"
    binary.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    binary.chmod(0o755)
    with pytest.raises(UnavailableError, match="does not answer as a QEMU does: ") as refused:
        qemu_import.import_qemu(str(binary))
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.rglob("*")) == [binary]


def test_a_cut_catalog_of_the_users_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "vcpuid"
    folder.mkdir()
    (folder / "qemu-9.9.9-cut.json").write_text('{"words": [', encoding="utf-8")
    with pytest.raises(InputError, match=r"qemu-9\.9\.9-cut\.json"):
        data.load("qemu-9.9.9-cut")
    (folder / "imported.json").write_text("[", encoding="utf-8")
    with pytest.raises(InputError, match=r"imported\.json"):
        data.imported()
