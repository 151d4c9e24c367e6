"""On what an answer about a CPU on a host stands: the line below it that names QEMU, machine type, kernel and host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcpuid.cli.setup import Host
    from vcpuid.setup import Setup

HERE = "this machine"


def standing(setup: Setup, host: Host, source: str | None) -> str:
    """Name the software and the host; of what nobody told, how it is chosen."""
    return f"{software(setup)}, {setup.linux}, {_host(host, source)}"


def software(setup: Setup) -> str:
    """Name QEMU and the machine type."""
    from vcpuid.vmm.qemu import QEMU

    return QEMU.software(setup)


def _host(host: Host, source: str | None) -> str:
    if not host.here:
        return "host on standard input" if source == "-" else f"host {os.path.basename(source or '')}"
    if host.snapshot.supported is not None:
        return HERE
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return f"{HERE}'s processor with KVM modelled{', not asked (HOST kvm, or none, asks it)' if usable else ''}"
