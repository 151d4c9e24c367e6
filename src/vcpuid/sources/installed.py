"""What is installed on this machine: its running kernel and its QEMU."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

QEMU_NAMES = ("qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm")


def kernel_release() -> str:
    """Return the running kernel's release, as uname -r prints it."""
    return platform.release()


def qemu_release() -> str | None:
    """Return the installed QEMU's release ("7.2.22"), None where none is installed or it does not answer.

    Starting QEMU takes longer than all else that vcpuid does, so the answer is remembered in the user's cache folder for as long as the
    binary's size and time stay the same.
    """
    binary = next((found for found in map(shutil.which, QEMU_NAMES) if found), None)
    if binary is None:
        return None
    stat = os.stat(binary)
    key = f"{binary} {stat.st_size} {stat.st_mtime_ns}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vcpuid" / "qemu.json"
    try:
        known = json.loads(cache.read_text())
        if isinstance(known, dict) and isinstance(known.get(key), str):
            return str(known[key])
    except (OSError, ValueError):
        pass
    release = _ask(binary)
    if release is not None:
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            cache.write_text(json.dumps({key: release}))
        except OSError:
            pass  # no home folder to write to: ask again next time
    return release


def _ask(binary: str) -> str | None:
    try:
        answer = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"version (\d+\.\d+(?:\.\d+)?)", answer.stdout)
    return match[1] if match else None
