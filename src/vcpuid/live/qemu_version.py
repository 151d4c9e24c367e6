"""Which QEMU this machine has: its binary, asked for its version."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

from vcpuid.cpuid.registers import Snapshot

QEMU_NAMES = ("qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm")


def with_qemu(snapshot: Snapshot) -> Snapshot:
    """Return a snapshot of this machine that tells of its QEMU, where there is one."""
    binary = qemu_binary()
    return replace(snapshot, qemu=None if binary is None else qemu_version(binary))


def qemu_binary() -> str | None:
    """Return the path of the QEMU that starts guests; None where none is installed."""
    return next((found for found in map(shutil.which, QEMU_NAMES) if found), None)


def qemu_version(binary: str) -> str | None:
    """Return a binary's release ("7.2.22"); None where it does not say."""
    try:
        answer = subprocess.run([binary, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    match = re.search(r"version ([0-9]+\.[0-9]+(?:\.[0-9]+)?)", answer.stdout)
    return match[1] if match else None
