"""As a program of its own vcpuid answers as it does in the tests' process: the same status, the same output, the same remarks."""

from __future__ import annotations

import pytest

from support.captures import capture
from support.command import program, vcpuid

HOST = str(capture("kvm-intel.corei7_skylake_x@6.12"))
QEMU = ("--qemu", "11.1")
CALLS = [
    ("explain", "avx512f", "--cpu", "Haswell", "--host", HOST, *QEMU),
    ("guest", "--cpu", "Haswell", "--host", HOST, *QEMU, "--format", "lines"),
    ("check", "Skylake-Server", HOST, *QEMU),
    ("diff", HOST, "--cpu", "Haswell", *QEMU, "--format", "csv"),
    ("worth", HOST),
    ("hyperv", "--host", HOST, *QEMU),
    ("names", "spec_ctrl"),
    ("decode", HOST),
    ("convert", HOST, "--to", "cpuid"),
    ("completion", "fish"),
    ("kvm", "supported", HOST, "--param", "npt=0"),
    ("qemu", "models", HOST, "--qemu", "9.2"),
    ("linux", "flags", HOST, "--format", "json"),
    ("explain", "avx22", "--host", HOST),
    ("explain", "--help"),
    ("--nonsense",),
]


@pytest.mark.process
@pytest.mark.parametrize("args", CALLS, ids=lambda args: " ".join(arg for arg in args if arg != HOST))
def test_a_process_says_the_same(args: tuple[str, ...]) -> None:
    done = program(*args)
    stdout, stderr = (text.replace("python -m vcpuid", "vcpuid") for text in (done.stdout, done.stderr))
    assert vcpuid(*args) == (done.returncode, stdout, stderr)
