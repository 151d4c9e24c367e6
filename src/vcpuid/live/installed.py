"""What is installed on this machine: its running kernel, its QEMU and its libvirt."""

from __future__ import annotations

import json
import platform
import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from vcpuid import data
from vcpuid.errors import InputError, RemarkWarning, UnavailableError
from vcpuid.live.qemu_version import qemu_binary, qemu_version
from vcpuid.live.user_files import write_whole
from vcpuid.numbers import decimal
from vcpuid.releases import LIBVIRTS, QEMUS

_LIBRARIES = tuple(Path(folder) for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib64", "/usr/local/lib"))
_LIBVIRT = re.compile(r"libvirt\.so\.0\.([0-9]{4,6})\.[0-9]+")
"""LIBVIRT_VERSION_INFO: major and minor as major * 1000 + minor, behind that the micro release."""


def kernel_release() -> str:
    """Return the running kernel's release, as uname -r prints it."""
    return platform.release()


def qemu_release() -> str | None:
    """Return the installed QEMU's release ("7.2.22"), or its name where that very binary was imported; None where none is installed.

    Starting QEMU takes longer than all else that vcpuid does, so the answer is remembered in the user's cache folder for as long as the
    binary's size and time stay the same.
    """
    found = qemu_binary()
    if found is None:
        return None
    binary = Path(found).resolve()
    this = identity(binary)
    for name, row in _imported().items():
        if row == this:
            return name
    try:
        cache = data.user_folder("XDG_CACHE_HOME", ".cache") / "qemu.json"
    except UnavailableError:
        return qemu_version(str(binary))
    try:
        known = json.loads(cache.read_bytes())
        if isinstance(known, dict) and known.get("of") == this and isinstance(known.get("release"), str):
            return str(known["release"])
    except (OSError, ValueError):
        pass  # nothing remembered, or nothing that can be read: ask
    release = qemu_version(str(binary))
    if release is not None:
        with suppress(OSError):  # no folder to write to: ask again next time
            write_whole(cache, json.dumps({"of": this, "release": release}))
    return release


def _imported() -> dict[str, dict[str, Any]]:
    """Return the user's imported QEMUs, none where they are out of reach: nobody has asked for one."""
    try:
        return data.imported()
    except InputError as error:
        warnings.warn(f"{error}; whether the installed QEMU was imported is not known", RemarkWarning, stacklevel=4)
        return {}


def libvirt_release() -> str | None:
    """Return the installed libvirt's release ("9.0"), which its library's file name tells; None where none is installed."""
    found = [match for folder in _LIBRARIES for file in folder.glob("libvirt.so.0.*") if (match := _LIBVIRT.fullmatch(file.name))]
    newest = max((decimal(match[1]) or 0 for match in found), default=None)
    return None if newest is None else f"{newest // 1000}.{newest % 1000}"


def default_libvirt() -> str:
    """Return the release of this machine's libvirt; where it has none, the newest that has tables."""
    return libvirt_release() or LIBVIRTS[-1]


def default_qemu() -> str:
    """Return the release of this machine's QEMU; where it has none, the newest that has tables."""
    return qemu_release() or QEMUS[-1]


def identity(binary: Path) -> dict[str, Any]:
    """Tell one state of a binary from another, without reading it."""
    stat = binary.stat()
    return {"binary": str(binary), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
