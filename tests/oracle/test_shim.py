"""oracle/kvmshim.c, loaded into a Python process: it answers from the host's file whatever the descriptor is, here /dev/null's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vcpuid.errors import UnavailableError

HOST = """CPU passed over
SUP 00000000.0 f0 0000000d 756e6547 6c65746e 49656e69
SUP 0000000d.0 f1 00000207 00000a88 00000a88 00000001
HV 40000000.0 f0 40000082 7263694d 666f736f 76482074
MSR 10a 1 c000069
MSR 345 0 7
"""

PROGRAM = """
import ctypes, fcntl, json, os, struct
null = os.open("/dev/null", os.O_RDWR)
SUPPORTED, HYPERV, SET, MSR_LIST, MSRS = 0xC008AE05, 0xC008AEC1, 0x4008AE90, 0xC004AE0A, 0xC008AE88

def ask(request, data):
    buffer = bytearray(data)
    try:
        return fcntl.ioctl(null, request, buffer), bytes(buffer).hex()
    except OSError as error:
        return error.errno, None

table = lambda room: struct.pack("II", room, 0) + bytes(40 * room)
libc = ctypes.CDLL(None)
print(json.dumps({
    "supported": ask(SUPPORTED, table(3)),
    "short": ask(SUPPORTED, table(1)),
    "hyperv": ask(HYPERV, table(1)),
    "list": ask(MSR_LIST, struct.pack("I", 4) + bytes(16)),
    "set": ask(SET, struct.pack("II", 1, 0) + struct.pack("7I12x", 7, 0, 1, 2, 3, 4, 5)),
    "cap_hyperv": libc.ioctl(null, 0xAE03, ctypes.c_long(44)),
    "cap_tsc": libc.ioctl(null, 0xAE03, ctypes.c_long(60)),
    "permit": [libc.syscall(158, ctypes.c_long(0x1025), ctypes.c_long(bit)) for bit in (9, 40)],
}))
"""


@pytest.fixture
def played(oracle: Callable[[str], ModuleType], tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    if shutil.which("gcc") is None:
        pytest.skip("no gcc installed")
    try:
        oracle("emulated").build("kvmshim.c", tmp_path / "shim.so", "-shared", "-fPIC")
    except UnavailableError as lack:
        pytest.skip(str(lack))

    def play(host: str) -> dict[str, Any]:
        (tmp_path / "host").write_text(host, encoding="utf-8")
        shim = {"LD_PRELOAD": str(tmp_path / "shim.so"), "KVMSHIM_HOST": str(tmp_path / "host"), "KVMSHIM_OUT": str(tmp_path / "out")}
        done = subprocess.run([sys.executable, "-c", PROGRAM], env={**os.environ, **shim}, capture_output=True, text=True, check=True)
        answers: dict[str, Any] = json.loads(done.stdout)
        return answers

    return play


@pytest.mark.x86
def test_kvm_answers_as_the_host_file_says(played: Callable[[str], dict[str, Any]], tmp_path: Path) -> None:
    answers = played(HOST)
    status, table = answers["supported"]
    assert status == 0
    words = memoryview(bytes.fromhex(table)).cast("I").tolist()
    assert words[0] == 2
    assert words[2:9] == [0, 0, 0, 0xD, 0x756E6547, 0x6C65746E, 0x49656E69]
    assert words[12:19] == [0xD, 0, 1, 0x207, 0xA88, 0xA88, 1]
    assert answers["short"] == [7, None]  # E2BIG
    assert memoryview(bytes.fromhex(answers["hyperv"][1])).cast("I")[2] == 0x40000000
    assert memoryview(bytes.fromhex(answers["list"][1])).cast("I").tolist()[:2] == [1, 0x10A]
    assert answers["set"][0] == 0
    assert (tmp_path / "out").read_text(encoding="utf-8").splitlines()[1:] == ["SET 00000007.0 f1 00000002 00000003 00000004 00000005"]
    assert answers["cap_hyperv"] == 1


@pytest.mark.x86
def test_a_tsc_and_state_are_played_where_the_file_asks_for_them(played: Callable[[str], dict[str, Any]]) -> None:
    plain = played(HOST)
    answers = played(f"{HOST}TSC 2500000 1\nSTATE 1\n")
    assert (plain["cap_tsc"], answers["cap_tsc"]) == (-1, 1)
    assert answers["permit"] == [0, -1]  # component 9 is in leaf 0xD, 40 is not


@pytest.mark.x86
def test_without_a_host_nothing_is_played(played: Callable[[str], dict[str, Any]]) -> None:
    answers = played("CPU alone\n")
    assert answers["supported"] == [25, None]  # ENOTTY, /dev/null's own answer
    assert answers["set"] == [25, None]
