"""The clocks of docs/worth.md, on a real kernel on its own KVM: which clocksource Linux switches to for which flags.

tests/software/test_clock.py has what vcpuid says of the same flags.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.qemu]


@pytest.mark.parametrize(
    ("flags", "hypervisor", "chosen"),
    [
        ("host", "KVM", "kvm-clock"),
        ("host,hv-time", "KVM", "kvm-clock"),
        ("host,migratable=off,x-force-features=on,+invtsc", "KVM", "tsc"),  # the emulator has none
        ("host,kvm=off,hv-time,hv-vpindex", "Microsoft Hyper-V", "hyperv_clocksource_tsc_page"),
        ("host,kvm=off,hv-vpindex", "Microsoft Hyper-V", "hpet"),
    ],
)
def test_linux_keeps_time_by(flags: str, hypervisor: str, chosen: str, booting: ModuleType, kernel: Path, qemu: str) -> None:
    try:
        console = booting.boot_nested(kernel, booting.crash_initrd(), cpu=flags, qemu=qemu)
    except booting.Lacking as lack:
        pytest.skip(str(lack))
    # The last of each are the inner guest's: the machine around it boots first.
    assert re.findall(r"Hypervisor detected: (.+)", console)[-1:] == [hypervisor]
    assert re.findall(r"clocksource: Switched to clocksource (\S+)", console)[-1:] == [chosen]
