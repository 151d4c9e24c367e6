"""One committed capture of each kind, made once more by oracle/capture.py: the same, but for the frequency of this machine's TSC.

What a capture was made with must be at hand: QEMU of that release (VCPUID_ORACLE_ROOT names a root with another than the installed one),
gcc, the kernel's package from Debian's mirror or an earlier run, and for QEMU's tables /dev/kvm. Else the test says what is lacking.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAPTURES = ROOT / "tests" / "captures"
LACKING = 4

FILES = (
    "kvm/kvm-amd.EPYC-v1@6.12.txt.gz",
    "guest/max@6.12.txt.gz",
    "vcpu/max@6.12.txt.gz",
    "qemu/sets.jsonl.gz",
    "qemu/random.jsonl.gz",
    "qemu/more.jsonl.gz",
    "qemu/options.jsonl.gz",
    "qemu/qmp.jsonl.gz",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_capture_comes_out_as_it_was(name: str) -> None:
    command = [sys.executable, ROOT / "oracle" / "capture.py", "verify", CAPTURES / name, "--rows", "10"]
    lacking = []
    for root in filter(None, ["installed", os.environ.get("VCPUID_ORACLE_ROOT")]):
        more = [] if root == "installed" else ["--root", root]
        done = subprocess.run([*command, *more], capture_output=True, text=True, encoding="utf-8")
        if done.returncode != LACKING:
            assert done.returncode == 0, done.stdout + done.stderr
            return
        lacking.append(done.stderr.strip().splitlines()[-1])
    pytest.skip("; ".join(lacking))
