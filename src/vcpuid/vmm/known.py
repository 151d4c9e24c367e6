"""Which VMMs there are, by name."""

from __future__ import annotations

from vcpuid.errors import InputError
from vcpuid.vmm import Vmm

NAMES = ("qemu", "firecracker")
"""The VMMs that can be asked for by name, the usual one first."""


def named(name: str = NAMES[0]) -> Vmm:
    """Return a VMM by its name; raises InputError where there is none of that name."""
    if name == "qemu":
        from vcpuid.vmm.qemu import QEMU

        return QEMU
    if name == "firecracker":
        from vcpuid.vmm.firecracker import FIRECRACKER

        return FIRECRACKER
    raise InputError(f"{name[:40]!r} is no VMM that vcpuid knows: {', '.join(NAMES)}")
