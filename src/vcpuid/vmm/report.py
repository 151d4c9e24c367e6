"""What a VMM hands to KVM as a document for programs."""

from __future__ import annotations

from vcpuid.setup import Setup
from vcpuid.vmm import Made

SCHEMA = "vcpuid/qemu-table/1"
"""The form of `report`."""


def report(made: Made, asked: str, setup: Setup, vcpu: int = 0) -> dict[str, object]:
    """Put the table of one vCPU into a document; `made` is what the VMM made of `asked` on this setup."""
    return {
        "schema": SCHEMA,
        "cpu": asked,
        "setup": setup.as_dict(),
        "warnings": list(made.warnings),
        "remarks": list(setup.remarks),
        "vcpu": vcpu,
        "entries": [entry.as_dict() for entry in made.tables[vcpu]],
    }
