"""Finds the kernel to boot: an image on this machine, or a Debian package, which debian-suites.sh downloads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from vcpuid.errors import InputError, UnavailableError

SCRIPT = Path(__file__).resolve().parent / "debian-suites.sh"
_PACKAGE = re.compile(r"linux-image-[a-z0-9.+~-]+(=[\w.+~:-]+|/[\w-]+)?")


def cache() -> Path:
    """Name the folder in which downloads are kept: VCPUID_ORACLE, else below the user's cache."""
    named = os.environ.get("VCPUID_ORACLE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vcpuid-oracle"


def find_kernel(wanted: str) -> Path:
    """Give the image that a path or a package names, downloading the package where that has not been done.

    A package is linux-image-NAME, linux-image-NAME=VERSION or, with a suite behind it, linux-image-cloud-amd64/trixie. Raises InputError
    for what is neither, UnavailableError where the package is not to be had.
    """
    if os.path.exists(wanted):
        return Path(wanted).resolve()
    if not _PACKAGE.fullmatch(wanted):
        raise InputError(f"{wanted!r} is neither a file nor a package such as linux-image-6.12.107+deb13-cloud-amd64")
    folder = cache() / "kernels" / re.sub(r"[/=]", "_", wanted)
    if not images(folder):
        print(f"downloading {wanted} to {folder}", file=sys.stderr)
        done = subprocess.run([SCRIPT, "kernel", folder, wanted], capture_output=True, text=True)
        if done.returncode:
            raise UnavailableError((done.stderr.strip().splitlines() or ["debian-suites.sh failed"])[-1])
    found = images(folder)
    if len(found) != 1:
        raise UnavailableError(f"{len(found)} kernel images in {folder}")
    return found[0]


def images(folder: Path) -> list[Path]:
    """Find the kernel images of unpacked packages: below boot, or beside the modules (Debian since 7.3)."""
    return [*folder.glob("boot/vmlinuz-*"), *folder.glob("usr/lib/modules/*/vmlinuz")]
