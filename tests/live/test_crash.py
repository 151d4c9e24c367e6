"""The crash of docs/crash.md, on a real kernel with this machine's C library: a flag that is forced on without the instructions behind it.

QEMU's emulator knows AVX2 and no RTM; it raises #UD on XTEST, as a processor without RTM does. The same once more one storey down, where
QEMU in a guest of that emulator runs on the kernel's own KVM.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

Boot = Callable[..., str]
FORCED = "x-force-features=on,+rtm"
XTEST = bytes.fromhex("0f 01 d6")


def release(qemu: str) -> tuple[int, ...]:
    found = re.search(r"version (\d+)\.(\d+)", subprocess.run([qemu, "--version"], capture_output=True, text=True, check=True).stdout)
    assert found is not None
    return int(found[1]), int(found[2])


@pytest.fixture(scope="module", params=["emulated", "on-kvm"])
def boot(request: pytest.FixtureRequest, booting: ModuleType, kernel: Path, qemu: str) -> Boot:
    """Boot a guest with flags on top of all that the emulator, or KVM on it, supports, and words for its kernel; give the console."""
    nested = request.param == "on-kvm"
    if release(qemu) < (7, 2):
        pytest.skip("QEMU does not emulate AVX2: 7.2 is the first that does")
    if nested and release(qemu) < (10, 0):
        pytest.skip(
            "QEMU does not let a KVM in its guest see XSETBV, so there is no AVX one storey down: 10.0 does (VCPUID_QEMU names one)"
        )
    library = re.search(r"/\S*libc\.so\.6", Path("/proc/self/maps").read_text(encoding="utf-8"))
    if library is None or XTEST not in Path(library[0]).read_bytes():
        pytest.skip("this machine's C library has no string functions for RTM, as glibc 2.36 has")
    try:
        initrd = booting.crash_initrd()
        if nested:
            booting.host_initrd(kernel, initrd, cpu="host")
    except booting.Lacking as lack:
        pytest.skip(str(lack))

    def run(flags: str, append: str = "") -> str:
        if nested:
            return str(booting.boot_nested(kernel, initrd, cpu=f"host,{flags}", qemu=qemu, append=append))
        return str(booting.boot(kernel, initrd, cpu=f"max,{flags}", qemu=qemu, append=append))

    return run


def test_init_dies_of_an_instruction_that_cpuid_promised(boot: Boot) -> None:
    console = boot(FORCED)
    assert re.search(r"warning: (TCG|host) doesn't support requested feature: CPUID\S+EBX\.rtm \[bit 11\]", console)
    assert re.search(r"traps: init\[1\] trap invalid opcode ip:\w+ sp:\w+ error:0 in libc\.so\.6\[", console)
    assert "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004" in console
    stopped = re.search(r"RIP: 0033:.*\n.*Code: .*<(\w\w)> (\w\w \w\w)", console)
    assert stopped is not None
    assert bytes.fromhex(" ".join(stopped.groups())) == XTEST
    assert "init: CPUID" not in console, "the library's start-up comes before main"


@pytest.mark.parametrize(
    ("flags", "avx2", "rtm"),
    [
        pytest.param(f"{FORCED},-rtm", 1, 0, id="without-rtm"),
        pytest.param(f"{FORCED},-avx2", 0, 1, id="without-avx2"),
        pytest.param("+rtm", 1, 0, id="not-forced"),
    ],
)
def test_one_flag_less_mends_it(boot: Boot, flags: str, avx2: int, rtm: int) -> None:
    console = boot(flags)
    assert re.search(rf"init: CPUID 0x7\.0 EBX \w+: avx2 {avx2}, rtm {rtm}$", console, re.MULTILINE)
    assert "init: lives, its string functions are right" in console
    assert "invalid opcode" not in console


def test_the_library_can_be_told_not_to_believe_it(boot: Boot) -> None:
    console = boot(FORCED, "GLIBC_TUNABLES=glibc.cpu.hwcaps=-RTM")
    assert re.search(r"init: CPUID 0x7\.0 EBX \w+: avx2 1, rtm 1$", console, re.MULTILINE)
    assert "init: lives, its string functions are right" in console
