"""The QMP client: what it answers, and how it says that there is nobody to ask."""

from __future__ import annotations

import pytest

from vcpuid.errors import QemuError, UnavailableError
from vcpuid.live.qmp import Qmp


def test_a_program_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="cannot start no-such-qemu: No such file or directory"):
        Qmp(["no-such-qemu"])


def test_a_program_that_is_no_qemu_is_refused() -> None:
    with pytest.raises(QemuError, match="QEMU ended without a word"):
        Qmp(["true"])


@pytest.mark.qemu
def test_qemus_own_refusals_come_through() -> None:
    with pytest.raises(QemuError, match=r"^unsupported machine type.*\nUse -machine help to list supported machines$"):
        Qmp(machine="no-such-machine", accel="tcg")
    with Qmp(accel="tcg") as qemu:
        assert qemu.version["qemu"].keys() >= {"major", "minor"}
        with pytest.raises(QemuError, match="no-such-command"):
            qemu.ask("no-such-command")
        with pytest.raises(QemuError, match=r"Property 'base-x86_64-cpu.no-such' not found"):
            qemu.expand("base", {"no-such": True})


@pytest.mark.qemu
def test_many_warnings_do_not_stop_the_talk() -> None:
    with Qmp(accel="tcg") as qemu:
        flags = {name: True for name, value in qemu.expand("base").items() if value is False and name.startswith("vmx-")}
        for _ in range(10):
            assert not qemu.expand("base", flags | {"vmx": False})["vmx-ept"]
        assert sum(map(len, qemu.errors())) > 1 << 16  # more than a pipe holds
