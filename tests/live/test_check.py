"""The verdict held to the real QEMU and KVM of this machine: the same warnings, and proposals that start without one.

CPUs go without arch-capabilities: a KVM that is not Linux's own may refuse the MSR, and QEMU then aborts.
"""

from __future__ import annotations

import platform
import subprocess

import pytest

from vcpuid import Stack, read
from vcpuid.answers.verdict import Verdict, verdict
from vcpuid.live.installed import qemu_release

pytestmark = [pytest.mark.kvm, pytest.mark.qemu, pytest.mark.x86]


def start(cpu: str) -> tuple[int, list[str]]:
    """Start a guest that never runs; return QEMU's exit status and what it says of the CPU."""
    command = ["qemu-system-x86_64", "-accel", "kvm", "-machine", "q35", "-cpu", cpu, "-S", "-display", "none", "-serial", "none"]
    done = subprocess.run([*command, "-nodefaults", "-monitor", "stdio"], input="quit\n", capture_output=True, text=True, timeout=60)
    lines = (line.partition(": ")[2] for line in done.stderr.splitlines())
    return done.returncode, [line.removeprefix("warning: ") for line in lines]


def judge(cpu: str) -> Verdict:
    release = qemu_release()
    assert release is not None
    return verdict(cpu, read("kvm"), Stack(kernel=platform.release(), qemu=release))


@pytest.mark.long
@pytest.mark.conformance("live verdicts")
@pytest.mark.parametrize(
    "cpu",
    [
        "host,-arch-capabilities",
        "max,-arch-capabilities",
        "Skylake-Server",
        "EPYC-Milan",
        "Haswell-noTSX,+invtsc",
        "qemu64,phys-bits=52",
        "Haswel",
    ],
)
def test_qemu_says_what_the_verdict_says(cpu: str) -> None:
    answer = judge(cpu)
    status, said = start(cpu)
    assert (status == 0) == (answer.refusal is None)
    assert said == [*answer.warnings, *([] if answer.refusal is None else [answer.refusal])]


@pytest.mark.long
@pytest.mark.conformance("live verdicts")
@pytest.mark.parametrize("cpu", ["Skylake-Server", "Cascadelake-Server", "EPYC-Milan", "Haswell,+rtm,x-force-features=on", "Haswel"])
def test_what_is_proposed_starts_without_a_warning(cpu: str) -> None:
    answer = judge(cpu)
    proposed = [text for text in (answer.proposal, answer.nearest) if text is not None]
    assert proposed
    for text in proposed:
        assert start(f"{text},enforce") == (0, [])
