"""Data of others, read in place: the folder that VCPUID_PEERS names. Tests that need them skip without."""

from __future__ import annotations

import os
import tarfile
from functools import cache
from pathlib import Path

PEERS = Path(os.environ.get("VCPUID_PEERS", "peers-not-given"))
LIBVIRT = PEERS / "libvirt-cputestdata.tar.gz"
"""libvirt's cputestdata: CPUID, and what a QEMU found, of real machines."""
INSTLATX64 = PEERS / "instlatx64-cpuid.tar.xz"
"""InstLatx64's dumps of CPUID."""


@cache
def members(archive: Path) -> dict[str, str]:
    """The files of an archive as text, by name without folder; none where there is no such archive."""
    if not archive.is_file():
        return {}
    with tarfile.open(archive) as tar:
        files = {Path(info.name).name: tar.extractfile(info) for info in tar if info.isfile()}
        return {name: file.read().decode("utf-8", "replace") for name, file in files.items() if file is not None}


REPLIES = PEERS / "libvirt-qemu-replies.tar.xz"
"""What QEMUs answered to libvirt's authors over QMP."""
