"""On what an answer about a CPU on a host stands: the line below it that names QEMU, machine type, kernel and host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpuid.cli.setup import Asked, Host
    from vcpuid.setup import Setup

HERE = "this machine"


def standing(setup: Setup, host: Host, source: str | None, asked: Asked) -> str:
    """Name the software and the host; of what nobody asked for, why it is taken."""
    return f"{software(setup, asked, here=host.here)}, {setup.linux}, {_host(host, source)}"


def software(setup: Setup, asked: Asked, *, here: bool = False) -> str:
    """Name QEMU and the machine type; of a QEMU that nobody named, on another host, say where it comes from."""
    from vcpuid.live.installed import qemu_release

    chosen = ""
    if asked.qemu is None and not here:
        chosen = " (the newest known)" if qemu_release() is None else " (the one installed here)"
    return f"QEMU {setup.vmm}{chosen}, {setup.machine}"


def _host(host: Host, source: str | None) -> str:
    if not host.here:
        return "host on standard input" if source == "-" else f"host {os.path.basename(source or '')}"
    if host.snapshot.supported is not None:
        return HERE
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return f"{HERE}'s processor with KVM modelled{', not asked (HOST kvm, or none, asks it)' if usable else ''}"
