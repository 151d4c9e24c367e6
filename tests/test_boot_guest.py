"""tools/boot_guest.py: the archive that it makes, and what it makes of a console."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from types import ModuleType

import pytest

from support.tools import load_tool


@pytest.fixture
def tool() -> ModuleType:
    return load_tool("boot_guest")


def members(archive: bytes) -> dict[str, tuple[int, tuple[int, int], bytes]]:
    """Read a newc archive as the kernel does: mode, device and content by name."""
    found, at = {}, 0
    while True:
        assert archive[at : at + 6] == b"070701"
        field = [int(archive[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        mode, size, device, named = field[1], field[6], (field[9], field[10]), field[11]
        name = archive[at + 110 : at + 110 + named - 1].decode()
        at = (at + 110 + named + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, device, archive[at : at + size])
        at = (at + size + 3) & ~3


def test_an_initrd_has_folders_before_their_files_and_a_console(tool: ModuleType) -> None:
    initrd = tool.Initrd()
    initrd.add("/lib/x86_64/libx.so", b"12345")
    initrd.add("init", b"#!", 0o700)
    initrd.add_folder("proc")
    found = members(gzip.decompress(initrd.pack()))
    assert list(found) == ["dev", "dev/console", "init", "lib", "lib/x86_64", "lib/x86_64/libx.so", "proc"]
    assert found["dev/console"] == (0o020600, (5, 1), b"")
    assert found["lib/x86_64"] == (0o040755, (0, 0), b"")
    assert found["lib/x86_64/libx.so"] == (0o100755, (0, 0), b"12345")
    assert found["init"] == (0o100700, (0, 0), b"#!")


def test_a_module_is_found_beside_the_kernel_or_in_lib(tool: ModuleType, tmp_path: Path) -> None:
    for folder in ("boot", "usr/lib/modules/6.1/kernel", "lib/modules/6.2/extra"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "usr/lib/modules/6.1/kernel/kvm.ko").write_bytes(b"one")
    (tmp_path / "lib/modules/6.2/extra/kvm.ko.gz").write_bytes(gzip.compress(b"two"))
    assert tool.module(tmp_path / "boot/vmlinuz-6.1", "kvm") == b"one"
    assert tool.module(tmp_path / "usr/lib/modules/6.1/vmlinuz", "kvm") == b"one"
    assert tool.module(tmp_path / "boot/vmlinuz-6.2", "kvm") == b"two"
    with pytest.raises(tool.Lacking, match="no module kvm-amd"):
        tool.module(tmp_path / "boot/vmlinuz-6.1", "kvm-amd")


@pytest.mark.parametrize(
    ("console", "status"),
    [
        ("[ 1.0] Run /init as init process\ninit: lives, its string functions are right\n", 0),
        ("[ 1.0] Run /init as init process\n[ 1.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x4\n", 1),
        ("[ 1.0] mem auto-init: stack:off\n", 4),
    ],
    ids=["lived", "died", "neither"],
)
def test_the_exit_status_tells_how_init_fared(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], console: str, status: int
) -> None:
    monkeypatch.setattr(tool, "crash_initrd", lambda libraries: b"")
    monkeypatch.setattr(tool, "boot", lambda *_, **__: f"qemu-system-x86_64: warning: W\nc[BIOS\n{console}")
    monkeypatch.setattr(sys, "argv", ["boot_guest.py", "--kernel", "vmlinuz"])
    assert tool.main() == status
    printed = capsys.readouterr().out
    assert "warning: W" in printed
    assert "BIOS" not in printed


def test_what_is_lacking_is_told(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tool, "crash_initrd", lambda libraries: b"")
    monkeypatch.setattr(sys, "argv", ["boot_guest.py", "--kernel", "vmlinuz", "--qemu", "/nowhere/qemu"])
    assert tool.main() == 4
    assert "lacking: /nowhere/qemu: No such file" in capsys.readouterr().err
