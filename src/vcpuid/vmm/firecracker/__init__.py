"""Firecracker: CPU templates over KVM's answer, then its own normalization."""

from vcpuid.formats.firecracker_template import Bitmap, CpuidModifier, Template
from vcpuid.vmm.firecracker.adapter import FIRECRACKER, Firecracker
from vcpuid.vmm.firecracker.guest import DEFAULT, RELEASES, Guest, guest, released
from vcpuid.vmm.firecracker.template import names, static

__all__ = [
    "DEFAULT",
    "FIRECRACKER",
    "RELEASES",
    "Bitmap",
    "CpuidModifier",
    "Firecracker",
    "Guest",
    "Template",
    "guest",
    "names",
    "released",
    "static",
]
