"""Where no kernel is told, the newest stands for it, and every verb that asks one says so, in text and in JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.captures import lines
from support.command import vcpuid
from vcpuid.releases import KERNELS

SAID = f"the kernel is not told: it is taken to be Linux {KERNELS[-1]}, the newest with tables"
NAMED = f"Linux {KERNELS[-1]} (assumed)"

VERBS = (
    "explain avx2 --host {}", "guest --host {}", "check host --host {}", "drift {} --to qemu=10.0", "drift {} --to kernel=6.1",
    "hyperv --host {}", "worth --host {}", "qemu models --host {}", "qemu table host {}", "qemu expand host --host {}", "kvm supported {}",
    "kvm emulated {}", "libvirt capabilities {}", "linux flags {}", "linux vulnerabilities {}", "linux vulnerabilities {} --guest",
    "fleet baseline {}", "fleet models {}",
)  # fmt: skip
HEADED = ("explain", "guest", "check", "drift", "hyperv", "worth", "linux vulnerabilities")
"""Verbs whose answer names the kernel in a line of its own."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (folder := tmp_path / "hosts").mkdir()
    raw = [line for line in lines("kvm-intel.corei7_skylake_x@6.12") if line.startswith("RAW ")]
    (folder / "host.txt").write_text("".join(f"{line}\n" for line in raw), encoding="utf-8")
    return folder


def asked(verb: str, source: Path) -> list[str]:
    return verb.format(source if verb.startswith("fleet") else source / "host.txt").split()


@pytest.mark.parametrize("verb", VERBS)
def test_an_answer_says_that_its_kernel_is_assumed(verb: str, source: Path) -> None:
    done = vcpuid(*asked(verb, source))
    assert done.stderr.count(SAID) == 1
    assert not verb.startswith(HEADED) or NAMED in done.stdout
    assert SAID in vcpuid(*asked(verb, source), "--format", "json").stdout


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "drift" not in verb])
def test_one_that_was_named_is_not(verb: str, source: Path) -> None:
    done = vcpuid(*asked(verb, source), "--kernel", "6.12")
    assert SAID not in done.stderr
    assert "(assumed)" not in done.stdout.replace("µs (assumed)", "")
