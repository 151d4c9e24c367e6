"""The crash of docs/crash.md, on a real kernel with this machine's C library: a flag that is forced on without the instructions behind it.

QEMU's emulator knows AVX2 and no RTM; it raises #UD on XTEST, as a processor without RTM does.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from vcpuid.sources.installed import qemu_release

pytestmark = [pytest.mark.slow, pytest.mark.qemu]

FORCED = "max,x-force-features=on,+rtm"
XTEST = bytes.fromhex("0f 01 d6")


@pytest.fixture(scope="module")
def initrd(booting: ModuleType) -> bytes:
    release = qemu_release()
    if release is None or tuple(map(int, release.split(".")[:2])) < (7, 2):
        pytest.skip(f"QEMU {release} does not emulate AVX2: 7.2 is the first that does")
    library = re.search(r"/\S*libc\.so\.6", Path("/proc/self/maps").read_text())
    if library is None or XTEST not in Path(library[0]).read_bytes():
        pytest.skip("this machine's C library has no string functions for RTM: glibc has, since 2.34")
    try:
        return bytes(booting.crash_initrd())
    except booting.Lacking as lack:
        pytest.skip(str(lack))


def test_init_dies_of_an_instruction_that_cpuid_promised(booting: ModuleType, kernel: Path, initrd: bytes) -> None:
    console = booting.boot(kernel, initrd, cpu=FORCED)
    assert "TCG doesn't support requested feature: CPUID.07H:EBX.rtm [bit 11]" in console
    assert re.search(r"traps: init\[1\] trap invalid opcode ip:\w+ sp:\w+ error:0 in libc\.so\.6\[", console)
    assert "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000004" in console
    stopped = re.search(r"RIP: 0033:.*\n.*Code: .*<(\w\w)> (\w\w \w\w)", console)
    assert stopped is not None
    assert bytes.fromhex(" ".join(stopped.groups())) == XTEST
    assert "init: CPUID" not in console, "the library's start-up comes before main"


@pytest.mark.parametrize(
    ("cpu", "avx2", "rtm"),
    [
        pytest.param(f"{FORCED},-rtm", 1, 0, id="without-rtm"),
        pytest.param(f"{FORCED},-avx2", 0, 1, id="without-avx2"),
        pytest.param("max,+rtm", 1, 0, id="not-forced"),
    ],
)
def test_one_flag_less_mends_it(booting: ModuleType, kernel: Path, initrd: bytes, cpu: str, avx2: int, rtm: int) -> None:
    console = booting.boot(kernel, initrd, cpu=cpu)
    assert re.search(rf"init: CPUID 0x7\.0 EBX \w+: avx2 {avx2}, rtm {rtm}$", console, re.MULTILINE)
    assert "init: lives, its string functions are right" in console
    assert "invalid opcode" not in console
