"""Asks this machine's KVM what a vCPU makes of a table, where that can be done."""

from __future__ import annotations

import os

from vcpuid.cli.common import Host
from vcpuid.path.pipeline import Probe


def probe_for(host: Host) -> Probe | None:
    """Return the real guest as a probe where the host is this machine and /dev/kvm may be used, else None: the model answers."""
    if not host.here or host.snapshot.supported is None or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return None
    from vcpuid.kvm.guest import read_cpuid

    return read_cpuid
